"""tsh play: shows a recorded session again, from the cluster or from files.

space      pause and go on              left, right    five seconds back and forth
+ and -    faster and slower            0 to 9         jump to so many tenths
q          quit
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
from datetime import datetime
from pathlib import Path

from runtime.audit.recording import BYTES, LOG, Part, file_name
from runtime.audit.replay import Harmless, Timeline
from runtime.cli.tsh_lists import Session, ask
from runtime.core.errors import InvalidInput, NotFound

SEEK_SECONDS = 5.0
FASTEST, SLOWEST = 16.0, 1 / 16
_RESET = b"\x1bc"  # a terminal as it is when it is switched on (ECMA-48, RIS)
_LEFT, _RIGHT = b"\x1b[D", b"\x1b[C"


def from_cluster(session: Session, sid: str, *, insecure: bool, now: Callable[[], datetime]) -> tuple[bytes, bytes]:
    """Return log and bytes of a recording. Raises AccessDenied, NotFound, Unavailable."""
    found: dict[Part, bytes] = {}
    for part in (LOG, BYTES):
        data = bytearray()
        while True:
            where = [("offset", str(len(data)))]
            reply = ask(session, f"/webapi/recordings/{sid}/{part}", where, insecure=insecure, now=now())
            if not (piece := reply.bytes("data")):
                break
            data += piece
        found[part] = bytes(data)
    return found[LOG], found[BYTES]


def from_files(path: Path) -> tuple[bytes, bytes]:
    """Return log and bytes of a recording, one of whose two files is named. Raises NotFound, InvalidInput."""
    name = path.name
    for part in (BYTES, LOG):
        if name.endswith(f".session.{part}"):
            sid = name.removesuffix(f".session.{part}")
            break
    else:
        raise InvalidInput(
            f"{path} is no file of a recording: those end in .session.bytes and .session.log",
            hint="Name one of the two; the other has to lie beside it.",
        )
    try:
        return path.with_name(file_name(sid, LOG)).read_bytes(), path.with_name(file_name(sid, BYTES)).read_bytes()
    except OSError as error:
        raise NotFound(
            f"{error.filename} cannot be read: {error.strerror}", hint="A recording is two files, side by side."
        ) from error


def is_sid(text: str) -> bool:
    """Tell whether that is a session's id."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


@dataclass(slots=True)
class Playing:
    """Where a player is. Pure: keys and time in, position out."""

    seconds: float
    """How long the recording is."""
    at: float = 0.0
    speed: float = 1.0
    paused: bool = False
    over: bool = False

    def pass_time(self, elapsed: float) -> None:
        """Let so many seconds of the viewer's go by."""
        if not self.paused:
            self.at += elapsed * self.speed

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
            case b"q" | b"\x03" | b"\x04":
                self.over = True
            case _ if key == _LEFT:
                self.at = max(0.0, self.at - SEEK_SECONDS)
            case _ if key == _RIGHT:
                self.at = min(self.seconds, self.at + SEEK_SECONDS)
            case _ if len(key) == 1 and key.isdigit():
                self.at = self.seconds * int(key) / 10
            case _:
                pass
        return self.at != before


def play(timeline: Timeline, *, speed: float) -> None:
    """Show a recording: with its pauses on a terminal, at once anywhere else."""
    out = sys.stdout.buffer
    if not sys.stdout.isatty():
        for entry in timeline.entries:
            out.write(timeline.data(entry))
        out.flush()
        return
    with _keys() as read_key:
        _perform(timeline, Playing(timeline.seconds, speed=speed), read_key, out.write, out.flush)
    out.write(b"\x1b[0m\x1b[?25h\r\n")
    out.flush()


def _perform(
    timeline: Timeline,
    playing: Playing,
    read_key: Callable[[float], bytes],
    write: Callable[[bytes], object],
    flush: Callable[[], object],
) -> None:
    harmless, index, last = Harmless(), 0, time.monotonic()
    while not playing.over:
        while index < len(timeline.entries) and timeline.entries[index].at <= playing.at:
            write(harmless.feed(timeline.data(timeline.entries[index])))
            index += 1
        flush()
        if index == len(timeline.entries) and playing.at >= playing.seconds:
            return
        following = timeline.entries[index].at if index < len(timeline.entries) else playing.seconds
        wait = 3600.0 if playing.paused else (following - playing.at) / playing.speed
        key = read_key(max(0.0, wait))
        now = time.monotonic()
        playing.pass_time(now - last)
        last = now
        if key and playing.press(key):
            harmless = Harmless()
            write(_RESET + harmless.feed(timeline.until(playing.at)))
            index = timeline.index(playing.at)


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
