"""Brings recordings from the node's spool to auth, while they are made, and deletes what auth has."""

from __future__ import annotations

import asyncio
import errno
import logging
import random
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.recording_messages import MAX_RECORDING_BYTES, RecordingEnd, RecordingPiece, RecordingSession
from runtime.audit.recording import BYTES, LOG, Part, frames
from runtime.core.errors import TeleportError, Unavailable
from runtime.node.spool import Spool

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""How often a recording that grows is brought to auth."""
MAX_PAUSE_SECONDS = 15.0
BUSY_BYTES_PER_SECOND = 4 * 1024**2
"""How fast recordings are brought to auth while sessions run, which need the processor themselves; else as fast as it
goes."""


class Uploader:
    """Follows all recordings of a spool."""

    def __init__(self, spool: Spool, auth: AuthClient, *, rng: random.Random | None = None) -> None:
        self._spool = spool
        self._auth = auth
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._sent: dict[str, dict[Part, int]] = {}
        self._unusable: set[str] = set()
        self._left: set[str] = set()
        """Recordings that a killed process left, and that have no end yet."""

    async def run(self) -> None:
        """Bring what there is and what comes, until cancelled; what a killed process left is ended first."""
        self._left = {sid for sid in self._spool.sids() if not self._spool.is_open(sid)}
        failures = 0
        while True:
            self._spool.changed.clear()
            try:
                await self.step()
            except TeleportError as error:
                failures += 1
                if failures == 1:
                    logger.error("recordings wait for auth: %s", error)  # noqa: TRY400 - no bug of ours
                await asyncio.sleep(self._rng.uniform(0, min(MAX_PAUSE_SECONDS, 2.0 ** min(failures, 10))))
                continue
            if failures:
                logger.warning("auth takes recordings again")
            failures = 0
            await asyncio.sleep(TICK_SECONDS)
            await self._spool.changed.wait()

    async def step(self) -> None:
        """Bring all there is to auth. Raises TeleportError: Unavailable at once, what is wrong with one after all."""
        failed: TeleportError | None = None
        sids = list(self._spool.sids())
        self._rng.shuffle(sids)  # what is wrong with one does not keep the same others waiting
        for sid in sids:
            if sid in self._unusable:
                continue
            over = not self._spool.is_open(sid)  # looked at first: what comes meanwhile is for the next time
            try:
                if sid not in self._left or await self._recovered(sid):
                    await self._bring(sid, over=over)
            except Unavailable:
                raise
            except TeleportError as error:
                # Of what another auth server was given this one may have nothing: it gets all of it.
                self._sent.pop(sid, None)
                failed = error
            except (OSError, ValueError) as error:
                self._give_up(sid, error)
        if failed is not None:
            raise failed

    async def _recovered(self, sid: str) -> bool:
        """End a recording that a killed process left; return whether there is one.

        Raises TeleportError if there is no room to do so, OSError, ValueError.
        """
        try:
            there = await asyncio.to_thread(self._spool.recover, sid)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise TeleportError(f"recording {sid}, which a killed process left, cannot be ended: {error}") from error
        self._left.discard(sid)
        return there

    async def _bring(self, sid: str, *, over: bool) -> None:
        session = await asyncio.to_thread(self._session, sid)
        if session is None:
            if over:
                self._give_up(sid, ValueError("its first line cannot be read"))
            return
        sent = self._sent.setdefault(sid, {BYTES: 0, LOG: 0})
        for part in (BYTES, LOG):
            while data := await asyncio.to_thread(self._spool.read, sid, part, sent[part], MAX_RECORDING_BYTES):
                piece = RecordingPiece(session=session, part=part, offset=sent[part], data=data)
                had = await self._auth.call(methods.RECORDING_APPEND, piece)
                if had.size == sent[part]:
                    raise TeleportError(f"auth takes no more of recording {sid}")
                sent[part] = had.size
                if self._spool.busy:
                    await asyncio.sleep(len(data) / BUSY_BYTES_PER_SECOND)
        if over:
            sizes = await asyncio.to_thread(self._spool.sizes, sid)
            await self._auth.call(methods.RECORDING_END, RecordingEnd(session=session, sizes=sizes))
            await asyncio.to_thread(self._spool.remove, sid)
            self._sent.pop(sid, None)

    def _session(self, sid: str) -> RecordingSession | None:
        """Return what the recording is of, by its first line."""
        head = self._spool.read(sid, LOG, 0, 64 * 1024)
        first = next(frames(head.split(b"\n")[:1]), None)
        if first is None or b"\n" not in head:
            return None
        fields = first.fields or {}
        with suppress(ValueError):
            return RecordingSession(
                sid=UUID(sid),
                user=str(fields.get("user", "")),
                login=str(fields.get("login", "")),
                started=datetime.fromisoformat(str(fields.get("time", ""))).astimezone(UTC),
                command=str(fields.get("command", ""))[:1024],
            )
        return None

    def _give_up(self, sid: str, error: Exception) -> None:
        logger.error("recording %s stays in %s: %s", sid, self._spool.folder, error)
        self._unusable.add(sid)
