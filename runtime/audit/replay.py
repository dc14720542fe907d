"""A recording made ready to be shown again on somebody's terminal."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace

from runtime.audit.events import EventType
from runtime.audit.index import EVERY_LOG_BYTES, Checkpoint, checkpoints
from runtime.audit.modes import HELD_BACK, UNFINISHED, Modes
from runtime.audit.reading import Source, lines, pieces, walk
from runtime.audit.recording import BYTES, LOG, PRINT, Frame, frames

RESET = b"\x1bc"
"""Makes a terminal as it is when it is switched on (ECMA-48, RIS)."""
SHOWN_BYTES = 256 * 1024
"""How much of the output before a place is shown again there, at least."""
FOLLOWED_BYTES = 8 * 1024 * 1024
"""How much before that is looked at for modes, where there is no index."""

_UNSAFE = re.compile(
    rb"""
      \x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)  # strings to the terminal itself: its title, its clipboard, its keys
    | \x1b\[[0-?]*[ -/]*[cntqx]                # questions, which a terminal answers as if somebody typed
    | \x1bZ | \x05
    """,
    re.VERBOSE,
)


class Harmless:
    """Takes from output what does something to a terminal other than draw: the viewer is another than who was shown it.

    Not the clipboard, nor the title, is set; and no question is asked whose answer would be typed into a shell.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what of the output may be shown now."""
        data = self._held + data
        unfinished = UNFINISHED.search(data, max(0, len(data) - HELD_BACK))
        cut = unfinished.start() if unfinished else len(data)
        self._held = data[cut:]
        return _UNSAFE.sub(b"", data[:cut])


class Reel:
    """A recording as it is played: wherever one goes in it, little of it is read, and less is kept.

    All of its methods block, and raise what `Source.read` raises.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._checkpoints: list[Checkpoint] = []
        self._index = 0
        self._coming: Iterator[tuple[int, Frame, bytes]] = walk(source)
        self._log = 0
        self._next: tuple[int, bytes] | None = None
        self.at = 0
        """When the last line that was read was, in milliseconds from the start."""
        self.over = False
        """Whether the end of the session was read."""

    def peek(self) -> tuple[int, bytes] | None:
        """Return what is printed next, and when in milliseconds from the start; None where there is no more, or yet."""
        while self._next is None:
            line = next(self._coming, None)
            if line is None:
                self._coming = walk(self._source, self._log)  # for the next time, when there may be more
                return None
            self._log, frame, data = line
            self.at = max(self.at, frame.ms)
            self.over = frame.event == EventType.SESSION_END
            if data:
                self._next = self.at, data
        return self._next

    def take(self) -> None:
        """Go on behind what `peek` returned."""
        self._next = None

    def seek(self, ms: int) -> Iterator[bytes]:
        """Go to a time, and yield what makes a terminal look as it did then.

        That is: all there was, if it was not much; else the modes that the terminal was in, and the last few hundred
        KiB. What was drawn before those and not again is missing.
        """
        near, start = self._near(ms)
        yield RESET + start.modes.encode()
        self._coming, self._log, self._next = walk(self._source, near.log), near.log, None
        self.at, self.over = near.ms, False
        yield from pieces(self._source, BYTES, start.bytes, near.bytes)
        while (coming := self.peek()) is not None and coming[0] < ms:
            yield coming[1]
            self.take()

    def length(self) -> int:
        """Return how long it is by now, in milliseconds."""
        self._learn()
        last = self._checkpoints[-1] if self._checkpoints else None
        if last is None or not _fits(self._source, last):
            last = _bisected(self._source, None)
        ms = last.ms
        for _, line in lines(self._source, last.log):
            ms = max([ms, *(frame.ms for frame in frames([line]))])
        return ms

    def _near(self, ms: int) -> tuple[Checkpoint, Checkpoint]:
        """Return a place shortly before a time, and that from which on to show output."""
        self._learn()
        number = bisect_right(self._checkpoints, ms, key=lambda each: each.ms) - 1
        if self._checkpoints and number < 0:
            return Checkpoint(), Checkpoint()
        near = self._checkpoints[number] if number >= 0 else None
        if near is not None and _fits(self._source, near):
            start = bisect_right(self._checkpoints, near.bytes - SHOWN_BYTES, key=lambda each: each.bytes) - 1
            return near, self._checkpoints[start] if start >= 0 else Checkpoint()
        near = _bisected(self._source, ms)
        if near.bytes <= SHOWN_BYTES:
            return near, Checkpoint()
        begin, modes = near.bytes - SHOWN_BYTES, Modes()
        for piece in pieces(self._source, BYTES, max(0, begin - FOLLOWED_BYTES), begin):
            modes.feed(piece)
        return near, replace(near, bytes=begin, modes=modes.restore())

    def _learn(self) -> None:
        """Read what there is of the index, or what has come to it."""
        for after, found in checkpoints(self._source, offset=self._index):
            self._index = after
            self._checkpoints.append(found)


def _fits(source: Source, place: Checkpoint) -> bool:
    """Tell whether a checkpoint is one of this recording's: a line ends there, and the next goes on from its bytes."""
    if not place.log or source.read(LOG, place.log - 1, 1) != b"\n":
        return False
    following = (frame for _, line in lines(source, place.log) for frame in frames([line]))
    first = next((frame for frame in following if frame.event in {PRINT, EventType.SESSION_END}), None)
    return first is None or first.event != PRINT or first.offset == place.bytes


def _bisected(source: Source, ms: int | None) -> Checkpoint:
    """Return a place shortly before a time, or before the end, found without an index: the log is in order of time."""
    low, high = Checkpoint(), 1
    while source.read(LOG, high, 1):
        high *= 2
    while high - low.log > EVERY_LOG_BYTES:
        middle = (low.log + high) // 2
        found = _line_after(source, middle)
        if found is None or found.log > high or (ms is not None and found.ms >= ms):
            high = middle
        else:
            low = found
    return low


def _line_after(source: Source, offset: int) -> Checkpoint | None:
    """Return the place behind the first output that begins after that byte of the log."""
    found = lines(source, offset)
    next(found, None)  # of which that was the middle
    for after, line in found:
        for frame in frames([line]):
            if frame.event == PRINT:
                return Checkpoint(frame.ms, frame.offset + frame.size, after)
    return None
