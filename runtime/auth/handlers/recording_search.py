"""The method by which an administrator looks for text in recordings."""

from __future__ import annotations

from contextlib import aclosing

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.search_messages import RecordingSearch
from runtime.audit.events import EventType
from runtime.auth.dispatch import Dispatcher, EmitPiece
from runtime.auth.handlers.parts import Parts
from runtime.auth.text_search import TextSearch
from runtime.core.callers import Caller, CallerKind

MAX_TEXT = 200
"""Characters of what was looked for that the log keeps."""


class RecordingSearchHandlers:
    """Text search over recordings."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._searching = TextSearch(parts.recordings)

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the method."""
        dispatcher.on_stream(methods.RECORDINGS_SEARCH, self.search)

    async def search(self, caller: Caller, params: RecordingSearch, emit: EmitPiece) -> Nothing:
        """Send what is found, the latest recordings first, until the caller gives up.

        Raises InvalidInput, Unavailable.
        """
        nodes = await self._nodes(params.node)
        entries = [
            entry
            for entry in await self._parts.recordings.all(params.user)
            if (nodes is None or entry.node in nodes)
            and (not params.sids or entry.session.sid in params.sids)
            and (params.since is None or entry.session.started >= params.since)
            and (params.until is None or entry.session.started < params.until)
        ]
        self._parts.audit.emit(
            EventType.RECORDINGS_SEARCHED, by=str(caller), text=params.text[:MAX_TEXT], count=len(entries)
        )
        async with aclosing(self._searching.search(params, entries)) as findings:
            async for finding in findings:
                await emit(finding)
        return Nothing()

    async def _nodes(self, name: str) -> set[str] | None:
        """Return the ids of the nodes that are meant; None: all."""
        if not name:
            return None
        present = await self._parts.presence.list(CallerKind.NODE)
        return {name, *(str(each.presence.id) for each in present if each.presence.name == name)}
