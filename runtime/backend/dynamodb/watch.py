"""Follows one prefix: a Snapshot where one is due, then revision after revision, each exactly once."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from runtime.backend.base import Delete, Event, Put, Snapshot
from runtime.backend.dynamodb.connection import Connection
from runtime.backend.dynamodb.history import key_of
from runtime.backend.dynamodb.items import split
from runtime.backend.dynamodb.stream import MAX_PAUSE_SECONDS, POLL_SECONDS, StreamReader
from runtime.backend.dynamodb.writer import counter
from runtime.core.errors import Unavailable

logger = logging.getLogger(__name__)

HOLE_SECONDS = 1.5
"""How long a revision that exists may keep us waiting before the stream is read again from its beginning."""

_Result = TypeVar("_Result")


class _Closed(Exception):
    """The backend was closed."""


class Watch:
    """One consumer's way through the history of a space.

    The proof that nothing is missed or told twice: revisions of a space are dense, because each is the counter plus
    one, in the same transaction as the change; each change is in the stream with its revision; and we step from
    `_at` to `_at + 1` only. What is known to exist (`_exists`) and does not come is looked for in the stream from its
    beginning, and where that fails the consumer is given a Snapshot.
    """

    def __init__(
        self,
        connection: Connection,
        reader: StreamReader,
        prefix: str,
        *,
        snapshot: Callable[[], Awaitable[Snapshot]],
        closed: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._prefix = prefix
        self._space = split(prefix)[0]
        self._snapshot = snapshot
        self._closed = closed
        self._history = reader.history(self._space)
        self._generation = 0
        self._stream = ""
        self._at = 0
        self._exists = 0
        self._replayed: dict[int, Put | Delete] = {}

    async def events(self, after: int | None) -> AsyncGenerator[Event, None]:
        """Give the events above `after`, or a Snapshot and what follows it. Ends when the backend is closed."""
        try:
            await self._started()
            if after is None or not await self._begin(after):
                yield await self._again()
            while True:
                async for change in self._known():
                    yield change
                if not await self._catch_up():
                    yield await self._again()
        except _Closed:
            return

    async def _started(self) -> None:
        while not self._reader.generation:
            await self._news()

    async def _begin(self, after: int) -> bool:
        """Go on after that revision; return whether the space has got that far."""
        self._at = after
        return await self._look()

    async def _look(self) -> bool:
        """Ask the counter what exists; False when it is behind us, so that this is not the table we knew."""
        self._generation, self._stream = self._reader.generation, self._reader.stream
        self._exists = (await self._persist(lambda: counter(self._connection, self._space))).revision
        return self._exists >= self._at

    async def _again(self) -> Snapshot:
        # The generation is noted first: what it misses is in the Snapshot.
        self._generation, self._stream = self._reader.generation, self._reader.stream
        self._replayed = {}
        snapshot = await self._persist(self._snapshot)
        self._at = self._exists = snapshot.revision
        return snapshot

    async def _known(self) -> AsyncGenerator[Put | Delete, None]:
        """Give what the history holds from here on, as it comes; end when something is missing from it."""
        while True:
            self._check()
            if change := self._history.get(self._at + 1) or self._replayed.pop(self._at + 1, None):
                self._at += 1
                if key_of(change).startswith(self._prefix):
                    yield change
            elif self._reader.generation != self._generation or max(self._exists, self._history.newest) > self._at:
                return
            else:
                await self._news()

    async def _catch_up(self) -> bool:
        """Find what is missing. False when it is gone for good."""
        if self._reader.generation != self._generation:
            # A new stream may mean another table under the same name, with revisions of its own.
            return self._reader.stream == self._stream and await self._look()
        if await self._comes_late():
            return True
        first = last = self._at + 1
        newest = max(self._exists, self._history.newest)
        while last < newest and self._history.get(last + 1) is None:
            last += 1
        replayed = await self._persist(lambda: self._reader.replay(self._space, first, last))
        self._replayed = replayed or {}
        return replayed is not None

    async def _comes_late(self) -> bool:
        deadline = time.monotonic() + HOLE_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            if self._history.get(self._at + 1):
                return True
            await self._news(left)
        return False

    async def _news(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the end of the time is no error here
        """Wait for the reader. Raises _Closed, and what keeps the reader from reading where waiting does not help."""
        self._check()
        await self._reader.news(timeout)
        self._check()

    def _check(self) -> None:
        if self._closed():
            raise _Closed
        if self._reader.refusal is not None:
            raise self._reader.refusal

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
            deadline = time.monotonic() + min(POLL_SECONDS * 2 ** min(attempt, 8), MAX_PAUSE_SECONDS)
            while (left := deadline - time.monotonic()) > 0:
                await self._news(left)
