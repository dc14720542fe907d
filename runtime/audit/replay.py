"""A recording made ready to be shown again on somebody's terminal. Pure."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.audit.recording import PRINT, frames

_HELD_BACK = 4096
"""Bytes of a sequence whose end has not come; a longer one is no sequence."""
_UNSAFE = re.compile(
    rb"""
      \x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)  # strings to the terminal itself: its title, its clipboard, its keys
    | \x1b\[[0-?]*[ -/]*[cntqx]                # questions, which a terminal answers as if somebody typed
    | \x1bZ | \x05
    """,
    re.VERBOSE,
)
_UNFINISHED = re.compile(rb"\x1b(?:[\]PX^_][^\x07\x1b]*\x1b?|\[[0-?]*[ -/]*)?\Z")


class Harmless:
    """Takes from output what does something to a terminal other than draw: the viewer is another than who was shown it.

    Not the clipboard, nor the title, is set; and no question is asked whose answer would be typed into a shell.
    """

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what of the output may be shown now."""
        data = self._held + data
        unfinished = _UNFINISHED.search(data, max(0, len(data) - _HELD_BACK))
        cut = unfinished.start() if unfinished else len(data)
        self._held = data[cut:]
        return _UNSAFE.sub(b"", data[:cut])


@dataclass(frozen=True, slots=True)
class Entry:
    """Something was printed at `at`, in seconds: bytes `start` to `end`."""

    at: float
    start: int
    end: int


class Timeline:
    """When what was printed. Pauses may be shorter than they were."""

    def __init__(self, log: bytes, printed: bytes, *, idle: float | None = None) -> None:
        """Read a recording; no pause becomes longer than `idle` seconds."""
        self._printed = printed
        self.entries: list[Entry] = []
        shown, last = 0.0, 0.0
        for frame in frames(log.split(b"\n")):
            at = max(last, frame.ms / 1000)
            pause = at - last if idle is None else min(at - last, idle)
            shown, last = shown + pause, at
            if frame.event == PRINT:
                self.entries.append(Entry(shown, frame.offset, frame.offset + frame.size))
        self.seconds = shown
        """How long it takes."""
        self._times: Sequence[float] = [entry.at for entry in self.entries]

    def data(self, entry: Entry) -> bytes:
        """Return what was printed."""
        return self._printed[entry.start : entry.end]

    def index(self, at: float) -> int:
        """Return the first entry that is not before that time."""
        return bisect_left(self._times, at)

    def until(self, at: float) -> bytes:
        """Return all that was printed before that time."""
        index = self.index(at)
        return self._printed[: self.entries[index - 1].end] if index else b""
