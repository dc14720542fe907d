"""What the contract suite needs of a store beside the port: to be opened twice, stopped, frozen and made to forget."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest

from runtime.backend.base import Backend, Delete, Event, Item, Put, Snapshot, from_millis, to_millis
from runtime.backend.options import Options
from runtime.core.clock import Clock, ManualClock

_REPOSITORY = Path(__file__).parents[3]

ALL_STORES = ("memory", "sqlite", "etcd", "dynamodb")

on_shared_stores = pytest.mark.parametrize("store", ALL_STORES[1:], indirect=True)
"""For tests with a second process, or a party that can be frozen: memory lives within one process."""

on_servers = pytest.mark.parametrize("store", ALL_STORES[2:], indirect=True)
"""For tests that restart a server: sqlite has none, its processes are killed in test_sqlite_crash.py."""

heavy = pytest.mark.timeout(600)
"""For tests that work for 5 s and more on a quiet machine: a busy one takes a multiple of it."""

REQUEST_SECONDS = 30.0
"""What a store's options give one request: on a busy machine, too, slow is not Unavailable."""

SHORT_REQUEST_SECONDS = 3.0
"""The same for a backend that is to end as Unavailable in time; what is to succeed there is tried until it does."""

PATIENCE_SECONDS = 60.0
"""How long a test waits for what must come; only a failing test waits that long."""

QUICK_SECONDS = 8.0
"""At the most for what waits for nothing, on a busy machine, too; who waits for a request waits REQUEST_SECONDS."""


class Store(Protocol):
    """One real store, empty at the start of the test.

    `options` opens it from another process; None where the store lives within this one (memory).
    """

    @property
    def name(self) -> str:
        """One of ALL_STORES; the messages of its backends name it."""
        ...

    @property
    def options(self) -> Options | None:
        """What opens it."""
        ...

    async def open(self, clock: Clock | None = None, *, timeout: float | None = None) -> Backend:  # noqa: ASYNC109  # the backend's
        """Open it once more, as another process would; the system's clock if none is given.

        `timeout` replaces the seconds that the options give one request. The store closes the backend at its end.
        """
        ...

    async def restart(self) -> None:
        """Stop the server hard and start it on the same data and address. Returns when it answers again."""
        ...

    def freeze(self) -> None:
        """Make it accept connections and answer nothing (SIGSTOP)."""
        ...

    def thaw(self) -> None:
        """Undo freeze."""
        ...

    async def forget_history(self) -> None:
        """Drop the history of all writes so far, as compaction or trimming does; the current items stay."""
        ...


async def next_event(watch: AsyncGenerator[Event, None]) -> Event:
    """Return the next event of a watch. Raises TimeoutError when none comes in PATIENCE_SECONDS."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await anext(watch)


async def next_snapshot(watch: AsyncGenerator[Event, None]) -> Snapshot:
    """Return the next event, which must be a Snapshot."""
    event = await next_event(watch)
    assert isinstance(event, Snapshot)
    return event


async def next_changes(watch: AsyncGenerator[Event, None], count: int) -> list[Put | Delete]:
    """Return the next `count` events, none of which may be a Snapshot."""
    changes: list[Put | Delete] = []
    while len(changes) < count:
        event = await next_event(watch)
        assert not isinstance(event, Snapshot)
        changes.append(event)
    return changes


def values(items: tuple[Item, ...] | list[Item]) -> dict[str, bytes]:
    """Return what the items hold, by key."""
    return {item.key: item.value for item in items}


def start_clock() -> ManualClock:
    """Return a clock that stands at the current time, to the millisecond, as stores that expire by themselves need."""
    return ManualClock(from_millis(to_millis(datetime.now(UTC))))


@asynccontextmanager
async def writer(options: Options | None, **work: str | int) -> AsyncIterator[Process]:
    """Start `writer.py` in a process of its own, ready to write; it begins at `begin` and is killed at the end."""
    assert options is not None
    command = [sys.executable, "-m", f"{__package__}.writer", type(options).__name__, json.dumps(asdict(options))]
    process = await asyncio.create_subprocess_exec(
        *command, json.dumps(work), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=_REPOSITORY
    )
    try:
        assert await _line(process) == "ready"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def begin(process: Process) -> None:
    """Let a writer begin."""
    assert process.stdin is not None
    process.stdin.write(b"go\n")


async def finish(process: Process) -> list[tuple[str, int]]:
    """Return the keys and revisions that the writer wrote, in its order, once it has ended without an error."""
    async with asyncio.timeout(3 * PATIENCE_SECONDS):
        output, _ = await process.communicate()
    assert process.returncode == 0
    return [(key, int(revision)) for key, revision in (line.split() for line in output.decode().splitlines())]


async def _line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        return (await process.stdout.readline()).decode().strip()
