r"""The index of a recording, by which one gets to any place in it without reading what is before (docs/adr/0010).

    SID.session.index    lines of JSON, one after about every 256 KiB of output, or 64 KiB of log:

    {"ms":1204,"bytes":262190,"log":8211,"size":"80:25","modes":"\u001b[?25l"}

What was printed and logged before, and how big and in which modes the terminal was then (`runtime.audit.modes`). It is
derived from the two files, says nothing that they do not, and is made again where it is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from runtime.audit.modes import Modes
from runtime.audit.reading import INDEX, Source, Window, lines
from runtime.audit.recording import PRINT, Frame, frames
from runtime.core.errors import NotFound

EVERY_BYTES = 256 * 1024
EVERY_LOG_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place between two lines of the log."""

    ms: int = 0
    """When the line before it was."""
    bytes: int = 0
    log: int = 0
    size: str = ""
    """Of the terminal, COLUMNS:ROWS; empty if there is none."""
    modes: str = ""
    """What gives a terminal that was reset its modes."""


class Indexer:
    """Follows a recording, line by line, and says where checkpoints are."""

    def __init__(self) -> None:
        self._modes = Modes()
        self._last = Checkpoint()
        self._ms = self._bytes = self._log = 0
        self._size = ""
        self._fresh: list[bytes] = []
        self.lines = bytearray()
        """The index so far."""

    @property
    def place(self) -> tuple[int, int]:
        """How much of the output and of the log was followed."""
        return self._bytes, self._log

    def printed(self, data: bytes) -> None:
        """Take what the next line says was printed, or a part of it."""
        self._fresh.append(data)
        self._bytes += len(data)

    def line(self, frame: Frame | None, size: int) -> None:
        """Take a line of so many bytes, newline and all; None for one that cannot be read."""
        self._log += size
        if frame is not None:
            self._ms = max(self._ms, frame.ms)
            if columns := frame.terminal:
                self._size = f"{columns[0]}:{columns[1]}"
        room = max((self._bytes - self._last.bytes) / EVERY_BYTES, (self._log - self._last.log) / EVERY_LOG_BYTES)
        if room < 1:
            return
        self._modes.feed(b"".join(self._fresh))
        self._fresh.clear()
        # Not within a sequence; unless that goes on and on.
        if self._modes.settled or room >= 2:
            self._last = Checkpoint(self._ms, self._bytes, self._log, self._size, self._modes.restore())
            self.lines += json.dumps(asdict(self._last), separators=(",", ":")).encode() + b"\n"


def extend(indexer: Indexer, source: Source, enough: Callable[[], bool] = lambda: False) -> None:
    """Let it follow all there is by now, or until it is enough. Blocks. Raises what `Source.read` raises."""
    window = Window(source)
    _, before = indexer.place
    for after, line in lines(source, before):
        frame = next(frames([line]), None)
        if frame is not None and frame.event == PRINT and frame.offset == indexer.place[0]:
            for start in range(frame.offset, frame.offset + frame.size, EVERY_BYTES):
                if not (data := window.read(start, min(EVERY_BYTES, frame.offset + frame.size - start))):
                    break
                indexer.printed(data)
        indexer.line(frame, after - before)
        before = after
        if enough():
            return


def checkpoints(source: Source, *, offset: int = 0) -> Iterator[tuple[int, Checkpoint]]:
    """Yield the checkpoints of an index from that byte on, each with the offset of the next; none if there is no index.

    One that cannot be true is where it ends: what is derived can be made again, and is not trusted.
    """
    last = Checkpoint()
    try:
        for after, line in lines(source, offset, INDEX):
            found = _parsed(line)
            if found is None or (found.ms, found.bytes, found.log) < (last.ms, last.bytes, last.log):
                return
            last = found
            yield after, found
    except NotFound:
        return


def _parsed(line: bytes) -> Checkpoint | None:
    try:
        data = json.loads(line)
        numbers, texts = [data[name] for name in ("ms", "bytes", "log")], [data[name] for name in ("size", "modes")]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not all(type(number) is int and number >= 0 for number in numbers):
        return None
    return Checkpoint(*numbers, *texts) if all(isinstance(text, str) for text in texts) else None
