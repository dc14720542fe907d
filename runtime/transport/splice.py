"""A client's channel on one connection as the far side of a channel on another: bytes go from one SSH into the other.

As with TCP (`relay`) either way ends and slows down by itself: who does not read makes the other wait, up to the
windows of the two channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import asyncssh
from asyncssh.channel import SSHChannel
from asyncssh.constants import EXTENDED_DATA_STDERR

if TYPE_CHECKING:
    from runtime.transport.packets import Packets

MAX_SAID = 4096
"""Bytes of standard error that are kept."""


class FarChannel(asyncssh.SSHClientSession[bytes]):
    """The session of the far channel. What it says on standard error is kept, and passed on by nobody."""

    def __init__(self, near: SSHChannel[bytes], begun: Callable[[], None] = lambda: None) -> None:
        """Take the channel that bytes come from and go to; `begun` is called when the first comes from the far side."""
        self._begun = begun
        self.closed = asyncio.Event()
        self.full = False
        self.status: int | None = None
        """What the far side ended with, if it said so."""
        self.error: Exception | None = None
        """What broke it, if anything did."""
        self.received = 0
        """Bytes of the far side."""
        self.sent = 0
        """Bytes for the far side."""
        self._said = bytearray()
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._near = near
        self._near_connection = cast("Packets", near.get_connection())

    @property
    def said(self) -> str:
        """What stood on standard error, as far as it was kept; anybody's words."""
        return self._said.decode(errors="replace")

    # --- from the near channel -------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes."""
        if self._channel is not None and not self._channel.is_closing():
            self.sent += len(data)
            cast("Packets", self._channel.get_connection()).send_data(self._channel, memoryview(data))

    def near_eof(self, *, gone: bool) -> None:
        """Pass on that no more comes."""
        if self._channel is None or self._channel.is_closing():
            return
        if gone:
            self._channel.close()
        else:
            self._channel.write_eof()

    def pause_reading(self) -> None:
        """Let the far side wait."""
        if self._channel is not None:
            self._channel.pause_reading()

    def resume_reading(self) -> None:
        """Let it go on."""
        if self._channel is not None:
            self._channel.resume_reading()

    def abort(self) -> None:
        """Close at once."""
        if self._channel is not None:
            self._channel.abort()

    # --- from the far channel --------------------------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Take the channel."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Pass on what comes, and keep what is said beside it."""
        if datatype == EXTENDED_DATA_STDERR:
            self._said += data[: MAX_SAID - len(self._said)]
        elif not self._near.is_closing():
            if not self.received:
                self._begun()
            self.received += len(data)
            self._near_connection.send_data(self._near, memoryview(data))

    def eof_received(self) -> bool:
        """Pass on that no more comes; the other way stays open (True)."""
        if not self._near.is_closing():
            self._near.write_eof()
        return True

    def exit_status_received(self, status: int) -> None:
        """Note how it ended."""
        self.status = status

    def pause_writing(self) -> None:
        """Let the near side wait."""
        self.full = True
        self._near.pause_reading()

    def resume_writing(self) -> None:
        """Let it go on."""
        self.full = False
        self._near.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that it has ended."""
        self.error = exc
        self.closed.set()
