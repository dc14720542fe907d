"""The bytes between one SSH channel and one TCP connection, both ways.

Either way ends by itself (EOF here is EOF there) and slows down by itself: who does not read makes the other wait, and
what waits in between is bounded by the channel's window and the socket's buffer. What one side wrote before its end
reaches the other.
"""

from __future__ import annotations

import asyncio
import socket
from typing import NamedTuple, Protocol, cast

from asyncssh.channel import SSHChannel

from runtime.transport.packets import Packets, receive_buffer

KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 60, 15, 4
"""Seconds of silence before a probe, between two, and how many in vain end it: a host that is gone without a word is
noticed within two minutes, while one that is there may be silent for hours."""
LINGER_SECONDS = 5.0
"""How long one half of a connection outlives the other while nothing moves: a server that has said its last word, or a
client that is gone, has no more use for what is left."""


class Ended(NamedTuple):
    """How a relay ended."""

    by_far: bool
    """Whether the TCP side ended, or broke, before the channel had said that nothing more comes."""
    error: OSError | None
    """What broke the TCP connection, if anything did."""
    sent: int
    """Bytes from the channel to the socket."""
    received: int
    """Bytes from the socket to the channel."""


class FarSide(Protocol):
    """What a relay carries to and from: a TCP connection, or a channel of another connection (`splice`)."""

    closed: asyncio.Event
    full: bool
    """Whether nothing is to be written for now."""

    def write(self, data: bytes) -> None:
        """Send bytes of the channel."""
        ...

    def near_eof(self, *, gone: bool) -> None:
        """Learn that no more comes from the channel, or that it is gone altogether."""
        ...

    def pause_reading(self) -> None:
        """Read nothing while the channel is full."""
        ...

    def resume_reading(self) -> None:
        """Go on reading."""
        ...


class Relay:
    """Made with a channel's session, which passes on its callbacks; what comes before `run` waits in the channel."""

    def __init__(self, channel: SSHChannel[bytes], *, patient: bool = False) -> None:
        """Take the channel. `patient` is to keep a far side that has said its last word until the channel has too."""
        self._channel = channel
        self._patient = patient
        self._far: FarSide | None = None
        self._early: list[bytes] = []
        self._eof = False
        self._lost = False

    @property
    def running(self) -> bool:
        """Whether there is a far side already."""
        return self._far is not None

    async def run(self, sock: socket.socket) -> Ended:
        """Carry bytes until the TCP connection is closed, and all that came from it was written to the channel.

        The socket is connected, and the relay's from now on. The caller then ends the channel.
        """
        _keep_alive(sock)
        loop = asyncio.get_running_loop()
        far = _Far(self._channel, self._patient)
        try:
            await loop.create_connection(lambda: far, sock=sock)
            await self.carry(far)
        finally:
            far.abort()
            sock.close()
        return Ended(far.ended_first, far.error, far.sent, far.received)

    async def carry(self, far: FarSide) -> None:
        """Carry bytes to and from something that is open, until that has ended."""
        self._far = far
        for data in self._early:
            far.write(data)
        self._early.clear()
        if self._eof or self._lost:
            far.near_eof(gone=self._lost)
        if not far.full:
            self._channel.resume_reading()
        await far.closed.wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes of the channel."""
        if self._far is None:
            self._early.append(data)
            self._channel.pause_reading()
        else:
            self._far.write(data)

    def eof_received(self) -> bool:
        """Learn that no more comes from the channel; the other way stays open (True)."""
        self._eof = True
        if self._far is not None:
            self._far.near_eof(gone=False)
        return True

    def pause_writing(self) -> None:
        """Read nothing from the socket while the channel is full."""
        if self._far is not None:
            self._far.pause_reading()

    def resume_writing(self) -> None:
        """Go on reading."""
        if self._far is not None:
            self._far.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Learn that the channel is gone, with what it had to say said or not."""
        self._lost = True
        if self._far is not None:
            self._far.near_eof(gone=True)


class Relayed:
    """What a channel's session is beside asyncssh's class, first among its bases: its relay gets all that comes."""

    _relay: Relay

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Pass it on; the relay keeps it until there is somebody to relay to."""
        self._relay.data_received(data)

    def eof_received(self) -> bool:
        """Pass it on."""
        return self._relay.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._relay.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._relay.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._relay.connection_lost(exc)


class _Far(asyncio.BufferedProtocol):
    """The TCP side. What one turn of the event loop brings from either side goes to the other in one piece."""

    def __init__(self, channel: SSHChannel[bytes], patient: bool) -> None:
        self._channel = channel
        self._patient = patient
        self._connection = cast("Packets", channel.get_connection())
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._near_eof = False
        self._eof = False
        self._gone = False
        self._lingering: asyncio.TimerHandle | None = None
        self.closed = asyncio.Event()
        self.full = False
        self.ended_first = False
        self.error: OSError | None = None
        self.sent = 0
        self.received = 0

    # --- from the channel -----------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes of the channel; those for a connection that is closing already are lost with it."""
        if self._transport is not None and not self._transport.is_closing():
            self.sent += len(data)
            self._unsent.append(data)
            if len(self._unsent) == 1:
                self._connection.at_end_of_input(self._flush)

    def _flush(self) -> None:
        if self._unsent and self._transport is not None:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def near_eof(self, *, gone: bool) -> None:
        """Pass on that no more comes; the socket closes once that is sent, if the other way has ended too."""
        if self._transport is None or self._gone:
            return
        self._flush()
        self._near_eof, self._gone = True, gone
        if gone or self._eof:
            self._transport.close()  # what is written is sent first
            self._linger()
        elif not self._transport.is_closing():
            self._transport.write_eof()

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once."""
        if self._lingering is not None:
            self._lingering.cancel()
        if self._transport is not None:
            self._transport.abort()

    # --- from the socket ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return receive_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        if not self._channel.is_closing():
            self._connection.send_data(self._channel, receive_buffer()[:nbytes])

    def eof_received(self) -> bool:
        """Pass the end on, and keep the other way open, unless that has ended already."""
        self._eof = True
        self.ended_first = not self._near_eof
        if not self._channel.is_closing():
            self._channel.write_eof()
        if self._near_eof:
            return False
        if not self._patient:
            self._linger()
        return True

    def pause_writing(self) -> None:
        """Let the channel's peer wait while the socket is full."""
        self.full = True
        self._channel.pause_reading()

    def resume_writing(self) -> None:
        self.full = False
        self._channel.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, OSError):
            self.error = exc
        if not self._eof and not self._near_eof:
            self.ended_first = True
        self._transport = None
        self.closed.set()

    def _linger(self) -> None:
        """Give what is left of the connection its time, as long as something moves."""
        if self._lingering is not None:
            self._lingering.cancel()
        loop = asyncio.get_running_loop()
        self._lingering = loop.call_later(LINGER_SECONDS, self._lingered, self._moved())

    def _lingered(self, before: tuple[int, int]) -> None:
        if self._transport is None:
            return
        if self._moved() != before:
            self._linger()
        else:
            self._transport.abort()

    def _moved(self) -> tuple[int, int]:
        return self.sent, self._transport.get_write_buffer_size() if self._transport is not None else 0


def _keep_alive(sock: socket.socket) -> None:
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_IDLE),
        ("TCP_KEEPINTVL", KEEPALIVE_INTERVAL),
        ("TCP_KEEPCNT", KEEPALIVE_COUNT),
    ):
        if hasattr(socket, option):  # macOS has other names for some
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
