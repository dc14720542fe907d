"""tsh play: shows a recorded session again, from the cluster or from files.

space      pause and go on              left, right    five seconds back and forth
+ and -    faster and slower            0 to 9         jump to so many tenths
s          skip pauses, or not          q              quit
"""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runtime.audit.reading import Source
from runtime.audit.replay import Harmless, Reel
from runtime.cli import console

SEEK_SECONDS = 5.0
IDLE_SECONDS = 2.0
"""How long pauses are that are skipped."""
FOLLOW_SECONDS = 1.0
"""Between two looks for more of a session that goes on."""
BURST_BYTES = 256 * 1024
"""Between two looks at the keys while there is more to be shown than time for it."""
FASTEST, SLOWEST = 16.0, 1 / 16
_LEFT, _RIGHT = b"\x1b[D", b"\x1b[C"
_AFTERWARDS = b"\x1b[?1049l\x1b[!p\x1b[?5l\x1b[?1;9;1000;1002;1003;1004;1006;2004l\x1b>\x1b[0m\x1b(B\x0f\x1b[?25h\r\n"
"""Leaves a terminal as a shell wants it, whatever the recording left it in: screen, modes, mouse, colours, cursor."""


def is_sid(text: str) -> bool:
    """Tell whether that is a session's id."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


@dataclass(slots=True)
class Playing:
    """Where a player is, in seconds of the recording. Pure: keys and time in, position out."""

    length: Callable[[], float]
    """Tells how long the recording is, by now."""
    at: float = 0.0
    speed: float = 1.0
    idle: float | None = None
    """Pauses are no longer than this; None: as long as they were."""
    usual_idle: float = IDLE_SECONDS
    """What the key for it takes."""
    shown: float = 0.0
    """When the last output was that was shown."""
    paused: bool = False
    over: bool = False

    def pass_time(self, elapsed: float) -> None:
        """Let so many seconds of the viewer's go by."""
        if not self.paused:
            self.at += elapsed * self.speed

    def wait(self, due: float) -> float:
        """Return how many seconds of the viewer's there are until that time, the pause before it made shorter."""
        if self.paused:
            return 3600.0
        if self.idle is not None:
            self.at = max(self.at, due - self.idle)
        return max(0.0, (due - self.at) / self.speed)

    def press(self, key: bytes) -> bool:
        """Do what a key says; return whether the position has jumped."""
        before = self.at
        match key:
            case b" ":
                self.paused = not self.paused
            case b"+" | b"=":
                self.speed = min(FASTEST, self.speed * 2)
            case b"-":
                self.speed = max(SLOWEST, self.speed / 2)
            case b"s":
                self.idle = self.usual_idle if self.idle is None else None
            case b"q" | b"\x03" | b"\x04":
                self.over = True
            case _ if key == _LEFT:
                # Where pauses are skipped, from before the one that this is in: it would be skipped again.
                here = self.at if self.idle is None else min(self.at, self.shown)
                self.at = max(0.0, here - SEEK_SECONDS)
            case _ if key == _RIGHT:
                self.at = min(self.length(), self.at + SEEK_SECONDS)
            case _ if len(key) == 1 and key.isdigit():
                self.at = self.length() * int(key) / 10
            case _:
                pass
        return self.at != before


def play(source: Source, *, speed: float, idle: float | None, follow: bool) -> None:
    """Show a recording: with its pauses on a terminal, at once anywhere else.

    Of a session that goes on, a terminal is shown what comes with `follow`; else, where it ends for now is said.
    """
    out = sys.stdout.buffer
    reel = Reel(source)
    if not sys.stdout.isatty():
        while (coming := reel.peek()) is not None:
            out.write(coming[1])
            reel.take()
        out.flush()
    else:
        playing = Playing(lambda: reel.length() / 1000, speed=speed, idle=idle)
        if idle is not None:
            playing.usual_idle = idle
        try:
            with _keys() as read_key:
                _perform(reel, playing, read_key, out.write, out.flush, follow=follow)
        finally:
            out.write(_AFTERWARDS)
            out.flush()
        if playing.over:
            return
    if not reel.over:
        why = "the session goes on: this is what there is so far" if follow else "the recording has no end here"
        console.say(why)


def _perform(
    reel: Reel,
    playing: Playing,
    read_key: Callable[[float], bytes],
    write: Callable[[bytes], object],
    flush: Callable[[], object],
    *,
    follow: bool = False,
) -> None:
    harmless, last, caught_up, written = Harmless(), time.monotonic(), False, 0
    while not playing.over:
        coming = reel.peek()
        if coming is not None and caught_up:  # as it happens, not as long after what was before as that was
            playing.at = max(playing.at, coming[0] / 1000)
        caught_up = coming is None and not reel.over and follow
        if coming is not None and coming[0] / 1000 <= playing.at:
            playing.shown = coming[0] / 1000
            write(harmless.feed(coming[1]))
            reel.take()
            written += len(coming[1])
            if written < BURST_BYTES:
                continue
        flush()
        if written >= BURST_BYTES:
            wait, written = 0.0, 0
        elif caught_up:
            wait = 3600.0 if playing.paused else FOLLOW_SECONDS
        else:
            due = (reel.at if coming is None else coming[0]) / 1000
            wait = playing.wait(due)
            if coming is None and playing.at >= due:
                return
        key = read_key(wait)
        now = time.monotonic()
        playing.pass_time(now - last)
        last = now
        if key and playing.press(key):
            harmless, caught_up = Harmless(), False
            for piece in reel.seek(round(playing.at * 1000)):
                write(harmless.feed(piece))
            playing.shown = reel.at / 1000


@contextmanager
def _keys() -> Iterator[Callable[[float], bytes]]:
    """Yield what reads one key within so many seconds, from a terminal that shows none of them."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read_key(seconds: float) -> bytes:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 16) if ready else b""

    tty.setraw(descriptor)
    try:
        yield read_key
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> bytes:
    time.sleep(seconds)
    return b""
