"""Writers of a sqlite file that are killed at any moment lose nothing that was acknowledged.

A kill shows what the order of writes within the file is worth; that the disk has them too is synchronous=FULL's part.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path

import apsw

from runtime.backend.base import Event, Put
from runtime.backend.options import SqliteOptions
from runtime.backend.sqlite import SqliteBackend
from runtime.core.clock import SystemClock
from tests.contract.backend.harness import REQUEST_SECONDS, begin, heavy, next_snapshot, writer

KILLS_ALONE = 100
KILLS_BESIDE_OTHERS = 100
LANES = 2
MOST_WRITES = 16
LONGEST_PAUSE_SECONDS = 0.01
CHECK_EVERY = 10
END = "resources/Node/end"


@heavy
async def test_writers_killed_alone_lose_nothing(tmp_path: Path) -> None:
    """Nobody else has the file open: the next writer recovers the log that the last one left."""

    async def lane(number: int) -> int:
        options = SqliteOptions(str(tmp_path / f"alone-{number}.db"), timeout=REQUEST_SECONDS)
        written: list[tuple[str, int]] = []
        for kill in range(KILLS_ALONE // LANES):
            written += await _killed_writer(options, f"writer-{kill}", random.Random(1000 * number + kill))
            if kill % CHECK_EVERY == CHECK_EVERY - 1:
                _assert_intact(options, written)
        return len(written)

    counts = await asyncio.gather(*(lane(number) for number in range(LANES)))
    assert min(counts) > KILLS_ALONE


@heavy
async def test_writers_killed_beside_living_processes_lose_nothing(tmp_path: Path) -> None:
    """Two writers at a time, while this process writes and watches: every write is seen, each revision once."""
    options = SqliteOptions(str(tmp_path / "beside.db"), timeout=REQUEST_SECONDS)
    backend = await SqliteBackend.open(options, clock=SystemClock())
    done = asyncio.Event()

    async def lane(number: int) -> list[tuple[str, int]]:
        written = []
        for kill in range(KILLS_BESIDE_OTHERS // LANES):
            written += await _killed_writer(options, f"writer-{number}-{kill}", random.Random(1000 * number + kill))
            if kill % CHECK_EVERY == CHECK_EVERY - 1:
                _assert_intact(options)
        return written

    async def lanes() -> list[tuple[str, int]]:
        written = await asyncio.gather(*(lane(number) for number in range(LANES)))
        done.set()
        return [write for writes in written for write in writes]

    async def write_meanwhile() -> list[tuple[str, int]]:
        written = []
        while not done.is_set():
            item = await backend.put("resources/Node/living", b"")
            written.append((item.key, item.revision))
            await asyncio.sleep(0.01)  # a light load, for as long as the others need
        end = await backend.put(END, b"")
        return [*written, (end.key, end.revision)]

    async with aclosing(backend.watch("resources/Node/")) as watch:
        start = (await next_snapshot(watch)).revision
        killed, living, seen = await asyncio.gather(lanes(), write_meanwhile(), _until_end(watch))
    await backend.close()
    assert len(killed) > KILLS_BESIDE_OTHERS
    assert set(killed) | set(living) <= set(seen)
    assert [revision for _, revision in seen] == list(range(start + 1, start + 1 + len(seen)))
    _assert_intact(options)


async def _killed_writer(options: SqliteOptions, name: str, chance: random.Random) -> list[tuple[str, int]]:
    """Return what a writer acknowledged before it was killed, at a random moment after some of its writes."""
    async with writer(options, put=0, name=name, tasks=3) as process:
        begin(process)
        assert process.stdout is not None
        output = b"".join([await process.stdout.readline() for _ in range(chance.randrange(MOST_WRITES))])
        await asyncio.sleep(chance.uniform(0, LONGEST_PAUSE_SECONDS))  # how long it lives is the point
        process.kill()
        rest, _ = await process.communicate()
    whole = (output + rest).decode().rpartition("\n")[0].splitlines()
    return [(key, int(revision)) for key, revision in (line.split() for line in whole)]


def _assert_intact(options: SqliteOptions, written: Sequence[tuple[str, int]] = ()) -> None:
    """Check the file's structure, that history holds what was written and that no item is older than it."""
    connection = apsw.Connection(options.path)
    connection.set_busy_timeout(int(REQUEST_SECONDS * 1000))
    try:
        assert connection.pragma("integrity_check") == "ok"
        with connection:
            changes = _rows(connection, "SELECT key, revision FROM changes ORDER BY revision")
            items = _rows(connection, "SELECT key, revision FROM items")
    finally:
        connection.close()
    assert set(written) <= set(changes)
    assert dict(items) | dict(changes) == dict(items)  # history may have forgotten the oldest


def _rows(connection: apsw.Connection, query: str) -> list[tuple[str, int]]:
    return [(str(key), int(str(revision))) for key, revision in connection.execute(query)]


async def _until_end(watch: AsyncGenerator[Event, None]) -> list[tuple[str, int]]:
    seen: list[tuple[str, int]] = []
    async for event in watch:
        assert isinstance(event, Put)
        seen.append((event.item.key, event.revision))
        if event.item.key == END:
            break
    return seen
