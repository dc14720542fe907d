"""The port over a SQLite file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import apsw

from runtime.backend.base import Event, Item, Snapshot, check_value, closed, to_millis
from runtime.backend.options import SqliteOptions
from runtime.backend.sqlite.database import Connections, busy, open_database
from runtime.backend.sqlite.statements import Remove, Sweep, Write, read_changes, read_item, read_range
from runtime.backend.sqlite.threads import Poller, Worker
from runtime.core.clock import Clock
from runtime.core.errors import TeleportError
from runtime.core.keys import check_key, check_prefix

SWEEP_SECONDS = 1.0
"""How often expired items and old history are looked for, in seconds."""

RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Pauses of a watch that cannot read; the last one repeats."""

_log = logging.getLogger(__name__)

T = TypeVar("T")


class SqliteBackend:
    """See Backend. Opened with `open`; several may be open on one file, in one process or many."""

    def __init__(self, connections: Connections, *, timeout: float, clock: Clock) -> None:
        self._path = connections.path
        self._timeout = timeout
        self._clock = clock
        self._closed = False
        self._watches: set[asyncio.Event] = set()
        self._writer = Worker(self._path, connections.writer, begin="BEGIN IMMEDIATE")
        self._reader = Worker(self._path, connections.reader, begin="BEGIN")
        self._poller = Poller(connections.poller, self._wake)
        self._sweeper = asyncio.create_task(self._sweep())

    @classmethod
    async def open(cls, options: SqliteOptions, *, clock: Clock) -> SqliteBackend:
        """Open the database, making it (mode 0600, its folder 0700) where it is missing.

        Raises InvalidSettings when the path holds something else, Unavailable when it cannot be opened.
        """
        connections = await asyncio.to_thread(open_database, Path(options.path), timeout=options.timeout)
        return cls(connections, timeout=options.timeout, clock=clock)

    async def get(self, key: str) -> Item:
        """Return the item. Raises NotFound."""
        check_key(key)
        now = self._now()
        return await self._call(self._reader, lambda connection: read_item(connection, key, now))

    async def put(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Write the item whatever was there."""
        return await self._write(key, value, expires)

    async def create(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Write the item if the key is absent. Raises AlreadyExists."""
        return await self._write(key, value, expires, create=True)

    async def compare_and_swap(self, key: str, value: bytes, *, revision: int, expires: datetime | None = None) -> Item:
        """Write the item if it is still at `revision`. Raises CompareFailed."""
        return await self._write(key, value, expires, revision=revision)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Delete the item. Raises NotFound, or with a revision CompareFailed."""
        check_key(key)
        await self._call(self._writer, Remove(key, self._now(), revision).run)
        self._wake()

    async def range(self, prefix: str) -> Snapshot:
        """Return all items below the prefix."""
        check_prefix(prefix)
        now = self._now()
        return await self._call(self._reader, lambda connection: read_range(connection, prefix, now))

    async def watch(self, prefix: str, *, after: int | None = None) -> AsyncGenerator[Event, None]:
        """Follow all items below the prefix."""
        check_prefix(prefix)
        changed = asyncio.Event()
        self._watches.add(changed)
        self._poller.active.set()
        failures = 0
        try:
            while not self._closed:
                changed.clear()
                try:
                    events, reached = await self._read_events(prefix, after)
                except TeleportError as error:
                    if not failures and not self._closed:
                        _log.warning("a watch waits for its store: %s (%s)", error, error.hint)
                    await _wait(changed, RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                    failures += 1
                    continue
                failures = 0
                moved = reached != after
                after = reached
                for event in events:
                    yield event
                if not moved and not self._closed:
                    await changed.wait()
        finally:
            self._watches.discard(changed)
            if not self._watches and not self._closed:
                self._poller.active.clear()

    async def close(self) -> None:
        """End the watches and threads and release the file. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._wake()
        self._sweeper.cancel()
        for part in (self._poller, self._reader, self._writer):
            await asyncio.to_thread(part.stop)

    async def _write(
        self, key: str, value: bytes, expires: datetime | None, *, create: bool = False, revision: int | None = None
    ) -> Item:
        check_key(key)
        check_value(value)
        millis = None if expires is None else to_millis(expires)
        write = Write(key, bytes(value), millis, self._now(), create=create, revision=revision)
        item = await self._call(self._writer, write.run)
        self._wake()
        return item

    async def _read_events(self, prefix: str, after: int | None) -> tuple[list[Event], int]:
        """Return what follows `after` and the revision it reaches to: changes, or a Snapshot where they are gone."""
        now = self._now()

        def read(connection: apsw.Connection) -> tuple[list[Event], int]:
            found = None if after is None else read_changes(connection, prefix, after)
            if found is not None:
                return [*found[0]], found[1]
            snapshot = read_range(connection, prefix, now)
            return [snapshot], snapshot.revision

        return await self._call(self._reader, read)

    async def _call(self, worker: Worker, operation: Callable[[apsw.Connection], T]) -> T:
        if self._closed:
            raise closed(f"the sqlite database {self._path}")
        try:
            async with asyncio.timeout(self._timeout):
                return await worker.call(operation)
        except TimeoutError as error:
            raise busy(self._path) from error

    async def _sweep(self) -> None:
        """Delete what expires, for watches and for the disk: reads do not depend on it."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            sweep = Sweep(self._now())
            try:
                if await self._call(self._reader, sweep.due):
                    await self._call(self._writer, sweep.run)
                    self._wake()
            except TeleportError as error:
                _log.debug("expired items stay for now: %s", error)

    def _now(self) -> int:
        return to_millis(self._clock.now())

    def _wake(self) -> None:
        for changed in self._watches:
            changed.set()


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        pass
