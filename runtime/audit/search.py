"""Finding events among lines of the log, by the bytes of the lines. Pure.

A line is ours, so it is read without parsing it: ASCII, no blanks, no object within the object; and a quotation mark
within a value has a backslash before it. Hence `"user":"joe"` is in a line exactly if that is the user.

Most blocks of lines hold nothing that is sought: looking through one at once costs a tenth of splitting it into lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

_UID_LENGTH = 36
_HOUR = timedelta(hours=1)
_FEW_HOURS = 4 * _HOUR


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
    _text: bytes = field(init=False)
    _hours: tuple[bytes, ...] = field(init=False)
    """Of which a line has one; empty where there are too many to look for."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_has", tuple(_member(name, value) for name, value in self.fields))
        object.__setattr__(self, "_any", tuple(_member("event", name) for name in sorted(self.types)))
        object.__setattr__(self, "_times", (_time(self.since, b""), _time(self.until, b"~")))
        object.__setattr__(self, "_text", json.dumps(self.text.lower())[1:-1].encode())
        object.__setattr__(self, "_hours", tuple(_hours(self.since, self.until)))

    @property
    def members(self) -> tuple[tuple[bytes, ...], ...]:
        """Groups of members, as a line has them, of each of which an event that fits has one."""
        return (*((each,) for each in self._has), *([self._any] if self._any else ()))

    @property
    def times(self) -> tuple[bytes, bytes]:
        """From which time on, and before which, an event has to be, as the log writes times."""
        return self._times

    def of(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the lines that fit, in their order."""
        return (line for line in lines if self._fits(line))

    def within(self, block: bytes) -> Iterator[bytes]:
        """Yield the lines of a block (lines with newlines between them) that fit, in their order."""
        if any(needle not in block for needle in self._has) or not self._may_be_of_that_time(block):
            return iter(())
        if self._has:
            return self.of(_lines_with(block, block, self._has[0]))
        if self.text:
            return self.of(_lines_with(block, block.lower(), self._text))
        if len(self._any) == 1:
            return self.of(_lines_with(block, block, self._any[0]))
        if self._any and not any(needle in block for needle in self._any):
            return iter(())
        return self.of(block.split(b"\n") if block else ())

    def _fits(self, line: bytes) -> bool:
        return (
            all(needle in line for needle in self._has)
            and (not self._any or any(needle in line for needle in self._any))
            and (not self.text or self._text in line.lower())
            and ((self.since is None and self.until is None) or self._times[0] <= time_of(line) < self._times[1])
        )

    def _may_be_of_that_time(self, block: bytes) -> bool:
        return not self._hours or any(hour in block for hour in self._hours)


def time_of(line: bytes) -> bytes:
    """Return an event's time as the log writes it, which sorts; empty for a line that is no event."""
    return _value(line, b'"time":"')


def uid_of(line: bytes) -> bytes:
    """Return an event's uid, which sorts by time; empty for a line that is no event."""
    uid = _value(line, b'"uid":"')
    return uid if len(uid) == _UID_LENGTH else b""


def _value(line: bytes, begin: bytes) -> bytes:
    # Not even a value may look like that: its quotation marks have backslashes.
    at = line.find(begin)
    if at < 0:
        return b""
    at += len(begin)
    return line[at : max(at, line.find(b'"', at))]


def _lines_with(block: bytes, looked_through: bytes, needle: bytes) -> Iterator[bytes]:
    """Yield the lines of a block that have a needle, once each; it is looked for in a text of the same length."""
    at = looked_through.find(needle)
    while at >= 0:
        end = block.find(b"\n", at)
        end = len(block) if end < 0 else end
        yield block[block.rfind(b"\n", 0, at) + 1 : end]
        at = looked_through.find(needle, end)


def _hours(since: datetime | None, until: datetime | None) -> Iterator[bytes]:
    """Yield how the times of each hour from `since` to `until` begin, if those are few."""
    if since is None or until is None or until - since > _FEW_HOURS:
        return
    hour = since.replace(minute=0, second=0, microsecond=0)
    while hour < until:
        yield f'"time":"{hour:%Y-%m-%dT%H}'.encode()
        hour += _HOUR


def _member(name: str, value: str) -> bytes:
    return f"{json.dumps(name)}:{json.dumps(value)}".encode()


def _time(at: datetime | None, open_end: bytes) -> bytes:
    return open_end if at is None else f"{at:%Y-%m-%dT%H:%M:%SZ}".encode()
