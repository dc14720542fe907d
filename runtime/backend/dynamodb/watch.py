"""Follows one prefix: a Snapshot where one is due, then revision after revision, each exactly once."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from runtime.backend.base import Delete, Event, Put, Snapshot
from runtime.backend.dynamodb.history import key_of, size
from runtime.backend.dynamodb.poller import BUSY_SECONDS, HOLE_SECONDS, Poller, retry_pause
from runtime.core.errors import Unavailable

logger = logging.getLogger(__name__)

READ_BYTES = 1024 * 1024
"""What a watch that is behind holds at a time of what it has read by itself."""

_Result = TypeVar("_Result")


class _Closed(Exception):
    """The backend was closed."""


class Watch:
    """One consumer's way through the history of a space.

    The proof that nothing is missed or told twice: revisions of a space are dense, because each is the counter plus
    one, in the same transaction as the change and its entry in the log; and we step from `_at` to `_at + 1` only. What
    is known to exist and is not in the poller's memory is read from the log, and where it is not there either the
    consumer is given a Snapshot.
    """

    def __init__(
        self,
        poller: Poller,
        prefix: str,
        *,
        snapshot: Callable[[], Awaitable[Snapshot]],
        newest: Callable[[], Awaitable[int]],
        closed: Callable[[], bool],
    ) -> None:
        self._poller = poller
        self._prefix = prefix
        self._snapshot = snapshot
        self._newest = newest
        self._closed = closed
        self._generation = 0
        self._at = 0
        self._exists = 0
        self._read: dict[int, Put | Delete] = {}

    async def events(self, after: int | None) -> AsyncGenerator[Event, None]:
        """Give the events above `after`, or a Snapshot and what follows it. Ends when the backend is closed."""
        try:
            while not self._poller.generation:
                await self._news()
            if after is None or not await self._begin(after):
                yield await self._again()
            while True:
                async for change in self._known():
                    yield change
                if not await self._catch_up():
                    yield await self._again()
        except _Closed:
            return

    async def _begin(self, after: int) -> bool:
        """Go on after that revision; return whether the space has got that far."""
        self._generation, self._at = self._poller.generation, after
        self._exists = await self._persist(self._newest)
        return self._exists >= after

    async def _again(self) -> Snapshot:
        # The generation is noted first: what it misses is in the Snapshot.
        self._generation, self._read = self._poller.generation, {}
        snapshot = await self._persist(self._snapshot)
        self._at = self._exists = snapshot.revision
        return snapshot

    async def _known(self) -> AsyncGenerator[Put | Delete, None]:
        """Give what there is from here on, as it comes; end when something is missing."""
        while True:
            self._check()
            if self._poller.generation != self._generation:
                return
            if change := self._next():
                self._at += 1
                if key_of(change).startswith(self._prefix):
                    yield change
            elif max(self._exists, self._poller.newest) > self._at:
                return
            else:
                self._read = {}
                await self._news()

    def _next(self) -> Put | Delete | None:
        return self._poller.history.get(self._at + 1) or self._read.pop(self._at + 1, None)

    async def _catch_up(self) -> bool:
        """Find what is missing. False when it is gone for good."""
        deadline = time.monotonic() + HOLE_SECONDS
        while self._poller.generation == self._generation:
            self._read = await self._persist(self._read_log)
            if self._at + 1 in self._read or self._poller.history.get(self._at + 1):
                return True
            if time.monotonic() > deadline:
                return False
            await self._news(BUSY_SECONDS)
        return False

    async def _read_log(self) -> dict[int, Put | Delete]:
        """Read the log from here on, as far as it need be and one may hold."""
        changes: dict[int, Put | Delete] = {}
        taken = 0
        upto = max(self._exists, self._poller.newest)
        async with aclosing(self._poller.entries(self._at, upto)) as entries:
            async for entry in entries:
                changes.update((change.revision, change) for change in entry.changes)
                taken += sum(map(size, entry.changes))
                if taken > READ_BYTES:
                    break
        return changes

    async def _news(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the end of the time is no error here
        """Wait for the poller. Raises _Closed, and what keeps the poller from reading where waiting does not help."""
        self._check()
        await self._poller.news(timeout)
        self._check()

    def _check(self) -> None:
        if self._closed():
            raise _Closed
        if self._poller.refusal is not None:
            raise self._poller.refusal

    async def _persist(self, operation: Callable[[], Awaitable[_Result]]) -> _Result:
        """Repeat the operation, with growing pauses, until the store answers; a warning says so once."""
        attempt = 0
        while True:
            self._check()
            try:
                return await operation()
            except Unavailable as error:
                if not attempt and not self._closed():
                    logger.warning("a watch of %s waits for DynamoDB: %s", self._prefix, error)
            attempt += 1
            deadline = time.monotonic() + retry_pause(attempt)
            while (left := deadline - time.monotonic()) > 0:
                await self._news(left)
