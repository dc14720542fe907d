"""The files of the event log: one a UTC day, named as in the manual ("SSH Events")."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.00:00:00\.log")
_BLOCK = 64 * 1024


def file_of(folder: Path, day: date) -> Path:
    """Return the path of a day's file."""
    return folder / f"{day:%Y-%m-%d}.00:00:00.log"


def day_of(path: Path) -> date | None:
    """Return the day of a file by its name; None for a file that is none of the log's."""
    match = _NAME.fullmatch(path.name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:
        return None


def days(folder: Path) -> Iterator[tuple[date, Path]]:
    """Yield the log's files, oldest first."""
    found = ((day, path) for path in folder.iterdir() if (day := day_of(path)) is not None)
    yield from sorted(found)


def last_line(descriptor: int) -> tuple[bytes, bool]:
    """Return a file's last line without its newline, and whether it has one; an empty line for an empty file."""
    end = os.fstat(descriptor).st_size
    tail, at = b"", end
    while at > 0 and b"\n" not in tail[:-1]:
        at = max(0, at - _BLOCK)
        tail = os.pread(descriptor, end - at, at)
    whole = tail.endswith(b"\n")
    return tail.removesuffix(b"\n").rpartition(b"\n")[2], whole or not tail
