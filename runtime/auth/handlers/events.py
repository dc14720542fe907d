"""The methods by which nodes bring recordings, and an administrator reads what happened."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import asdict
from datetime import datetime, timedelta
from uuid import UUID

from runtime.api import methods
from runtime.api.event_messages import EventPage, EventQuery, Segment, SegmentPage, SegmentQuery
from runtime.api.messages import Nothing
from runtime.api.recording_messages import (
    RecordingData,
    RecordingEnd,
    RecordingEntry,
    RecordingList,
    RecordingPiece,
    RecordingQuery,
    RecordingRead,
    RecordingSize,
)
from runtime.audit.events import EventType
from runtime.audit.search import Filter
from runtime.auth.dispatch import Dispatcher, EmitPiece
from runtime.auth.events import PAGE_LINES, pages
from runtime.auth.handlers.parts import Parts
from runtime.auth.handlers.signed import signed_by
from runtime.core.access import may
from runtime.core.callers import Caller, CallerKind
from runtime.core.errors import AccessDenied
from runtime.core.resources import RuleResource, User, Verb

RECORDINGS_PATH = "/webapi/recordings"
"""Where a proxy serves them: below it, what people sign (`runtime.proxy.recordings`)."""
READ_AGAIN = timedelta(minutes=15)
"""Who reads a recording asks for many pieces of it: after so long that is told anew."""
MAX_READERS = 10_000
"""Pairs of reader and recording that are remembered; beyond that one may be told twice."""


class EventHandlers:
    """The audit log of all auth servers, and recordings."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._told: OrderedDict[tuple[str, UUID], datetime] = OrderedDict()
        """Who reads what, and since when the log has it."""

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on_stream(methods.EVENTS, self.search)
        dispatcher.on_stream(methods.SEGMENTS, self.segments)
        dispatcher.on(methods.RECORDING_APPEND, self.append)
        dispatcher.on(methods.RECORDING_END, self.end)
        dispatcher.on(methods.RECORDINGS_LIST, self.recordings)
        dispatcher.on(methods.RECORDING_READ, self.read)

    async def search(self, caller: Caller, params: EventQuery, emit: EmitPiece) -> Nothing:
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
                    await emit(EventPage(lines=tuple(line.decode("ascii", "replace") for line in page)))
        return Nothing()

    async def segments(self, caller: Caller, params: SegmentQuery, emit: EmitPiece) -> Nothing:
        """Send what an auth server put into the storage, for its log to be compared with."""
        async with aclosing(self._parts.events.segments(str(params.server), params.since)) as found:
            async for segments in found:
                for start in range(0, len(segments), PAGE_LINES):
                    page = segments[start : start + PAGE_LINES]
                    await emit(SegmentPage(segments=tuple(Segment(**asdict(each)) for each in page)))
        return Nothing()

    async def append(self, caller: Caller, params: RecordingPiece) -> RecordingSize:
        """Take more of a recording. Raises AccessDenied, Unavailable."""
        return RecordingSize(size=await self._parts.recordings.append(caller.name, params))

    async def end(self, caller: Caller, params: RecordingEnd) -> Nothing:
        """Let a recording be over. Raises AccessDenied, CompareFailed, Unavailable."""
        await self._parts.recordings.end(caller.name, params)
        return Nothing()

    async def recordings(self, caller: Caller, params: RecordingQuery) -> RecordingList:
        """List recordings; to a proxy those that the user may read for whom it asks. Raises AccessDenied."""
        found = await self._parts.recordings.all(params.user)
        if caller.kind is CallerKind.PROXY:
            reads = await self._reader(await signed_by(self._parts, caller, params.signed, RECORDINGS_PATH))
            found = [entry for entry in found if reads(entry)]
        return RecordingList(recordings=tuple(found))

    async def read(self, caller: Caller, params: RecordingRead) -> RecordingData:
        """Return bytes of a recording. Raises AccessDenied, NotFound, Unavailable."""
        if caller.kind is CallerKind.AUTH:
            # Another auth server has looked whether its caller may, told of it, and asks for what only this one has.
            return RecordingData(data=await self._parts.recordings.read(params, forward=False))
        if caller.kind is CallerKind.PROXY:
            path = f"{RECORDINGS_PATH}/{params.sid}/{params.part}"
            reader = await signed_by(self._parts, caller, params.signed, path)
            by, reads = f"user {reader.name}", await self._reader(reader)
        else:
            by, reads = str(caller), _any
        entry = await self._parts.recordings.entry(params.sid)
        if not reads(entry):
            raise AccessDenied(
                f"{by} may not read the recording of session {params.sid}",
                hint="It is another user's; a role can allow it: rules on the resource session, verb read.",
            )
        self._tell(by, entry)
        return RecordingData(data=await self._parts.recordings.read(params, forward=True))

    def _tell(self, by: str, entry: RecordingEntry) -> None:
        """Log who reads a recording, unless that was done of late."""
        now, sid = self._parts.now(), entry.session.sid
        if (since := self._told.get((by, sid))) is not None and now - since < READ_AGAIN:
            return
        self._told[by, sid] = now
        self._told.move_to_end((by, sid))
        if len(self._told) > MAX_READERS:
            self._told.popitem(last=False)
        session = entry.session
        self._parts.audit.emit(
            EventType.RECORDING_READ, sid=str(sid), user=session.user, login=session.login, server_id=entry.node, by=by
        )

    async def _reader(self, user: User) -> Callable[[RecordingEntry], bool]:
        """Return what tells which recordings a user may read: the user's own, and all where a role says so."""
        all_of_them = may(user, await self._parts.declared.roles(), RuleResource.SESSION, Verb.READ)
        return lambda entry: all_of_them or entry.session.user == user.name


def _any(_: RecordingEntry) -> bool:
    return True
