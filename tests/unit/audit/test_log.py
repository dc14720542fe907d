"""The event log: the manual's files and format ("SSH Events"), and that nothing in an event can pass for another."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.audit.chain import START
from runtime.audit.events import EventType
from runtime.audit.log import EventLog, Sync
from runtime.audit.tail import Tail
from runtime.audit.verify import verify
from runtime.core.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    """Return a clock at the manual's event."""
    return ManualClock(datetime(2017, 2, 3, 6, 54, 5, tzinfo=UTC))


@pytest.fixture
def log(tmp_path: Path, clock: ManualClock) -> Iterator[EventLog]:
    """Yield a log in a folder that it makes."""
    log = EventLog(tmp_path / "log", clock)
    yield log
    log.close()


def test_a_day_is_a_file(log: EventLog, clock: ManualClock, tmp_path: Path) -> None:
    """Files are named for their UTC day, open to owner and group, in a folder for the owner only."""
    log.emit(EventType.AUTH, user="joe")
    clock.advance(timedelta(hours=17, minutes=5, seconds=54))
    log.emit(EventType.AUTH, user="ann")
    clock.advance(timedelta(seconds=1))
    log.emit(EventType.AUTH, user="bob")
    files = sorted((tmp_path / "log").iterdir())
    assert [file.name for file in files] == ["2017-02-03.00:00:00.log", "2017-02-04.00:00:00.log"]
    assert [len(file.read_text().splitlines()) for file in files] == [2, 1]
    assert {stat.S_IMODE(file.stat().st_mode) & ~0o640 for file in files} == {0}
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) & 0o077 == 0


def test_an_event_is_a_line_of_json(log: EventLog, tmp_path: Path) -> None:
    """Its type, its time as the manual writes it, an id of its own, and its fields."""
    log.emit(EventType.AUTH, user="joe", success="false", error="access denied", **{"addr.remote": "192.0.2.1"})
    (line,) = (tmp_path / "log" / "2017-02-03.00:00:00.log").read_text().splitlines()
    event = json.loads(line)
    assert len(event.pop("uid")) == 36
    assert event.pop("prev") == "0" * 64
    assert event == {
        "event": "auth",
        "time": "2017-02-03T06:54:05Z",
        "user": "joe",
        "success": "false",
        "error": "access denied",
        "addr.remote": "192.0.2.1",
    }


@pytest.mark.parametrize("user", ['a"}\n{"event":"auth', "\x1b[2J", "\u202ejoe", "\u2028", "日本", "\udcff"])
def test_no_name_makes_a_second_event(log: EventLog, tmp_path: Path, user: str) -> None:
    """Whatever somebody calls itself is one ASCII line in the log, and reads back as it was."""
    log.emit(EventType.AUTH, user=user)
    (line,) = (tmp_path / "log" / "2017-02-03.00:00:00.log").read_bytes().splitlines()
    assert all(32 <= byte < 127 for byte in line)
    assert json.loads(line)["user"] == user


def test_threads_do_not_mix(log: EventLog, tmp_path: Path) -> None:
    """Each writes whole lines, and together they make one chain; ids rise in the order of the lines."""

    def write() -> None:
        for number in range(200):
            log.emit(EventType.AUTH, user="x" * number)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    log.close()
    (file,) = (tmp_path / "log").iterdir()
    ids = [json.loads(line)["uid"] for line in file.read_text().splitlines()]
    assert len(set(ids)) == 800
    assert ids == sorted(ids)
    report = verify(tmp_path / "log", start=START)
    assert (report.events, report.problems) == (800, [])


def test_one_process_writes(log: EventLog, tmp_path: Path, clock: ManualClock) -> None:
    """A second writer would go on from the same line; it is refused until the first has closed the log."""
    with pytest.raises(BlockingIOError):
        EventLog(tmp_path / "log", clock)
    log.close()
    EventLog(tmp_path / "log", clock).close()


def test_the_chain_goes_on_over_days_and_starts(log: EventLog, tmp_path: Path, clock: ManualClock) -> None:
    """Also over days without an event, and where the clock goes back: the day that is over is not opened again."""
    for user, days in (("joe", 0), ("ann", 3), ("bob", -2)):
        clock.advance(timedelta(days=days))
        log.emit(EventType.AUTH, user=user)
    log.close()
    clock.advance(timedelta(days=9))
    again = EventLog(tmp_path / "log", clock)
    again.emit(EventType.AUTH, user="eve")
    again.close()
    assert [path.name[:10] for path in sorted((tmp_path / "log").iterdir())] == [
        "2017-02-03",
        "2017-02-06",
        "2017-02-13",
    ]
    report = verify(tmp_path / "log", start=START)
    assert (report.files, report.events, report.problems) == (3, 4, [])


async def test_a_clock_that_was_wrong(
    log: EventLog, tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Years ahead at one start, right at the next: events go on in that file, whose chain holds, and it is said."""
    folder = tmp_path / "log"
    log.emit(EventType.AUTH, user="joe")
    log.close()
    ahead = EventLog(folder, ManualClock(datetime(2099, 1, 1, tzinfo=UTC)))
    ahead.emit(EventType.AUTH, user="ann")
    ahead.close()
    tail = Tail(folder)
    behind = tail.end()
    again = EventLog(folder, clock)
    again.emit(EventType.AUTH, user="bob")
    again.close()
    assert verify(folder, start=START).problems == []
    assert behind is not None
    assert [json.loads(line)["user"] for line in tail.read(behind, limit=10)[0]] == ["bob"]
    assert "2099-01-01.00:00:00.log is of a day to come: events go on there until then" in caplog.text


@pytest.mark.parametrize("cut", [1, 5, 60_000, 200_000])
def test_a_write_that_was_cut_off_is_kept_and_told(
    log: EventLog, tmp_path: Path, clock: ManualClock, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What there is of it stays as a line of its own; the rest reads on, chained to it."""
    log.emit(EventType.AUTH, user="joe")
    log.emit(EventType.EXEC, command="x" * 250_000)
    log.close()
    (file,) = (tmp_path / "log").iterdir()
    os.truncate(file, file.stat().st_size - cut)
    again = EventLog(tmp_path / "log", clock)
    again.emit(EventType.AUTH, user="ann")
    again.close()
    assert len(file.read_text().splitlines()) == 3
    report = verify(tmp_path / "log", start=START)
    # Without its newline alone the line is whole.
    assert [problem.line for problem in report.problems] == ([] if cut == 1 else [2])
    assert report.events == (3 if cut == 1 else 2)
    assert "was cut off" in caplog.text


async def test_those_who_wait_share_one_fsync(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty events that wait together cost two at most, and each was on the disk when its wait ended."""
    synced: list[int] = []
    fsync = os.fsync

    def counting(file: int) -> None:
        synced.append(log._written)
        fsync(file)

    monkeypatch.setattr(os, "fsync", counting)

    async def write() -> None:
        log.emit(EventType.AUTH, user="joe")
        mine = log._written
        await log.durable()
        assert log._synced >= mine

    log.emit(EventType.AUTH)
    synced.clear()
    await asyncio.gather(*(write() for _ in range(50)))
    assert len(synced) <= 2
    await log.durable()  # nothing new
    assert len(synced) <= 2


async def test_without_fsync_nobody_waits(tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """`never` asks the disk for nothing; `interval` asks once for all of a second."""
    counted: list[int] = []
    monkeypatch.setattr("runtime.audit.log.INTERVAL_SECONDS", 0.01)
    for sync, most in ((Sync.NEVER, 0), (Sync.INTERVAL, 1)):
        log = EventLog(tmp_path / sync, clock, sync=sync)
        log.emit(EventType.AUTH)
        monkeypatch.setattr(os, "fsync", counted.append)
        for _ in range(10):
            log.emit(EventType.AUTH)
            await log.durable()
        if log._syncing is not None:
            await log._syncing
        assert len(counted) == most
        monkeypatch.undo()
        monkeypatch.setattr("runtime.audit.log.INTERVAL_SECONDS", 0.01)
        log.close()
        counted.clear()


def test_a_full_disk_leaves_no_half_line(log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event is not logged, and says so; the next one that fits hangs on to the last that did."""
    log.emit(EventType.AUTH, user="joe")
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:10]))
    with pytest.raises(OSError, match="No space left"):
        log.emit(EventType.AUTH, user="ann")
    monkeypatch.undo()
    log.emit(EventType.AUTH, user="bob")
    log.close()
    report = verify(tmp_path / "log", start=START)
    assert (report.events, report.problems) == (2, [])


def test_a_planted_link_is_not_followed(tmp_path: Path, clock: ManualClock) -> None:
    """A file that is a link to another is refused: nobody has events written over what is not the log."""
    target = tmp_path / "target"
    target.write_text("mine")
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "2017-02-03.00:00:00.log").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        EventLog(folder, clock).emit(EventType.AUTH)
    assert target.read_text() == "mine"
