"""Deletes what has expired, so that watches hear of it. Each open backend does; that they are several does no harm.

What is about to expire is known from the log of the spaces that are watched, and from what this backend itself writes;
what was there before is read once a space that is watched. So nothing is ever scanned in order to find out that nothing
has expired.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Awaitable, Callable

from runtime.backend.base import Delete, Put, to_millis
from runtime.backend.dynamodb.items import If, Write
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, CompareFailed, Unavailable

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1.0
SPREAD_SECONDS = 2.0
"""Sweepers wait up to this long before they delete, so that one of them is first and the others see it done."""

Expiry = tuple[int, str, int]
"""When an item expires (milliseconds since 1970), its key, its revision."""


class Sweeper:
    """Knows what expires when, and deletes it while `run` runs."""

    def __init__(
        self,
        clock: Clock,
        *,
        expiring: Callable[[str], Awaitable[list[Expiry]]],
        write: Callable[[Write], Awaitable[int]],
    ) -> None:
        self._clock = clock
        self._expiring = expiring
        self._write = write
        self._heap: list[Expiry] = []
        self._current: dict[str, int] = {}  # key → revision; what the heap says of any other revision is outdated
        self._unread: set[str] = set()

    def read_again(self, space: str) -> None:
        """Have the space read for what expires in it: its changes up to now may have been missed."""
        self._unread.add(space)

    def note(self, change: Put | Delete) -> None:
        """Take notice of a change, in whatever order changes come."""
        if isinstance(change, Delete):
            if self._current.get(change.key, 0) < change.revision:
                self._current.pop(change.key, None)
        elif change.item.expires is not None:
            self._expect((to_millis(change.item.expires), change.item.key, change.item.revision))
        elif self._current.get(change.item.key, 0) < change.item.revision:
            self._current.pop(change.item.key, None)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self._read()
                if self._due():
                    await asyncio.sleep(random.uniform(0, SPREAD_SECONDS))  # noqa: S311 - no secret
                    await self._sweep()
            except Unavailable as error:
                logger.debug("expired items have to wait: %s", error)  # the poller of the space warns
            await asyncio.sleep(SWEEP_SECONDS)

    async def _read(self) -> None:
        while self._unread:
            space = self._unread.pop()
            try:
                for expiry in await self._expiring(space):
                    self._expect(expiry)
            except AccessDenied as error:
                logger.warning("expired items of %s are left to others: %s", space, error)
            except BaseException:
                self._unread.add(space)
                raise

    async def _sweep(self) -> None:
        due = []
        while self._due():
            expires, key, revision = heapq.heappop(self._heap)
            if self._current.get(key) == revision:
                del self._current[key]
                due.append(Write(key, None, expires=expires, condition=If.EXPIRED, revision=revision))
        results = await asyncio.gather(*(self._write(write) for write in due), return_exceptions=True)
        for write, result in zip(due, results, strict=True):
            if isinstance(result, Unavailable):
                self._expect((write.expires or 0, write.key, write.revision))
            elif isinstance(result, AccessDenied):
                logger.warning("an expired item is left to others: %s", result)
            elif isinstance(result, BaseException) and not isinstance(result, CompareFailed):
                raise result

    def _due(self) -> bool:
        return bool(self._heap) and self._heap[0][0] <= to_millis(self._clock.now())

    def _expect(self, expiry: Expiry) -> None:
        _, key, revision = expiry
        if self._current.get(key, 0) < revision:
            self._current[key] = revision
            heapq.heappush(self._heap, expiry)
