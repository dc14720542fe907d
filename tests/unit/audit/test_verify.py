"""Whoever touches the event log is found out, and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.audit.chain import START
from runtime.audit.events import EventType
from runtime.audit.log import EventLog
from runtime.audit.verify import verify
from runtime.core.clock import ManualClock

Lines = list[bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a log of two days with five events each."""
    clock = ManualClock(datetime(2017, 2, 3, 12, tzinfo=UTC))
    log = EventLog(tmp_path / "log", clock)
    for _ in range(2):
        for number in range(5):
            log.emit(EventType.EXEC, command=f"echo {number}", user="joe")
        clock.advance(timedelta(days=1))
    log.close()
    return tmp_path / "log"


def change(folder: Path, day: int, edit: Callable[[Lines], Lines]) -> None:
    """Rewrite the lines of a day's file."""
    path = sorted(folder.iterdir())[day]
    path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))


def without(line: int) -> Callable[[Lines], Lines]:
    """Return what removes a line, counted from 0."""
    return lambda lines: lines[:line] + lines[line + 1 :]


def with_user(line: int, user: str) -> Callable[[Lines], Lines]:
    """Return what lets another have done it."""
    return lambda lines: [each.replace(b"joe", user.encode()) if at == line else each for at, each in enumerate(lines)]


def test_as_it_was_written(folder: Path) -> None:
    """It is whole, from the first line of all, and its head is what the next line would name."""
    report = verify(folder, start=START)
    assert (report.files, report.events, report.problems) == (2, 10, [])
    log = EventLog(folder, ManualClock(datetime(2017, 2, 9, tzinfo=UTC)))
    log.emit(EventType.AUTH)
    log.close()
    assert json.loads((folder / "2017-02-09.00:00:00.log").read_text())["prev"] == report.head


@pytest.mark.parametrize(
    ("edit", "day", "line", "what"),
    [
        (without(2), 0, 3, "the line before it and this one"),
        (without(0), 1, 1, "the end of the file of 2017-02-03"),
        (without(0), 0, 1, "the start and this one"),
        (with_user(1, "eve"), 0, 3, "the chain is broken"),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 0, 2, "the chain is broken"),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], 0, 3, "the chain is broken"),
        (lambda lines: [*lines[:2], b"nonsense\n", *lines[2:]], 0, 3, "this is no event"),
        (lambda lines: [*lines[:2], b"\xff\xfe\n", *lines[2:]], 0, 3, "this is no event"),
        (lambda lines: [*lines[:2], b'{"event": "exec"}\n', *lines[2:]], 0, 3, "no link"),
        (lambda lines: [*lines[:2], b"[]\n", *lines[2:]], 0, 3, "no link"),
        (lambda lines: [each.replace(b"2017-02-03T", b"2018-02-03T") for each in lines], 0, 1, "of another day"),
        (lambda lines: [*lines[:4], lines[4].rstrip()], 1, 5, "has no end"),
    ],
)
def test_the_first_broken_link_is_named(
    folder: Path, edit: Callable[[Lines], Lines], day: int, line: int, what: str
) -> None:
    """File and line of it; what was changed is the line before a broken link, or the line itself."""
    change(folder, day, edit)
    problem = verify(folder, start=START).problems[0]
    assert (sorted(folder.iterdir())[day], line) == (problem.path, problem.line)
    assert what in problem.what
    assert str(problem).startswith(f"{problem.path}:{line}: ")


def test_one_change_is_told_once(folder: Path) -> None:
    """What follows is checked from there on, and has no mistake."""
    change(folder, 0, with_user(1, "eve"))
    assert len(verify(folder, start=START).problems) == 1


def test_the_last_lines_are_nobodys_predecessor(folder: Path) -> None:
    """Taking them away leaves a chain that holds: only its head tells, which is kept elsewhere."""
    whole = verify(folder, start=START).head
    change(folder, 1, lambda lines: lines[:-1])
    report = verify(folder, start=START)
    assert report.problems == []
    assert report.head != whole


def test_old_files_that_were_removed(folder: Path) -> None:
    """After their time they are gone, which breaks nothing unless the beginning is asked for."""
    min(folder.iterdir()).unlink()
    assert verify(folder).problems == []
    assert len(verify(folder, start=START).problems) == 1


@pytest.mark.parametrize("kind", ["folder", "link", "copy", "rotated"])
def test_two_files_of_a_day(folder: Path, kind: str) -> None:
    """What stands beside the files of the log is named, whatever it is, and the rest is checked."""
    other = folder / ("2017-02-05.00:00:00.log" if kind in ("folder", "link") else "2017-02-03.00:00:00.log.1")
    first = min(folder.iterdir())
    if kind == "folder":
        other.mkdir()
    elif kind == "link":
        other.symlink_to(first)
    else:
        other.write_bytes(first.read_bytes())
        if kind == "rotated":
            first.unlink()
    report = verify(folder)
    assert report.events == (5 if kind == "rotated" else 10)
    (problem,) = report.problems
    assert (problem.path, problem.line) == (other, 0)
    assert "this is no file" in problem.what


def test_a_file_that_is_none_of_the_logs(folder: Path) -> None:
    """It is named, and not read."""
    (folder / "2017-02-03.12:00:00.log").write_text("nonsense")
    (problem,) = verify(folder, start=START).problems
    assert (
        str(problem)
        == f"{folder}/2017-02-03.12:00:00.log: this is no file of the log: its name is not DAY.00:00:00.log"
    )
