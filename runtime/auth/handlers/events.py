"""The methods by which nodes bring recordings, and an administrator reads what happened."""

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
    """The audit log of all auth servers, and recordings."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on_stream(methods.EVENTS, self.search)
        dispatcher.on(methods.RECORDING_APPEND, self.append)
        dispatcher.on(methods.RECORDING_END, self.end)
        dispatcher.on(methods.RECORDINGS_LIST, self.recordings)
        dispatcher.on(methods.RECORDING_READ, self.read)

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

    async def append(self, caller: Caller, params: m.RecordingPiece) -> m.RecordingSize:
        """Take more of a recording. Raises AccessDenied, Unavailable."""
        return m.RecordingSize(size=await self._parts.recordings.append(caller.name, params))

    async def end(self, caller: Caller, params: m.RecordingEnd) -> m.Nothing:
        """Let a recording be over. Raises AccessDenied, CompareFailed, Unavailable."""
        await self._parts.recordings.end(caller.name, params)
        return m.Nothing()

    async def recordings(self, caller: Caller, params: m.RecordingQuery) -> m.RecordingList:
        """List recordings."""
        return m.RecordingList(recordings=tuple(await self._parts.recordings.all(params.user)))

    async def read(self, caller: Caller, params: m.RecordingRead) -> m.RecordingData:
        """Return bytes of a recording. Raises NotFound, Unavailable."""
        return m.RecordingData(data=await self._parts.recordings.read(params))
