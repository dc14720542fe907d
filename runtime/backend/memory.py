"""State that ends with the process: the port in its simplest form, for tests and for trying things out."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncGenerator
from datetime import datetime

from runtime.backend.base import (
    Delete,
    Event,
    Item,
    Put,
    Snapshot,
    already_exists,
    check_value,
    closed,
    compare_failed,
    from_millis,
    not_found,
    to_millis,
)
from runtime.core.clock import Clock
from runtime.core.keys import check_key, check_prefix

HISTORY_CHANGES = 10_000
"""Changes that are kept for watches to go on from."""

SWEEP_SECONDS = 1.0
"""How often a waiting watch looks for expired items, in seconds."""


class MemoryState:
    """What several backends of one event loop may share, as several processes share a server."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.history: deque[Put | Delete] = deque(maxlen=HISTORY_CHANGES)
        self.revision = 0
        self.watchers: set[asyncio.Event] = set()
        self._expiries: list[tuple[datetime, str, int]] = []

    @property
    def forgotten(self) -> int:
        """The revision up to which history is gone."""
        return self.history[0].revision - 1 if self.history else self.revision

    def changes_after(self, revision: int) -> list[Put | Delete]:
        """Return the changes above a revision that is not forgotten, in order."""
        # Revisions are dense, and those asked for are mostly the last few.
        newest_first = itertools.islice(reversed(self.history), self.revision - revision)
        return list(newest_first)[::-1]

    def write(self, key: str, value: bytes, expires: datetime | None) -> Item:
        """Put an item and return it."""
        self.revision += 1
        millis = None if expires is None else from_millis(to_millis(expires))
        item = Item(key, bytes(value), self.revision, millis)
        self.items[key] = item
        if item.expires is not None:
            heapq.heappush(self._expiries, (item.expires, key, item.revision))
        self._record(Put(item))
        return item

    def remove(self, key: str) -> None:
        """Delete an item that is there."""
        self.revision += 1
        del self.items[key]
        self._record(Delete(key, self.revision))

    def sweep(self, now: datetime) -> None:
        """Delete what has expired."""
        while self._expiries and self._expiries[0][0] <= now:
            _, key, revision = heapq.heappop(self._expiries)
            item = self.items.get(key)
            if item is not None and item.revision == revision:
                self.remove(key)

    def wake(self) -> None:
        """Let every watch look again."""
        for watcher in self.watchers:
            watcher.set()

    def _record(self, change: Put | Delete) -> None:
        self.history.append(change)
        self.wake()


class MemoryBackend:
    """The port over one MemoryState, its own unless one is given. Its expired items are deleted before each call."""

    def __init__(self, *, clock: Clock, state: MemoryState | None = None) -> None:
        self._clock = clock
        self._state = MemoryState() if state is None else state
        self._closed = False

    async def get(self, key: str) -> Item:
        """Return the item. Raises NotFound."""
        check_key(key)
        item = self._swept().items.get(key)
        if item is None:
            raise not_found(key)
        return item

    async def put(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Write the item whatever was there."""
        _check(key, value)
        return self._swept().write(key, value, expires)

    async def create(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Write the item if the key is absent. Raises AlreadyExists."""
        _check(key, value)
        state = self._swept()
        if key in state.items:
            raise already_exists(key)
        return state.write(key, value, expires)

    async def compare_and_swap(self, key: str, value: bytes, *, revision: int, expires: datetime | None = None) -> Item:
        """Write the item if it is still at `revision`. Raises CompareFailed."""
        _check(key, value)
        state = self._swept()
        item = state.items.get(key)
        if item is None or item.revision != revision:
            raise compare_failed(key, revision)
        return state.write(key, value, expires)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Delete the item. Raises NotFound, or with a revision CompareFailed."""
        check_key(key)
        state = self._swept()
        item = state.items.get(key)
        if revision is None and item is None:
            raise not_found(key)
        if revision is not None and (item is None or item.revision != revision):
            raise compare_failed(key, revision)
        state.remove(key)

    async def range(self, prefix: str) -> Snapshot:
        """Return all items below the prefix."""
        check_prefix(prefix)
        state = self._swept()
        # Python orders text by code points, which is the order of its UTF-8 bytes.
        found = sorted(key for key in state.items if key.startswith(prefix))
        return Snapshot(tuple(state.items[key] for key in found), state.revision)

    async def watch(self, prefix: str, *, after: int | None = None) -> AsyncGenerator[Event, None]:
        """Follow all items below the prefix."""
        check_prefix(prefix)
        woken = asyncio.Event()
        self._state.watchers.add(woken)
        try:
            while not self._closed:
                woken.clear()
                state = self._swept()
                if after is None or not state.forgotten <= after <= state.revision:
                    snapshot = await self.range(prefix)
                    after = snapshot.revision
                    yield snapshot
                    continue
                changes = state.changes_after(after)
                after = state.revision
                for change in changes:
                    if _key(change).startswith(prefix):
                        yield change
                if not changes:
                    await _wait(woken, SWEEP_SECONDS)
        finally:
            self._state.watchers.discard(woken)

    async def close(self) -> None:
        """End the watches. What it held stays with the state."""
        self._closed = True
        self._state.wake()

    def _swept(self) -> MemoryState:
        if self._closed:
            raise closed("the memory backend")
        self._state.sweep(self._clock.now())
        return self._state


def _check(key: str, value: bytes) -> None:
    check_key(key)
    check_value(value)


def _key(change: Put | Delete) -> str:
    return change.item.key if isinstance(change, Put) else change.key


async def _wait(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        pass
