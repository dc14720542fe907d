"""The audit log of members that are not auth: events go there, in batches, and wait here while auth is away."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque

from runtime.api import messages as m
from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.audit.events import EventType
from runtime.audit.log import Field
from runtime.core.clock import Clock
from runtime.core.errors import InvalidInput, TeleportError
from runtime.core.uuid7 import Uuid7

logger = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Events that wait for auth; beyond that the oldest are lost, and the log says how many."""
MAX_PAUSE_SECONDS = 15.0


class RemoteAudit:
    """Takes events at once, and brings them to auth in their order. One may arrive twice: its uid tells."""

    def __init__(self, auth: AuthClient, clock: Clock) -> None:
        self._auth = auth
        self._clock = clock
        self._ids = Uuid7(secrets.randbits)
        self._waiting: deque[m.AuditEvent] = deque()
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self._lost = 0
        self._taken = 0
        """Events that were ever taken here."""
        self._moved = asyncio.Condition()

    def emit(self, event: EventType, **fields: Field) -> None:
        """Take one event; it has its time and id from here."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._lost += 1
        self._taken += 1
        now = self._clock.now()
        self._waiting.append(m.AuditEvent(event=event, uid=self._ids(now), time=now, fields=fields))
        self._none.clear()
        self._some.set()

    async def run(self) -> None:
        """Bring events to auth, until cancelled."""
        pause = 0.0
        while True:
            await self._some.wait()
            batch = tuple(self._waiting)[: m.MAX_AUDIT_EVENTS]
            try:
                await self._auth.call(methods.AUDIT, m.AuditEvents(events=batch))
            except InvalidInput as error:
                logger.error("auth does not take %d audit events: %s", len(batch), error)  # noqa: TRY400 - no bug here
            except TeleportError as error:
                pause = min(MAX_PAUSE_SECONDS, max(1.0, 2 * pause))
                logger.info("%d audit events wait for auth: %s", len(self._waiting), error)
                await asyncio.sleep(pause)
                continue
            pause = 0.0
            self._done(batch)
            async with self._moved:
                self._moved.notify_all()

    async def durable(self) -> None:
        """Return at once: what waits here, waits."""

    async def brought(self) -> None:
        """Wait until all that was taken so far has been brought to auth, or is lost; `run` does it."""
        due = self._taken
        async with self._moved:
            await self._moved.wait_for(lambda: self._taken - len(self._waiting) >= due)

    async def flush(self, seconds: float) -> None:
        """Wait until all has been brought to auth, at most `seconds`; `run` does it."""
        try:
            async with asyncio.timeout(seconds):
                await self._none.wait()
        except TimeoutError:
            logger.error("%d audit events are lost: auth is away", len(self._waiting))  # noqa: TRY400 - no bug of ours

    def _done(self, batch: tuple[m.AuditEvent, ...]) -> None:
        taken = {event.uid for event in batch}
        while self._waiting and self._waiting[0].uid in taken:
            self._waiting.popleft()
        if self._lost:
            logger.error("%d audit events were lost: auth was away, and more than %d waited", self._lost, MAX_WAITING)
            self._lost = 0
        if not self._waiting:
            self._some.clear()
            self._none.set()
