"""The event log: the manual's files and format ("SSH Events"), and that nothing in an event can pass for another."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.audit.events import EventType
from runtime.audit.log import EventLog
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


def test_two_writers_do_not_mix(tmp_path: Path, clock: ManualClock) -> None:
    """Two processes' logs in one folder, and threads of each, write whole lines."""
    logs = [EventLog(tmp_path, clock) for _ in range(2)]

    def write(log: EventLog) -> None:
        for number in range(200):
            log.emit(EventType.AUTH, user="x" * number)

    threads = [threading.Thread(target=write, args=(log,)) for log in logs for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for log in logs:
        log.close()
        log.close()
    (file,) = tmp_path.iterdir()
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 800


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
