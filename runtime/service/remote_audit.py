"""The audit log of members that are not auth: events go to the own disk at once, and from there to auth in batches."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress

from pydantic import ValidationError

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.event_messages import MAX_AUDIT_EVENTS, AuditEvent, AuditEvents
from runtime.audit.events import EventType
from runtime.audit.log import Field
from runtime.audit.queue import DAMAGED, EventQueue
from runtime.core.clock import Clock
from runtime.core.errors import InvalidInput, TeleportError
from runtime.core.uuid7 import Uuid7

logger = logging.getLogger(__name__)

MAX_PAUSE_SECONDS = 15.0


class RemoteAudit:
    """Takes events at once, and brings them to auth in their order. One may arrive twice: its uid tells."""

    def __init__(self, auth: AuthClient, clock: Clock, queue: EventQueue) -> None:
        """Go on with what an earlier process left in the queue."""
        self._auth = auth
        self._clock = clock
        self._queue = queue
        self._ids = Uuid7(secrets.randbits)
        self._some = asyncio.Event()
        self._taken = queue.waiting
        """Events that were ever taken here."""
        self._moved = asyncio.Condition()
        if self._taken:
            self._some.set()

    def emit(self, event: EventType, **fields: Field) -> None:
        """Take one event; it has its time and id from here. It is with the operating system when this returns."""
        self._put(event, fields)
        self._tell_what_is_lost()
        self._some.set()

    async def run(self) -> None:
        """Bring events to auth, until cancelled."""
        pause = 0.0
        while True:
            await self._some.wait()
            try:
                await self._step()
            except (TeleportError, OSError) as error:
                pause = min(MAX_PAUSE_SECONDS, max(1.0, 2 * pause))
                logger.info("%d audit events wait for auth: %s", self._queue.waiting, error)
                await self._secure()
                await asyncio.sleep(pause)
            else:
                pause = 0.0
            self._tell_what_is_lost()
            if not self._queue.waiting:
                self._some.clear()
            async with self._moved:
                self._moved.notify_all()

    def ends(self) -> Iterator[tuple[EventType, str]]:
        """Yield the type and the session of events that wait for auth and tell of a session's end. Blocks."""
        for line in self._queue.lines():
            with suppress(ValidationError):
                event = AuditEvent.model_validate_json(line)
                if event.event in (EventType.EXEC, EventType.SESSION_END):
                    yield EventType(event.event), str(event.fields.get("sid", ""))

    async def durable(self) -> None:
        """Wait until what was taken so far is on the disk. Raises OSError where the disk does not take it."""
        await self._queue.sync()

    async def brought(self) -> None:
        """Wait until all that was taken so far has been brought to auth, or is lost; `run` does it."""
        due = self._taken
        async with self._moved:
            await self._moved.wait_for(lambda: self._taken - self._queue.waiting >= due)

    async def flush(self, seconds: float) -> None:
        """Wait until all has been brought to auth, at most `seconds`; `run` does it."""
        try:
            async with asyncio.timeout(seconds), self._moved:
                await self._moved.wait_for(lambda: not self._queue.waiting)
        except TimeoutError:
            await self._secure()
            if kept := self._queue.waiting - self._queue.in_memory:
                logger.warning("%d audit events wait here for auth; the next start brings them there", kept)
            if lost := self._queue.in_memory:
                logger.error("%d audit events are lost: auth is away, and the disk takes none", lost)  # noqa: TRY400

    def close(self) -> None:
        """Let go of the queue, once `run` has ended."""
        self._queue.close()

    async def _step(self) -> None:
        batch = await self._queue.batch(MAX_AUDIT_EVENTS)
        events, damaged = [], 0
        for line in batch.lines:
            try:
                events.append(AuditEvent.model_validate_json(line))
            except ValidationError:
                damaged += 1
        if events:
            await self._bring(events)
        self._queue.done(batch)
        if damaged:
            logger.error("%d audit events are lost: %s", damaged, DAMAGED)
            self._put(EventType.AUDIT_LOST, {"count": damaged, "reason": DAMAGED})

    async def _bring(self, events: Sequence[AuditEvent]) -> None:
        try:
            await self._auth.call(methods.AUDIT, AuditEvents(events=tuple(events)))
        except InvalidInput as error:  # it took none of them: one that it does not know keeps no other out
            if len(events) == 1:
                logger.error("auth does not take the audit event %s: %s", events[0].event, error)  # noqa: TRY400
                return
            half = len(events) // 2
            await self._bring(events[:half])
            await self._bring(events[half:])

    async def _secure(self) -> None:
        """While they wait, a crash of the machine must not lose them either."""
        try:
            await self._queue.sync()
        except OSError as error:
            logger.debug("the audit events that wait are not all on the disk: %s", error)

    def _put(self, event: EventType, fields: dict[str, Field]) -> None:
        now = self._clock.now()
        self._taken += 1
        self._queue.put(AuditEvent(event=event, uid=self._ids(now), time=now, fields=fields).model_dump_json().encode())

    def _tell_what_is_lost(self) -> None:
        for reason, count in self._queue.lost().items():
            self._put(EventType.AUDIT_LOST, {"count": count, "reason": reason})
