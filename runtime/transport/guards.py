"""What we add to both ends of an asyncssh connection: limits on what a peer may send, and on what it may leave unread.

Each override names the finding of docs/adr/0005 that it answers and what asyncssh 2.24.1 does without it; `versions`
refuses to start with a release in which these internals were not read.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import asyncssh
from asyncssh import DisconnectError, ProtocolError
from asyncssh.channel import SSHChannel, SSHServerChannel
from asyncssh.constants import (
    DEFAULT_LANG,
    DISC_BY_APPLICATION,
    DISC_PROTOCOL_ERROR,
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_GLOBAL_REQUEST,
    MSG_KEX_LAST,
    MSG_NEWKEYS,
    OPEN_RESOURCE_SHORTAGE,
)
from asyncssh.packet import PacketDecodeError, SSHPacket

from runtime.transport.ciphers import Buffer
from runtime.transport.limits import Limits
from runtime.transport.packets import Packets
from runtime.transport.versions import require_tested

require_tested(asyncssh.__version__)

logger = logging.getLogger(__name__)


class Peer(NamedTuple):
    """The TCP address of the other side."""

    host: str
    port: int


OnRefused = Callable[[Peer, str], None]
"""Told of each refusal: who, and why."""


class Guards(Packets):
    """Named before asyncssh's client or server connection among the bases of ours, so that `super()` is that one."""

    def guard(self, limits: Limits, on_refused: OnRefused | None) -> None:
        """Put the limits in force; called once, right after construction."""
        self.prepare()
        self.limits = limits
        self.peer = Peer("", 0)
        self.broke_protocol = False
        """Whether the connection was ended because the peer sent what no honest one sends."""
        self._on_refused = on_refused
        self._reading_paused = False
        self._writing_paused = False
        self._rekey_timer: asyncio.TimerHandle | None = None
        self._max_recv_pktlen = limits.packet  # A2: 2.24.1 has the check, this is its limit

    def refused(self, reason: str) -> None:
        """Log one refusal, and report it."""
        logger.warning("refused %s port %d: %s", self.peer.host, self.peer.port, reason)
        if self._on_refused:
            self._on_refused(self.peer, reason)

    # --- what arrives ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who it is, and from how much unsent data on channels wait (A6)."""
        address = transport.get_extra_info("peername") or ("", 0)
        self.peer = Peer(str(address[0]), int(address[1]))
        if isinstance(transport, asyncio.WriteTransport):
            transport.set_write_buffer_limits(high=self.limits.write_pause)
        super().connection_made(transport)

    def _feed(self) -> None:
        # A2: 2.24.1 goes on reading, and keeps it all, while a packet's handler is awaited.
        super()._feed()
        if not self._transport:
            return
        full = len(self._backlog) > self.limits.packet and self._busy()
        if full != self._reading_paused:
            self._reading_paused = full
            (self._transport.pause_reading if full else self._transport.resume_reading)()

    def _finish_recv_packet(
        self, pkttype: int, seq: int, _task: asyncio.Task[None] | None = None, is_async: bool = False
    ) -> None:
        # A6: 2.24.1 goes on answering a peer that has begun a key exchange and never ends it.
        if pkttype > MSG_KEX_LAST and not is_async and (self._kex or self._next_recv_encryption):
            raise ProtocolError(f"Packet type {pkttype} during a key exchange (RFC 4253 section 7.1)")
        super()._finish_recv_packet(pkttype, seq, _task, is_async)
        if is_async:
            self._feed()

    def _process_channel_open(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        # A3: 2.24.1 refuses 0 only. With 1, two MiB to send are two million packets, and the loop stands still.
        # A8: 2.24.1 opens as many channels as it is asked for.
        fields = fields_of(packet)
        kind, number, _, largest = fields.get_string(), fields.get_uint32(), fields.get_uint32(), fields.get_uint32()
        self._check_packet_size(largest)
        sessions = sum(isinstance(channel, SSHServerChannel) for channel in self._channels.values())
        too_many = ""
        if kind == b"session" and sessions >= self.limits.sessions:
            too_many = f"{self.limits.sessions} sessions are open on this connection"
        elif len(self._channels) >= self.limits.channels:
            too_many = f"{self.limits.channels} channels are open on this connection"
        if too_many:
            self.refused(too_many)
            self.send_channel_open_failure(number, OPEN_RESOURCE_SHORTAGE, too_many, DEFAULT_LANG)
            return
        super()._process_channel_open(pkttype, pktid, packet)

    def _process_global_request(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        # A8: 2.24.1 keeps all that come while one is carried out, such as listening on a port.
        if len(self._global_request_queue) >= self.limits.requests:
            self.drop(f"over {self.limits.requests} of its requests wait to be carried out", breach=True)
            return
        super()._process_global_request(pkttype, pktid, packet)

    def _process_channel_open_confirmation(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        # A3: as above, in the other direction.
        fields = fields_of(packet)
        fields.get_bytes(3 * 4)  # our number, its number, its window
        self._check_packet_size(fields.get_uint32())
        super()._process_channel_open_confirmation(pkttype, pktid, packet)

    def _check_packet_size(self, largest: int) -> None:
        if largest < self.limits.smallest_packet:
            raise ProtocolError(f"Maximum packet size {largest} is below {self.limits.smallest_packet}")

    # --- what is sent ------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """Hold the channels: the socket is full. A6: 2.24.1 does nothing here."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Let the channels go on."""
        self._writing_paused = False
        self._resume_channels()

    def add_channel(self, chan: SSHChannel[Any]) -> int:
        """Give a channel its number, and make it heed the socket and a running key exchange.

        A6: 2.24.1 sends as far as the peer's window (up to 4 GiB) allows, whatever the socket took. Every channel
        passes here when it is made, ours to the peer too (A8): a forwarded port is anybody's to connect to.
        """
        if len(self._channels) >= self.limits.channels:
            reason = f"{self.limits.channels} channels are open on this connection"
            raise asyncssh.ChannelOpenError(OPEN_RESOURCE_SHORTAGE, reason)
        number: int = super().add_channel(chan)
        flush = partial(self._flush, chan, chan._flush_send_buf)
        chan._flush_send_buf = flush  # type: ignore[method-assign]  # per object: asyncssh names the classes itself
        return number

    def _flush(self, chan: SSHChannel[Any], flush: Callable[[], None]) -> None:
        while True:
            if chan._send_buf and self._held():
                chan._pause_resume_writing()
                return
            beyond = max(0, chan._send_window - self.limits.write_pause)
            chan._send_window -= beyond
            flush()
            chan._send_window += beyond
            if not (beyond and chan._send_buf):
                return

    def _held(self) -> bool:
        return self._writing_paused or not self._kex_complete

    def _resume_channels(self) -> None:
        for chan in list(self._channels.values()):
            chan._flush_send_buf()

    def _send(self, data: Buffer) -> None:
        # A6: answers to a peer that asks and does not read; channels were paused long before.
        super()._send(data)
        if self._transport and self._transport.get_write_buffer_size() > self.limits.write_drop:
            self.drop("it does not read what it asks for", breach=True)

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        """Send, or keep for after the key exchange. A6: the list in which 2.24.1 keeps it has no end."""
        super().send_packet(pkttype, *args, handler=handler)
        if self._transport and len(self._deferred_packets) > self.limits.deferred_packets:
            self.drop("it asks for too much during a key exchange", breach=True)

    # --- key exchange after login ------------------------------------------------------------------------------

    def _send_kexinit(self) -> None:
        # A6: 2.24.1 waits for ever for a key exchange to end, once logged in.
        super()._send_kexinit()
        if self._session_id and not self._rekey_timer:
            self._rekey_timer = self._loop.call_later(
                self.limits.rekey_timeout, self.drop, f"a key exchange took over {self.limits.rekey_timeout:g} s"
            )

    def _process_newkeys(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        super()._process_newkeys(pkttype, pktid, packet)
        self._cancel_rekey_timer()

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """End a key exchange, and let the channels go on."""
        super().send_newkeys(k, h)
        self._resume_channels()

    def _cancel_rekey_timer(self) -> None:
        if self._rekey_timer:
            self._rekey_timer.cancel()
            self._rekey_timer = None

    # --- the end -----------------------------------------------------------------------------------------------

    def drop(self, reason: str, *, breach: bool = False) -> None:
        """End the connection at once, without a message that nobody would read."""
        if self._transport:
            self.broke_protocol = breach
            self.refused(reason)
            self._force_close(DisconnectError(DISC_BY_APPLICATION, reason))

    def _send_disconnect(self, code: int, reason: str, lang: str) -> None:
        # Each end that is the peer's fault passes here in 2.24.1: ours and asyncssh's own.
        if code != DISC_BY_APPLICATION and self._transport:
            self.broke_protocol = code == DISC_PROTOCOL_ERROR
            self.refused(reason)
        super()._send_disconnect(code, reason, lang)

    def internal_error(self, exc_info: Any = None, error_logger: Any = None) -> None:
        """End the connection for an exception that nobody caught; 2.24.1 tells its debug log alone."""
        exc_info = exc_info or sys.exc_info()
        if isinstance(exc_info[1], PacketDecodeError):
            self.broke_protocol = True
            self.refused("a packet that cannot be read")
        else:
            logger.error("the connection of %s port %d failed", *self.peer, exc_info=exc_info)
        super().internal_error(exc_info, error_logger)

    def _force_close(self, exc: Exception | None) -> None:
        # A1: 2.24.1 goes on with what is in its buffer after the connection was aborted.
        super()._force_close(exc)
        self._inpbuf = b""
        self._backlog.clear()
        self._cancel_rekey_timer()

    # asyncssh looks handlers up in this table and not by name.
    _packet_handlers = {  # noqa: RUF012  # the base class's own form
        **Packets._packet_handlers,
        MSG_NEWKEYS: _process_newkeys,
        MSG_GLOBAL_REQUEST: _process_global_request,
        MSG_CHANNEL_OPEN: _process_channel_open,
        MSG_CHANNEL_OPEN_CONFIRMATION: _process_channel_open_confirmation,
    }


def fields_of(packet: SSHPacket) -> SSHPacket:
    """Return the packet's fields from the first behind its type, without moving the packet itself."""
    return SSHPacket(packet.get_full_payload()[1:])
