"""Old recordings are deleted, by their age and by how much room they take, as teleport.yaml has it (`audit`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.auth.recordings import Recordings, Stored
from runtime.core.errors import TeleportError

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 600.0
"""Between two looks, in seconds."""


class Pruner:
    """Deletes recordings that this auth server has. Only what is over is deleted, and each is told of in the log."""

    def __init__(
        self,
        recordings: Recordings,
        audit: Audit,
        now: Callable[[], datetime],
        *,
        retention: timedelta | None,
        limit: int | None,
    ) -> None:
        """Take how old recordings may become, and how many bytes they may take together; None: there is no bound."""
        self._recordings = recordings
        self._audit = audit
        self._now = now
        self._retention = retention
        self._limit = limit

    async def run(self) -> None:
        """Delete what is due, again and again, until cancelled; at once if there is no bound."""
        while self._retention is not None or self._limit is not None:
            try:
                await self.prune()
            except (TeleportError, OSError) as error:
                logger.error("recordings that are due are not deleted yet: %s", error)  # noqa: TRY400 - no bug of ours
            await asyncio.sleep(PAUSE_SECONDS)

    async def prune(self) -> None:
        """Delete what is due now. Raises Unavailable, OSError."""
        for stored, reason in due(
            await self._recordings.stored(), self._now(), retention=self._retention, limit=self._limit
        ):
            if await self._recordings.remove(stored.sid):
                self._audit.emit(
                    EventType.RECORDING_DELETED,
                    sid=str(stored.sid),
                    user=stored.user,
                    started=f"{stored.started:%Y-%m-%dT%H:%M:%SZ}",
                    bytes=stored.size,
                    reason=reason,
                )


def due(
    stored: list[Stored], now: datetime, *, retention: timedelta | None, limit: int | None
) -> list[tuple[Stored, str]]:
    """Return which recordings to delete and why, the oldest first. Those that still grow take room, and stay. Pure."""
    room = sum(each.size for each in stored)
    found = []
    for each in sorted(stored, key=lambda each: each.started):
        if not each.over:
            continue
        if retention is not None and each.started < now - retention:
            reason = "age"
        elif limit is not None and room > limit:
            reason = "size"
        else:
            continue
        room -= each.size
        found.append((each, reason))
    return found
