"""The sessions that run in the cluster, as nodes tell of them: listed, ended by order, and ended in the log when lost.

    presence/running/NODE/SID    a session whose end the log is owed, and any command that runs for more than a moment
    presence/reporter/NODE       the node told of its sessions; expires when it is silent for too long
    presence/order/NODE/SID      the node has to end that session

All this is of now, not history, so it is presence. A node's own keys lie below its id: it can neither end nor claim the
session of another.

    session.start arrives     the record is made, then the start is logged: from here on an end is certain
    session.end arrives       it is logged, then the record becomes a tombstone: a start or a report that was under way
                              for longer brings nothing back
    a report lacks it         the node was restarted, and it is lost (of a command that has ended the log knows)
    no report for SILENCE     any auth server takes it: it claims the record by compare-and-swap, logs the end, and
                              keeps that it was given up. Killed in between, another takes over; the claim has the
                              event's uid, so that the one view over all auth servers shows one end.
    a lost end arrives        of a node that was killed and has started again: it is left out if the session was given
                              up meanwhile

A node that was only cut off comes back with sessions that were given up: they are listed again, and the end that they
then have is logged too.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.api.event_messages import AuditEvent
from runtime.api.session_messages import RunningSession, SessionReport
from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.backend.base import Backend, Item, Put, Snapshot
from runtime.core.durations import format_duration
from runtime.core.errors import AlreadyExists, CompareFailed, NotFound, TeleportError, Unavailable
from runtime.core.keys import PRESENCE
from runtime.core.uuid7 import Uuid7

logger = logging.getLogger(__name__)

RUNNING = f"{PRESENCE}/running/"
REPORTERS = f"{PRESENCE}/reporter/"
ORDERS = f"{PRESENCE}/order/"

SILENCE = timedelta(minutes=2)
"""A node that has not told of its sessions for so long has lost them. It tells every 30 s."""
SWEEP_SECONDS = 15.0
"""Between two looks for lost sessions."""
GAP = timedelta(minutes=1)
"""Two looks further apart: this server slept, or the storage was away, and nodes may have been heard by nobody."""
REMEMBERED = timedelta(days=30)
"""How long it is known of a session that it was given up: its node may be off for so long."""
CLAIM = timedelta(minutes=1)
"""How long the end of a lost session may take who claimed it; then another auth server does it."""
ORDER_TTL = timedelta(days=1)
"""How long an order waits for a node that is away."""
FAILED = 255
"""Exit code of a command of which nobody knows how it ended, as nodes have it for those that they end."""


class Ending(BaseModel):
    """A lost session's end: the event that tells of it, and when an auth server last set about logging it."""

    model_config = ConfigDict(frozen=True)

    uid: UUID
    time: datetime
    reason: str
    claimed: datetime


class Record(BaseModel):
    """What the storage knows of a session."""

    model_config = ConfigDict(frozen=True)

    session: RunningSession | None
    """None: the session is over."""
    seen: datetime
    """When auth made the record, by auth's clock."""
    boot: UUID | None = None
    """The node's process that reported it."""
    ending: Ending | None = None
    given_up: str = ""
    """The type of the event with which an auth server ended it in the log."""


class _Found(NamedTuple):
    item: Item
    node: str
    record: Record
    session: RunningSession


class RunningSessions:
    """The sessions of all nodes."""

    def __init__(self, backend: Backend, audit: Audit, now: Callable[[], datetime]) -> None:
        self._backend = backend
        self._audit = audit
        self._now = now
        self._ids = Uuid7(secrets.randbits)
        self._over: set[str] = set()
        """Keys of sessions that are over, where the storage does not know it yet."""
        self._looked: datetime | None = None
        self._steady: datetime | None = None

    # --- what nodes tell -----------------------------------------------------------------------------------------

    async def begin(self, node: str, events: Iterable[AuditEvent]) -> None:
        """Keep the sessions that start with these events of a node. Raises Unavailable."""
        starts = [(sid, event) for event in events if event.event == EventType.SESSION_START and (sid := _sid(event))]
        await asyncio.gather(*(self._create(node, _started(sid, event)) for sid, event in starts))

    async def given_up(self, node: str, events: Iterable[AuditEvent]) -> frozenset[UUID]:
        """Return which of a node's events say only that a session is lost that was given up before: their uids.

        Raises Unavailable.
        """
        ends = [(sid, each) for each in events if each.fields.get("lost") is True and (sid := _sid(each))]
        if not ends:
            return frozenset()
        records = {item.key: record for item, record in await self._records(f"{RUNNING}{node}/")}
        return frozenset(
            event.uid
            for sid, event in ends
            if (record := records.get(_key(node, sid))) is not None and record.given_up == event.event
        )

    async def end(self, node: str, events: Iterable[AuditEvent]) -> None:
        """Let the sessions be over that end with these events of a node, which have been logged."""
        ends = [(_key(node, sid), each.event) for each in events if (sid := _sid(each))]
        self._over |= {key for key, event in ends if event == EventType.SESSION_END}
        commands = {key for key, event in ends if event == EventType.EXEC} - self._over
        try:
            if commands:  # of most of them nobody has told: they were too short
                reported = await self._records(f"{RUNNING}{node}/")
                ended = {item.key for item, each in reported if each.session and not each.session.interactive}
                self._over |= ended & commands
            await self._bury()
        except Unavailable as error:  # not the node's concern: its events are in the log
            logger.warning("sessions that are over are still listed: %s", error)

    async def report(self, node: str, report: SessionReport) -> None:
        """Take the whole of a node's sessions. Raises Unavailable."""
        await self._bury()
        await self._backend.put(f"{REPORTERS}{node}", b"{}", expires=self._now() + SILENCE)
        records = {item.key: (item, record) for item, record in await self._records(f"{RUNNING}{node}/")}
        for session in report.sessions:
            item, record = records.pop(_key(node, session.sid), (None, None))
            if item is None or record is None:
                await self._create(node, session, boot=report.boot)
            elif record.session is not None or record.given_up:
                new = Record(session=session, seen=record.seen, boot=report.boot)
                if new != record:
                    with suppress(CompareFailed):  # it has ended meanwhile
                        await self._swap(item, new)
        for item, record in records.values() if report.complete else ():
            missing = record.session
            if missing is None or missing.started > report.time:
                continue
            if missing.interactive or record.boot != report.boot:
                await self._lose(_Found(item, node, record, missing), "its node was restarted, or lost it")
            else:
                with suppress(CompareFailed):
                    await self._backend.delete(item.key, revision=item.revision)

    async def orders(self, node: str) -> AsyncGenerator[tuple[UUID, ...], None]:
        """Yield the sessions that a node has to end, for ever; some of them may be over."""
        async with aclosing(self._backend.watch(f"{ORDERS}{node}/")) as events:
            async for event in events:
                match event:
                    case Snapshot(items):
                        yield tuple(UUID(item.key.rpartition("/")[2]) for item in items)
                    case Put(item):
                        yield (UUID(item.key.rpartition("/")[2]),)
                    case _:  # it has expired
                        continue

    # --- what administrators ask ---------------------------------------------------------------------------------

    async def all(self) -> list[tuple[str, RunningSession]]:
        """Return the running sessions, each with its node, the oldest first. Raises Unavailable."""
        found = [(each.node, each.session) for each in await self._found()]
        return sorted(found, key=lambda pair: (pair[1].started, str(pair[1].sid)))

    async def kill(self, sid: UUID, by: str) -> None:
        """Order a session's end, in the log first. Raises NotFound, Unavailable."""
        found = next((each for each in await self._found() if each.session.sid == sid), None)
        if found is None:
            raise NotFound(
                f"no session {sid} is running", hint="See tctl sessions ls; what was: tctl events ls --sid=ID."
            )
        self._audit.emit(
            EventType.SESSION_KILLED,
            sid=str(sid),
            user=found.session.user,
            login=found.session.login,
            server_id=found.node,
            namespace="default",
            by=by,
        )
        await self._audit.durable()
        await self._backend.put(f"{ORDERS}{found.node}/{sid}", b"{}", expires=self._now() + ORDER_TTL)

    # --- what is lost --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look for lost sessions, until cancelled."""
        failed = False
        while True:
            try:
                await self.sweep()
                failed = False
            except (TeleportError, OSError) as error:  # OSError: the log's disk; the claim is taken up again
                if not failed:
                    logger.warning("nobody looks for lost sessions: %s", error)
                failed = True
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> None:
        """End the sessions of nodes that are silent, if we would have heard them. Raises Unavailable."""
        now = self._now()
        if self._steady is None or self._looked is None or now - self._looked > GAP:
            self._steady = now
        await self._bury()
        found = await self._found()
        # Read after the sessions: a node that has one and reports meanwhile counts as alive.
        reporters = {item.key.removeprefix(REPORTERS) for item in (await self._backend.range(REPORTERS)).items}
        self._looked = now
        steady = now - self._steady >= SILENCE
        for each in found:
            if each.record.ending is not None and now - each.record.ending.claimed >= CLAIM:
                await self._lose(each, each.record.ending.reason)
            elif steady and each.node not in reporters and now - each.record.seen >= SILENCE:
                await self._lose(each, f"its node has not been heard of for {format_duration(SILENCE)}")

    async def _lose(self, lost: _Found, reason: str) -> None:
        """Log the end of a lost session, unless another auth server does."""
        now, ending = self._now(), lost.record.ending
        if ending is None:
            ending = Ending(uid=self._ids(now), time=now, reason=reason, claimed=now)
        elif now - ending.claimed < CLAIM:
            return
        ending = ending.model_copy(update={"claimed": now})
        try:
            claimed = await self._swap(lost.item, lost.record.model_copy(update={"ending": ending}))
        except CompareFailed:
            return
        self._log(lost, ending)
        await self._audit.durable()
        given_up = Record(session=None, seen=now, given_up=_end_of(lost.session))
        with suppress(CompareFailed):  # the node is back with it, or tells of its end
            await self._swap(claimed, given_up, expires=now + REMEMBERED)

    def _log(self, lost: _Found, ending: Ending) -> None:
        session = lost.session
        logger.warning("session %s of %s is lost: %s", session.sid, session.user, ending.reason)
        about: dict[str, str | int | bool] = {
            "uid": str(ending.uid),
            "time": f"{ending.time:%Y-%m-%dT%H:%M:%SZ}",
            "sid": str(session.sid),
            "user": session.user,
            "login": session.login,
            "server_id": lost.node,
            "namespace": "default",
            "lost": True,
        }
        if _end_of(session) == EventType.SESSION_END:
            self._audit.emit(EventType.SESSION_END, **about, reason=ending.reason)
        else:
            self._audit.emit(EventType.EXEC, **about, command=session.command, exitCode=FAILED, exitError=ending.reason)

    # --- records -------------------------------------------------------------------------------------------------

    async def _bury(self) -> None:
        """Let the storage know of sessions that are over. Raises Unavailable."""
        now = self._now()
        tombstone = _value(Record(session=None, seen=now))

        async def bury(key: str) -> None:
            await self._backend.put(key, tombstone, expires=now + SILENCE)
            self._over.discard(key)

        await asyncio.gather(*map(bury, self._over))

    async def _create(self, node: str, session: RunningSession, *, boot: UUID | None = None) -> None:
        record = Record(session=session, seen=self._now(), boot=boot)
        with suppress(AlreadyExists):  # it was told twice, or is over already
            await self._backend.create(_key(node, session.sid), _value(record))

    async def _swap(self, item: Item, record: Record, *, expires: datetime | None = None) -> Item:
        return await self._backend.compare_and_swap(item.key, _value(record), revision=item.revision, expires=expires)

    async def _found(self) -> list[_Found]:
        return [
            _Found(item, item.key.removeprefix(RUNNING).partition("/")[0], record, record.session)
            for item, record in await self._records(RUNNING)
            if record.session is not None
        ]

    async def _records(self, prefix: str) -> list[tuple[Item, Record]]:
        records = []
        for item in (await self._backend.range(prefix)).items:
            try:
                records.append((item, Record.model_validate_json(item.value)))
            except ValidationError:
                logger.warning("%s in the storage is no session; it is left out", item.key)
        return records


def _sid(event: AuditEvent) -> UUID | None:
    """Return the session of an event; None for one whose id is none: it is logged, and that is all."""
    try:
        return UUID(str(event.fields.get("sid", "")))
    except ValueError:
        return None


def _end_of(session: RunningSession) -> EventType:
    """Return the event with which a session ends in the log, if an auth server has to log it."""
    return EventType.SESSION_END if session.interactive else EventType.EXEC


def _started(sid: UUID, event: AuditEvent) -> RunningSession:
    return RunningSession(
        sid=sid,
        user=str(event.fields.get("user", ""))[:1024],
        login=str(event.fields.get("login", ""))[:1024],
        started=event.time,
        interactive=True,
        joinable="size" in event.fields,
    )


def _key(node: str, sid: UUID) -> str:
    return f"{RUNNING}{node}/{sid}"


def _value(record: Record) -> bytes:
    return record.model_dump_json().encode()
