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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Literal

from runtime.audit.chain import PREV, START, link
from runtime.audit.events import EventType
from runtime.core.errors import InvalidInput

Part = Literal["bytes", "log"]
"""The two files of a recording."""
BYTES: Part = "bytes"
LOG: Part = "log"
PRINT = "print"
TRUNCATED = "truncated"
"""The event of a recording from which something is missing from here on, with the reason."""

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
        return (int(columns), int(rows)) if columns.isdecimal() and rows.isdecimal() else None


def frames(lines: Iterable[bytes]) -> Iterator[Frame]:
    """Yield the lines of a log, but for those that cannot be read, in their order."""
    for line in lines:
        frame = _frame(line)
        if frame is not None:
            yield frame


def verify(log: BinaryIO, printed: BinaryIO) -> list[str]:
    """Return what is wrong with a recording, the first problem first; nothing if it is as it was written."""
    problems: list[str] = []
    expected, offset, ended = START, 0, False
    for number, raw in enumerate(log, 1):
        line = raw.removesuffix(b"\n")
        frame = _frame(line)
        if frame is None or not raw.endswith(b"\n"):
            problems.append(f"line {number} of the log cannot be read: it was cut off, or changed")
        elif (frame.fields or {}).get(PREV) != expected:
            problems.append(f"line {number} of the log does not follow the line before it: the chain is broken")
        elif frame.event == PRINT:
            data = printed.read(frame.size)
            if frame.offset != offset or hashlib.sha256(data).hexdigest() != (frame.fields or {}).get("sha256"):
                problems.append(f"what line {number} of the log says was printed is not what is at byte {frame.offset}")
            offset += len(data)
        ended = frame is not None and frame.event == EventType.SESSION_END
        expected = link(line)
    if printed.read(1):
        problems.append(f"something follows byte {offset} of which the log does not know")
    if not ended:
        problems.append("the log has no end: the session goes on, or its end was cut off")
    return problems


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
    except (ValueError, KeyError, InvalidInput):
        return None


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidInput(f"{value!a} is no count")
    return value
