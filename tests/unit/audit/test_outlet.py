"""Passing events on: each once and in order, over days, restarts, and a sink that is away."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from runtime.audit import outlet
from runtime.audit.events import EventType
from runtime.audit.log import EventLog
from runtime.audit.outlet import Outlet
from runtime.audit.tail import Position, Tail
from runtime.core.clock import ManualClock
from runtime.core.errors import Unavailable


class Memory:
    """A sink that remembers, and may be away."""

    name = "memory"

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.batches: list[int] = []
        self.away = 0
        self.reason = "nobody is there"

    async def take(self, lines: Sequence[bytes]) -> None:
        """Take lines, or be away as often as was asked for."""
        if self.away:
            self.away -= 1
            raise Unavailable(self.reason if self.away else "nobody is there")
        self.batches.append(len(lines))
        self.taken += [json.loads(line)["command"] for line in lines]


class World:
    """A log, and a clock that moves by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(datetime(2017, 2, 3, 23, tzinfo=UTC))
        self.log = EventLog(folder, self.clock)
        self.count = 0

    def emit(self, number: int) -> list[str]:
        """Log so many events, and return their commands."""
        said = [str(self.count + each) for each in range(number)]
        for each in said:
            self.log.emit(EventType.EXEC, command=each)
        self.count += number
        return said


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Yield a world, and close its log."""
    world = World(tmp_path / "log")
    yield world
    world.log.close()


async def drain(passing: Outlet) -> None:
    """Pass on what there is."""
    while await passing.step():
        pass


async def test_over_days_and_restarts(world: World) -> None:
    """Each event comes once and in order, in batches of 256 at most; a new outlet goes on where the old one was."""
    sink = Memory()
    await drain(Outlet(world.folder, sink))
    said = world.emit(600)
    await drain(Outlet(world.folder, sink))
    world.clock.advance(timedelta(days=2))
    said += world.emit(3)
    world.clock.advance(timedelta(days=1))
    passing = Outlet(world.folder, sink)
    await drain(passing)
    said += world.emit(2)
    await drain(passing)
    assert sink.taken == said
    assert sink.batches == [256, 256, 88, 3, 2]


async def test_half_a_line_waits_for_its_other_half(world: World) -> None:
    """What another process has written half of is not passed on before it is whole."""
    sink, passing = Memory(), None
    world.emit(1)
    passing = Outlet(world.folder, sink)
    (file,) = world.folder.glob("*.log")
    with file.open("ab") as writing:
        writing.write(b'{"command":')
        writing.flush()
        await drain(passing)
        assert sink.taken == ["0"]
        writing.write(b'"half"}\n')
        writing.flush()
        await drain(passing)
    assert sink.taken == ["0", "half"]


async def test_a_sink_that_is_away_gets_it_later(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again, with pauses; the log says why, each reason once, and that it is back."""
    monkeypatch.setattr(outlet, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(outlet, "MAX_PAUSE_SECONDS", 0.01)
    caplog.set_level("WARNING")
    sink = Memory()
    sink.away, sink.reason = 4, "it is busy"
    said = world.emit(5)
    task = asyncio.create_task(Outlet(world.folder, sink).run())
    async with asyncio.timeout(10):
        while sink.taken != said or "again" not in caplog.text:  # noqa: ASYNC110 - the sink has no event
            await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [record.message for record in caplog.records] == [
        "audit events wait for memory: it is busy",
        "audit events wait for memory: nobody is there",
        "memory takes audit events again",
    ]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"day": "2017-02-03"}', b'{"day": "x", "offset": 1}'])
async def test_a_position_that_cannot_be_read(world: World, content: bytes) -> None:
    """All is passed on again: twice is better than not at all."""
    said = world.emit(2)
    sink = Memory()
    await drain(Outlet(world.folder, sink))
    (world.folder / ".memory.position").write_bytes(content)
    await drain(Outlet(world.folder, sink))
    assert sink.taken == said * 2


def test_files_that_were_removed_or_cut(world: World) -> None:
    """Reading goes on with the next file there is."""
    world.emit(2)
    world.clock.advance(timedelta(days=1))
    world.emit(1)
    tail = Tail(world.folder)
    begin = tail.begin()
    assert begin == Position(date(2017, 2, 3))
    min(world.folder.glob("*.log")).unlink()
    lines, behind = tail.read(begin, limit=10)
    assert len(lines) == 1
    assert behind == tail.end()


def test_a_file_that_was_cut_off_begins_anew(world: World) -> None:
    """Nobody hides what comes by taking away what is there."""
    world.emit(3)
    tail = Tail(world.folder)
    behind = tail.end()
    assert behind is not None
    os.truncate(world.folder / "2017-02-03.00:00:00.log", 0)
    assert tail.read(behind, limit=10) == ([], Position(behind.day))
    world.emit(1)
    lines, _ = tail.read(behind, limit=10)
    assert [json.loads(line)["command"] for line in lines] == ["3"]


def test_a_file_of_a_day_to_come_that_was_moved_away(world: World) -> None:
    """The clock was wrong, and somebody has put that right: what there is comes again, and what comes is not missed."""
    world.emit(2)
    tail = Tail(world.folder)
    lines, behind = tail.read(Position(date(2099, 1, 1), 100), limit=10)
    assert (len(lines), behind) == (2, tail.end())
    world.emit(1)
    assert len(tail.read(behind, limit=10)[0]) == 1
    for path in world.folder.glob("*.log"):
        path.unlink()
    assert tail.read(behind, limit=10) == ((), behind)


def test_a_line_longer_than_a_read(world: World) -> None:
    """It is one line."""
    world.log.emit(EventType.EXEC, command="x" * 3_000_000)
    world.emit(1)
    begin = Tail(world.folder).begin()
    assert begin is not None
    (line,), behind = Tail(world.folder).read(begin, limit=1)
    assert len(line) > 3_000_000
    assert len(Tail(world.folder).read(behind, limit=10)[0]) == 1
