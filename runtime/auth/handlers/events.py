"""The method by which an administrator reads what happened."""

from __future__ import annotations

from contextlib import aclosing

from runtime.api import messages as m
from runtime.api import methods
from runtime.audit.search import Filter
from runtime.auth.dispatch import Dispatcher, EmitPiece
from runtime.auth.events import pages
from runtime.auth.handlers.parts import Parts
from runtime.core.callers import Caller


class EventHandlers:
    """The audit log of all auth servers."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on_stream(methods.EVENTS, self.search)

    async def search(self, caller: Caller, params: m.EventQuery, emit: EmitPiece) -> m.Nothing:
        """Send the events that fit, and with `follow` those that come, until the caller gives up."""
        wanted = Filter(
            types=frozenset(params.types),
            fields=tuple(params.fields.items()),
            text=params.text,
            since=params.since,
            until=params.until,
        )
        view = self._parts.events
        async with aclosing(view.follow(wanted) if params.follow else view.search(wanted)) as found:
            async for lines in found:
                for page in pages(lines):
                    await emit(m.EventPage(lines=tuple(line.decode("ascii", "replace") for line in page)))
        return m.Nothing()
