"""Is the event log whole, and if not, where does it break: each line and each link, read back."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from runtime.audit.chain import PREV, START, link
from runtime.audit.files import day_of, days

MAX_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was written; `line` counts from 1, 0 is the file as such."""

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}" if self.line else f"{self.path}: {self.what}"


@dataclass(slots=True)
class Report:
    """What was found. The log is whole if there are no problems."""

    files: int = 0
    events: int = 0
    head: str = START
    """The link that the next line would have to name."""
    problems: list[Problem] = field(default_factory=list)
    first: date | None = None
    """The day of the first file."""
    has_start: bool = False
    """The first line of all is there."""
    found: set[str] = field(default_factory=set)
    """Of the heads that were sought, those that were the log's when it was written."""


def verify(folder: Path, *, start: str | None = None, heads: Container[str] = ()) -> Report:
    """Check each line and each link of the log in a folder, oldest first. Raises OSError.

    `start` is what the first line has to name: None takes it as it is, because older files may have been removed after
    their time. A broken link is told once; what follows it is checked from there on. `heads` are sought.
    """
    report = Report()
    expected = start
    last: date | None = None
    for path in sorted(folder.glob("*.log*")):
        if day_of(path) is None:
            _add(report, Problem(path, 0, "this is no file of the log: its name is not DAY.00:00:00.log"))
    for day, path in days(folder):
        if not path.is_file() or path.is_symlink():
            _add(report, Problem(path, 0, "this is no file"))
            continue
        report.files += 1
        report.first = report.first or day
        for number, line, whole in _lines(path):
            problem, named = _judge(line, whole=whole, day=day)
            if problem:
                _add(report, Problem(path, number, problem))
            if named is not None:
                report.events += 1
                report.has_start = report.has_start or (report.events == 1 and named == START)
                if expected is not None and named != expected:
                    _add(report, Problem(path, number, _broken(number, last)))
            expected = link(line)
            if expected in heads:
                report.found.add(expected)
        last = day
    report.head = expected or START
    return report


def removed_before(folder: Path) -> date | None:
    """Return before which day files were removed; None if the first line of all is there, or none. Raises OSError."""
    for day, path in days(folder):
        with path.open("rb") as file:
            if line := file.readline().removesuffix(b"\n"):
                return None if _judge(line, whole=True, day=day)[1] == START else day
    return None


def _judge(line: bytes, *, whole: bool, day: date) -> tuple[str, str | None]:
    """Return what is wrong with a line as such, and the link that it names if it is an event."""
    try:
        event = json.loads(line)
    except ValueError:
        return "this is no event: a write was cut off, or it was changed", None
    if not isinstance(event, dict) or not isinstance(event.get(PREV), str):
        return "this event has no link to the one before it", None
    if not whole:
        return "the last line has no end", event[PREV]
    at = event.get("time", "")
    # Of a clock that went back, or a member whose event took its time to arrive.
    if not isinstance(at, str) or at[:10] > f"{day + timedelta(days=1):%Y-%m-%d}":
        return f"an event of {at[:32]!a} is in the file of another day", event[PREV]
    return "", event[PREV]


def _broken(number: int, last: date | None) -> str:
    before = "the line before it" if number > 1 else f"the end of the file of {last}" if last else "the start"
    return f"the chain is broken here: a line was changed, removed or put in between {before} and this one"


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            yield number, line.removesuffix(b"\n"), line.endswith(b"\n")


def _add(report: Report, problem: Problem) -> None:
    if len(report.problems) < MAX_PROBLEMS:
        report.problems.append(problem)
