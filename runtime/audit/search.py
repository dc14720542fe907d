"""Finding events among lines of the log, by the bytes of the lines. Pure.

A line is ours, so it is read without parsing it: ASCII, no blanks, no object within the object; and a quotation mark
within a value has a backslash before it. Hence `"user":"joe"` is in a line exactly if that is the user.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

_TIME = re.compile(rb'[{,]"time":"([^"]*)"')


@dataclass(frozen=True, slots=True)
class Filter:
    """What events to find: all that is said must be true of an event. `since` is included, `until` is not."""

    types: frozenset[str] = frozenset()
    """Any of these; all types, if there is none."""
    fields: tuple[tuple[str, str], ...] = ()
    """Name and value of fields, as in `("user", "joe")`."""
    text: str = ""
    """Occurs anywhere in the event, whatever the case of its letters."""
    since: datetime | None = None
    until: datetime | None = None
    _has: tuple[bytes, ...] = field(init=False)
    _any: tuple[bytes, ...] = field(init=False)
    _times: tuple[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_has", tuple(_member(name, value) for name, value in self.fields))
        object.__setattr__(self, "_any", tuple(_member("event", name) for name in sorted(self.types)))
        object.__setattr__(self, "_times", (_time(self.since, b""), _time(self.until, b"~")))

    def of(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the lines that fit, in their order."""
        for needle in self._has:
            lines = _with(lines, needle)
        if len(self._any) == 1:
            lines = _with(lines, self._any[0])
        elif self._any:
            lines = _with_any(lines, self._any)
        if self.text:
            lines = _with_text(lines, json.dumps(self.text.lower())[1:-1].encode())
        if self.since is not None or self.until is not None:
            lines = _between(lines, *self._times)
        yield from lines


def time_of(line: bytes) -> bytes:
    """Return an event's time as the log writes it, which sorts; empty for a line that is no event."""
    match = _TIME.search(line)
    return match[1] if match else b""


def uid_of(line: bytes) -> bytes:
    """Return an event's uid, which sorts by time; empty for a line that is no event."""
    match = _UID.search(line)
    return match[1] if match else b""


_UID = re.compile(rb'[{,]"uid":"([0-9a-f-]{36})"')


def _member(name: str, value: str) -> bytes:
    return f"{json.dumps(name)}:{json.dumps(value)}".encode()


def _time(at: datetime | None, open_end: bytes) -> bytes:
    return open_end if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}".encode()


def _with(lines: Iterable[bytes], needle: bytes) -> Iterable[bytes]:
    return (line for line in lines if needle in line)


def _with_any(lines: Iterable[bytes], needles: tuple[bytes, ...]) -> Iterable[bytes]:
    found = re.compile(b"|".join(map(re.escape, needles))).search
    return (line for line in lines if found(line))


def _with_text(lines: Iterable[bytes], needle: bytes) -> Iterable[bytes]:
    return (line for line in lines if needle in line.lower())


def _between(lines: Iterable[bytes], since: bytes, until: bytes) -> Iterable[bytes]:
    return (line for line in lines if since <= time_of(line) < until)
