"""A recorded session: two files that tell what was shown, and verify each other. Pure.

    SID.session.bytes    what the session printed, raw (manual, "Recorded Sessions")
    SID.session.log      lines of JSON: copies of the session's events, and between them what was printed when

    {"event":"session.start","ei":0,"ms":0,"sid":…,"user":…,"size":"80:25",…,"prev":"000…"}
    {"event":"print","ei":1,"ms":1204,"offset":0,"bytes":37,"sha256":…,"prev":…}
    {"event":"resize","ei":2,"ms":2400,"size":"120:40","prev":…}
    {"event":"session.end","ei":3,"ms":9001,"prev":…}

`ei` counts lines, `ms` are milliseconds since the start, `prev` is the chain of `runtime.audit.chain`, and `sha256`
covers the bytes that a line speaks of. Only output is kept: what somebody types where nothing is echoed is nowhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol

from runtime.audit.chain import PREV, START, link
from runtime.audit.events import EventType
from runtime.core.errors import InvalidInput

Part = Literal["bytes", "log"]
"""The two files of a recording."""
BYTES: Part = "bytes"
LOG: Part = "log"
PRINT = "print"
INPUT = "input"
"""While somebody has joined a session: `user` typed so many `bytes`. Which, is nowhere."""
TRUNCATED = "truncated"
"""The event of a recording from which something is missing from here on, with the reason."""

_PIECE_BYTES = 1024 * 1024
"""What is read at a time; a line is shorter."""
_MAX_PROBLEMS = 100
_MAX_NUMBER = 2**53
"""What every reader of JSON takes exactly (RFC 8259 §6); a file's offset can be larger, and is not."""
_SIZE = re.compile(r"[0-9]{1,5}\Z")

Field = str | int | bool | list[str]


def file_name(sid: str, part: Part) -> str:
    """Return the manual's name of a recording's file; whether `sid` is a UUID was checked before."""
    return f"{sid}.session.{part}"


class Script:
    """Writes the lines of one session's log."""

    def __init__(self) -> None:
        self._link = START
        self._index = 0
        self.offset = 0
        """Bytes that have been printed."""

    def resume(self, line: bytes) -> None:
        """Go on behind a line that is there already, without its newline."""
        self._link = link(line)
        self._index += 1

    def event(self, event: EventType | str, ms: int, fields: Mapping[str, Field]) -> bytes:
        """Return the line of an event, with its newline."""
        return self._line({"event": str(event), "ei": self._index, "ms": ms, **fields})

    def printed(self, size: int, sha256: str, ms: int) -> bytes:
        """Return the line for so many bytes more in the other file, with its newline."""
        line = self._line(
            {
                "event": PRINT,
                "ei": self._index,
                "ms": ms,
                "offset": self.offset,
                "bytes": size,
                "sha256": sha256,
            }
        )
        self.offset += size
        return line

    def _line(self, record: Mapping[str, Field]) -> bytes:
        line = json.dumps({**record, PREV: self._link}, ensure_ascii=True, separators=(",", ":")).encode()
        self._link = link(line)
        self._index += 1
        return line + b"\n"


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a recording: at `ms` something was printed, or happened (`event`, with `fields`)."""

    ms: int
    event: str
    offset: int = 0
    size: int = 0
    """Bytes that were printed."""
    fields: Mapping[str, object] | None = None

    @property
    def terminal(self) -> tuple[int, int] | None:
        """Columns and rows, where this line tells them."""
        size = str((self.fields or {}).get("size", ""))
        columns, _, rows = size.partition(":")
        return (int(columns), int(rows)) if _SIZE.match(columns) and _SIZE.match(rows) else None


def frames(lines: Iterable[bytes]) -> Iterator[Frame]:
    """Yield the lines of a log, but for those that cannot be read, in their order."""
    for line in lines:
        frame = _frame(line)
        if frame is not None:
            yield frame


class Follower(Protocol):
    """Learns what is read while a recording is verified, so that it need not be read twice."""

    def printed(self, data: bytes) -> None:
        """Take what the next line says was printed, or a part of it."""
        ...

    def line(self, frame: Frame | None, size: int) -> None:
        """Take a line of so many bytes, newline and all; None for one that cannot be read."""
        ...


def verify(log: BinaryIO, printed: BinaryIO, follower: Follower | None = None) -> list[str]:
    """Return what is wrong with a recording, the first problem first; nothing if it is as it was written.

    However long its lines and outputs are, a piece is read at a time.
    """
    problems: list[str] = []
    expected, offset, ended = START, 0, False
    for number, raw in enumerate(iter(lambda: log.readline(_PIECE_BYTES), b""), 1):
        line = raw.removesuffix(b"\n")
        frame = _frame(line)
        if frame is None or not raw.endswith(b"\n"):
            problems.append(f"line {number} of the log cannot be read: it was cut off, or changed")
        elif (frame.fields or {}).get(PREV) != expected:
            problems.append(f"line {number} of the log does not follow the line before it: the chain is broken")
        elif frame.event == PRINT:
            size, digest = _digest(printed, frame.size, follower)
            if frame.offset != offset or digest != (frame.fields or {}).get("sha256"):
                problems.append(f"what line {number} of the log says was printed is not what is at byte {frame.offset}")
            offset += size
        ended = frame is not None and frame.event == EventType.SESSION_END
        expected = link(line)
        if follower is not None:
            follower.line(frame, len(raw))
        del problems[_MAX_PROBLEMS:]
    if printed.read(1):
        problems.append(f"something follows byte {offset} of which the log does not know")
    if not ended:
        problems.append("the log has no end: the session goes on, or its end was cut off")
    return problems


def _digest(printed: BinaryIO, size: int, follower: Follower | None) -> tuple[int, str]:
    """Read so many bytes, and return how many there were and their SHA-256."""
    digest, left = hashlib.sha256(), size
    while left and (data := printed.read(min(left, _PIECE_BYTES))):
        digest.update(data)
        left -= len(data)
        if follower is not None:
            follower.printed(data)
    return size - left, digest.hexdigest()


def _frame(line: bytes) -> Frame | None:
    try:
        data = json.loads(line)
        if not isinstance(data, dict):
            return None
        printed = data["event"] == PRINT
        return Frame(
            ms=_number(data["ms"]),
            event=str(data["event"]),
            offset=_number(data["offset"]) if printed else 0,
            size=_number(data["bytes"]) if printed else 0,
            fields=data,
        )
    except (ValueError, KeyError, RecursionError, InvalidInput):
        return None


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MAX_NUMBER:
        raise InvalidInput(f"{value!a} is no count")
    return value
