"""What runs on this node now: told to auth, and ended when auth says so."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import NamedTuple

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.messages import Nothing
from runtime.api.session_messages import (
    MAX_PARTICIPANTS,
    MAX_RUNNING_SESSIONS,
    Participant,
    RunningSession,
    SessionOrder,
    SessionReport,
)
from runtime.core.errors import InvalidInput, NotFound, TeleportError
from runtime.node.journal import Ends, Journal
from runtime.node.party import Party
from runtime.service.remote_audit import RemoteAudit

logger = logging.getLogger(__name__)

TOLD_AFTER = timedelta(seconds=1)
"""Sessions that are over sooner are not told of: a hundred short commands a second are no load for auth."""
TICK_SECONDS = 1.0
"""How often we look whether there is something to tell."""
REPORT_SECONDS = 30.0
"""How often a node with sessions tells of them at least (`runtime.auth.sessions.SILENCE` is four times as long)."""
MAX_PAUSE_SECONDS = 15.0
"""Longest pause before auth is tried again."""
MAX_COMMAND = 200
"""Characters of a command that a list of sessions shows."""
KILLED = "this session was ended by an administrator"


class _Entry(NamedTuple):
    session: RunningSession
    end: Callable[[str], None]
    party: Party | None

    def now(self, most: int) -> RunningSession:
        """Return the session with those who have joined it, so many at most."""
        if self.party is None or not self.party.guests:
            return self.session
        guests = self.party.guests[:most]
        parties = tuple(Participant(user=guest.user, mode=guest.mode.value) for guest in guests)
        return self.session.model_copy(update={"parties": parties})


class Running:
    """The sessions that run on a node."""

    def __init__(self, now: Callable[[], datetime], journal: Journal | None = None) -> None:
        """Take what remembers, if this process is killed, which sessions ran."""
        self._now = now
        self._journal = journal
        self._boot = uuid.uuid4()
        self._entries: dict[str, _Entry] = {}

    def enter(
        self,
        sid: str,
        *,
        user: str,
        login: str,
        command: str,
        interactive: bool,
        end: Callable[[str], None],
        party: Party | None = None,
    ) -> None:
        """Count a session in, before its start is logged; `end` ends it and tells the person why.

        Before: a report that lacks a session which is older than the report says that it is lost. `party` is what
        others join.
        """
        session = RunningSession(
            sid=uuid.UUID(sid),
            user=user,
            login=login,
            started=self._now(),
            command=command[:MAX_COMMAND],
            interactive=interactive,
            joinable=party is not None,
        )
        self._entries[sid] = _Entry(session, end, party)

    def remember(self, sid: str, ends: Ends) -> None:
        """Have these events logged at the next start if this process is killed; after the session's start is logged."""
        if self._journal is not None:
            self._journal.begin(sid, ends)

    def leave(self, sid: str) -> None:
        """Count a session out, after its end was logged. Safe for one that was never in."""
        if self._entries.pop(sid, None) is not None and self._journal is not None:
            self._journal.end(sid)

    def end(self, sid: str, why: str) -> None:
        """End a session, if it runs here."""
        if (entry := self._entries.get(sid)) is not None:
            logger.info("session %s of %s ends: %s", sid, entry.session.user, why)
            entry.end(why)

    def party(self, sid: str) -> Party:
        """Return those in a session's terminal. Raises NotFound when it does not run here, InvalidInput without one."""
        entry = self._entries.get(sid)
        if entry is None:
            raise NotFound(
                f"no session {sid} runs on this node: it has ended, or never was here",
                hint=f"What runs shows: tsh sessions ls. What was: tsh play {sid}",
            )
        if entry.party is None:
            raise InvalidInput(
                f"session {sid} is a command without a terminal, which nobody can join",
                hint=f"What it has printed so far shows: tsh play {sid}",
            )
        return entry.party

    def report(self) -> SessionReport:
        """Return what runs and has for more than a moment."""
        time = self._now() - TOLD_AFTER
        sessions: list[RunningSession] = []
        left = MAX_PARTICIPANTS
        for entry in self._entries.values():
            if entry.session.started <= time:
                sessions.append(entry.now(left))
                left -= len(sessions[-1].parties)
        return SessionReport(
            boot=self._boot,
            time=time,
            sessions=tuple(sessions[:MAX_RUNNING_SESSIONS]),
            complete=len(sessions) <= MAX_RUNNING_SESSIONS,
        )


class Registry:
    """Tells auth of a node's sessions, and hears which ones to end."""

    def __init__(
        self, running: Running, auth: AuthClient, audit: RemoteAudit, *, rng: random.Random | None = None
    ) -> None:
        self._running = running
        self._auth = auth
        self._audit = audit
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._told: tuple[RunningSession, ...] | None = None
        self._told_at = 0.0

    async def run(self) -> None:
        """Tell and obey, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell())
            group.create_task(self._obey())

    async def step(self) -> None:
        """Tell auth what runs, if it is time to. Raises TeleportError.

        The first report counts too: what a killed predecessor had left running, auth ends in the log.
        """
        report = self._running.report()
        sessions = report.sessions
        now = asyncio.get_running_loop().time()
        if sessions == self._told and (not sessions or now - self._told_at < REPORT_SECONDS):
            return
        await self._audit.brought()  # the ends of those that are not in the report, and the starts of those that are
        await self._auth.call(methods.SESSIONS_REPORT, report)
        self._told, self._told_at = sessions, now

    async def _tell(self) -> None:
        failures = 0
        while True:
            try:
                await self.step()
            except TeleportError as error:
                failures += 1
                log = logger.warning if failures == 1 else logger.debug
                log("auth does not know which sessions run here: %s", error)
            else:
                failures = 0
            await asyncio.sleep(TICK_SECONDS + self._pause(failures))

    async def _obey(self) -> None:
        failures = 0
        while True:
            try:
                async with aclosing(self._auth.pieces(methods.SESSIONS_ORDERS, Nothing(), SessionOrder)) as orders:
                    async for order in orders:
                        failures = 0
                        for sid in order.sids:
                            self._running.end(str(sid), KILLED)
            except TeleportError as error:
                logger.info("orders to end sessions: %s", error)
            failures += 1
            await asyncio.sleep(self._pause(failures))

    def _pause(self, failures: int) -> float:
        return self._rng.uniform(0, min(MAX_PAUSE_SECONDS, 2.0 ** min(failures, 10))) if failures else 0.0
