"""A child's file descriptors in the event loop, with back-pressure. Each is non-blocking, and is closed here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

READ_BYTES = 64 * 1024
"""What a Linux pipe holds (pipe(7))."""
CONGESTED_BYTES = 64 * 1024
"""So much may wait for a child that does not read; then its sender is told to hold."""


class Source:
    """What a child writes. `received` gets it piece by piece; `ended` is called once, after the last."""

    def __init__(self, fd: int, *, received: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._fd = fd
        self._received = received
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self.open = True
        """Whether the descriptor is still ours, and may be used."""
        self._finishing = False

    def resume(self) -> None:
        """Read, or go on reading."""
        if self.open and not self._reading:
            self._reading = True
            self._loop.add_reader(self._fd, self._ready)
            self._look()

    def finish(self) -> None:
        """Read what is there, and take that for the end: others may hold the other side open for ever."""
        self._finishing = True
        self._look()

    def pause(self) -> None:
        """Read no more for now: the child is held up once the kernel's buffer is full."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def close(self) -> None:
        """Let go of the descriptor; nothing is called any more. Safe to call twice."""
        if self.open:
            self.pause()
            self.open = False
            os.close(self._fd)

    def _look(self) -> None:
        if self._finishing:
            self._loop.call_soon(self._ready)  # where nothing is left, nothing wakes the loop

    def _ready(self) -> None:
        if not self._reading:
            return
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            if not self._finishing:
                return
            data = b""
        except OSError:
            data = b""  # EIO: nobody has the other side of the terminal any more
        if data:
            self._received(data)
            self._look()
        else:
            self.close()
            self._ended()


class Sink:
    """What a child reads. It takes data from the start, and passes it on once `attach` has given it the descriptor."""

    def __init__(self, congested: Callable[[bool], None]) -> None:
        """`congested` is told to hold (True) and to go on (False)."""
        self._congested = congested
        self._loop = asyncio.get_running_loop()
        self._fd: int | None = None
        self._waiting = bytearray()
        self._writing = False
        self._told = False
        self._over = False
        self._closed = False

    def attach(self, fd: int) -> None:
        """Pass on to this descriptor."""
        self._fd = fd
        if self._closed:
            os.close(fd)
        else:
            self._ready()

    def write(self, data: bytes) -> None:
        """Pass on data; what comes after the end is dropped."""
        if self._closed or self._over:
            return
        self._waiting += data
        if self._writing:
            self._tell()
        else:
            self._ready()

    def end(self) -> None:
        """Close once all has been passed on."""
        self._over = True
        if not self._writing:
            self._ready()

    def close(self) -> None:
        """Let go of the descriptor; what waits is lost. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._waiting.clear()
        self._stop_writing()
        if self._fd is not None:
            os.close(self._fd)
        self._tell()

    def _ready(self) -> None:
        if self._fd is not None and self._waiting:
            try:
                del self._waiting[: os.write(self._fd, self._waiting)]
            except BlockingIOError:
                pass
            except OSError:  # the child has closed its side, or is gone
                self.close()
                return
        if self._waiting:
            if self._fd is not None and not self._writing:
                self._writing = True
                self._loop.add_writer(self._fd, self._ready)
        else:
            self._stop_writing()
            if self._over and self._fd is not None:
                self.close()
                return
        self._tell()

    def _stop_writing(self) -> None:
        if self._writing and self._fd is not None:
            self._writing = False
            self._loop.remove_writer(self._fd)

    def _tell(self) -> None:
        congested = len(self._waiting) > CONGESTED_BYTES if not self._told else bool(self._waiting)
        if congested != self._told:
            self._told = congested
            self._congested(congested)
