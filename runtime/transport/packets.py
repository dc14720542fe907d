"""How we take packets apart and put them together: what goes over the wire is asyncssh's, at a fraction of its work.

asyncssh 2.24.1 cuts each packet off the front of one `bytes`, at a copy of all that is behind it, and each field out of
the packet at a further copy; it sets its ciphers' keys up for each packet, writes a log line that nobody sees for each,
and sends an empty packet ahead of each. Channel data, which is nearly all there is when speed matters, goes a short way
here. Every other packet, and every one with anything unusual about it, goes asyncssh's own way with all its checks.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from struct import Struct
from typing import Any

from asyncssh import DisconnectError, ProtocolError
from asyncssh.channel import SSHChannel
from asyncssh.connection import SSHConnection
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_IGNORE,
    MSG_NEWKEYS,
    MSG_USERAUTH_LAST,
)
from asyncssh.misc import MACError
from asyncssh.packet import SSHPacket

from runtime.transport.ciphers import LENGTH_BYTES, TAG_BYTES, Buffer, PacketCipher, kept

_FEED_BYTES = 8 * 1024
"""How much asyncssh gets at once of what is not encrypted yet: it copies what is behind a packet for each packet."""

_HEAD = Struct(">IB")
"""Packet length, padding length (RFC 4253 §6)."""
_LEAST_PADDING = 4
_FRAME_BYTES = _HEAD.size + _LEAST_PADDING + 15 + TAG_BYTES
"""The most that a frame is longer than its payload; 16 is the largest block."""
_DATA = Struct(">BBII")
"""Padding length, message type, channel, and the data's length (RFC 4254 §5.2) or how much the window grows."""
_PAYLOAD = Struct(">BII")
"""The same without the padding length."""
_TYPE = [bytes((number,)) for number in range(256)]


_RECEIVE_BYTES = 256 * 1024
"""The most that is read from a socket at once, as asyncio does."""

_thread = threading.local()


def receive_buffer() -> memoryview:
    """Return the one buffer of this thread's event loop: what is read into it is taken out before anything else runs.

    So a connection that is idle has none, and no read has to find a quarter of a megabyte first.
    """
    buffer: memoryview | None = getattr(_thread, "buffer", None)
    if buffer is None:
        _thread.buffer = buffer = memoryview(bytearray(_RECEIVE_BYTES))
    return buffer


class Packets(SSHConnection, asyncio.BufferedProtocol):
    """Named before asyncssh's client or server connection among the bases of ours, so that `super()` is that one."""

    def prepare(self) -> None:
        """Begin with nothing; called once, right after construction."""
        self._backlog = bytearray()
        """What has arrived and is not worked off: part of a packet, or what follows one whose handler is awaited."""
        self._feeding = False
        self._at_end: list[Callable[[], None]] = []
        self._heard = 0.0
        """When something arrived last, by the event loop's clock."""

    # --- what arrives ------------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the socket is to be read into."""
        return receive_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the socket has brought."""
        self.data_received(receive_buffer()[:nbytes])

    def data_received(self, data: Buffer, datatype: int | None = None) -> None:
        """Take what arrived, by the socket or through another connection."""
        self._backlog += data
        self._feeding = True
        try:
            self._feed()
        finally:
            self._feeding = False
            while self._at_end:
                self._at_end.pop()()

    def at_end_of_input(self, call: Callable[[], None]) -> None:
        """Call something when all that has just arrived is worked off, and so once; at once if nothing is."""
        if self._feeding:
            self._at_end.append(call)
        else:
            call()

    def _feed(self) -> None:
        """Work off what has arrived, up to an incomplete packet or one whose handler is awaited."""
        while self._backlog and self._transport and not self._busy():
            if not isinstance(self._recv_encryption, PacketCipher):
                piece = bytes(self._backlog[:_FEED_BYTES])
                del self._backlog[:_FEED_BYTES]
                super().data_received(piece)
            elif not self._take_frames(self._recv_encryption):
                return

    def _busy(self) -> bool:
        # While a packet's handler is awaited, 2.24.1 puts a lambda in place of its own bound method.
        return getattr(self._recv_handler, "__self__", None) is not self

    def _take_frames(self, cipher: PacketCipher) -> bool:
        """Work off whole packets up to one that goes asyncssh's way; return False when only part of one is left."""
        # Nothing may clear the buffer while there is a view of it; whoever ends the connection clears the new one.
        arrived, self._backlog = self._backlog, bytearray()
        self._reset_keepalive_timer()
        done, frame = 0, None
        try:
            with memoryview(arrived) as view:
                while self._transport:
                    if len(view) - done < LENGTH_BYTES:
                        break
                    length = cipher.length(self._recv_seq, view[done : done + LENGTH_BYTES])
                    if length > self._max_recv_pktlen:
                        raise ProtocolError("Max packet size exceeded")
                    end = done + LENGTH_BYTES + length + TAG_BYTES
                    if end > len(view):
                        break
                    content = cipher.open(self._recv_seq, view[done:end])
                    if content is None:
                        raise MACError("MAC verification failed")
                    if not self._take_data(content):
                        frame = bytes(view[done:end])
                        cipher.opened = content
                        done = end
                        break
                    done = end
        except DisconnectError as error:
            self._send_disconnect(error.code, error.reason, error.lang)
            self._force_close(error)
        except Exception:  # as asyncssh's own loop over its packets does
            self.internal_error()
        if not self._transport:
            return False
        del arrived[:done]
        self._backlog = arrived
        if frame is None:
            return False
        super().data_received(frame)
        return True

    def _take_data(self, content: bytes) -> bool:
        """Hand data, or room for more of it, to its channel; return False, having done nothing, for all else."""
        if len(content) < _DATA.size:
            return False
        padding, pkttype, number, size = _DATA.unpack_from(content)
        if not self._auth_final or self._kex or self._next_recv_encryption or self._decompressor:
            return False
        channel = self._channels.get(number)
        if channel is None or channel._recv_state != "open" or size == 0:
            return False
        rest = len(content) - _DATA.size - padding
        if pkttype == MSG_CHANNEL_DATA and rest == size <= channel._recv_window:
            self._recv_seq = (self._recv_seq + 1) & 0xFFFFFFFF
            channel._accept_data(content[_DATA.size : _DATA.size + size])
            return True
        if pkttype == MSG_CHANNEL_WINDOW_ADJUST and rest == 0:
            self._recv_seq = (self._recv_seq + 1) & 0xFFFFFFFF
            channel._send_window += size
            if channel._send_buf:
                channel._flush_send_buf()
            return True
        return False

    def silence(self) -> float:
        """Return for how many seconds nothing has arrived, once logged in: at most two intervals of keepalive."""
        return self._loop.time() - self._heard if self._heard else 0.0

    def _reset_keepalive_timer(self) -> None:
        # 2.24.1 makes a new timer for each piece that arrives; here the one there is looks at the time of the last.
        if self._auth_complete and self._keepalive_timer:
            self._heard = self._loop.time()
        else:
            super()._reset_keepalive_timer()

    def _keepalive_timer_callback(self) -> None:
        left = self._heard + self._keepalive_interval - self._loop.time()
        if left > 0:
            self._keepalive_timer = self._loop.call_later(left, self._keepalive_timer_callback)
        else:
            super()._keepalive_timer_callback()

    def _process_newkeys(self, pkttype: int, pktid: int, packet: SSHPacket) -> None:
        super()._process_newkeys(pkttype, pktid, packet)
        self._recv_encryption = kept(self._recv_encryption)
        if isinstance(self._recv_encryption, PacketCipher):
            # What came in the same piece behind it is for us.
            self._backlog[:0], self._inpbuf = self._inpbuf, b""

    # --- what is sent ------------------------------------------------------------------------------------------

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        """Send a packet, or keep it for after the key exchange.

        2.24.1 sends an empty MSG_IGNORE ahead of each, for ciphers in CBC mode (RFC 4251 §9.3.1); we have none.
        """
        cipher = self._sealer() if pkttype > MSG_USERAUTH_LAST else None
        if cipher:
            size = 1 + sum(map(len, args))
            frame = memoryview(bytearray(size + _FRAME_BYTES))
            self._send(frame[: self._seal(cipher, frame, size, _TYPE[pkttype], *args)])
        elif pkttype != MSG_IGNORE:
            super().send_packet(pkttype, *args, handler=handler)

    def send_data(self, channel: SSHChannel[bytes], data: memoryview) -> None:
        """Write data to a channel; what may go at once goes in one piece and without a copy in the channel's buffer.

        Raises OSError when the channel is closed for sending.
        """
        waits = channel._send_buf or channel._send_state != "open" or self._held()
        cipher = None if waits else self._sealer()
        now = min(len(data), channel._send_window) if cipher else 0
        if cipher and now:
            largest, number = channel._send_pktsize, channel._send_chan
            frames = memoryview(bytearray(now + (now // largest + 1) * (_PAYLOAD.size + _FRAME_BYTES)))
            end = 0
            for start in range(0, now, largest):
                piece = data[start : min(start + largest, now)]
                fields = _PAYLOAD.pack(MSG_CHANNEL_DATA, number, len(piece))
                end += self._seal(cipher, frames[end:], _PAYLOAD.size + len(piece), fields, piece)
            channel._send_window -= now
            self._send(frames[:end])
        if now < len(data):
            channel.write(bytes(data[now:]))

    def _held(self) -> bool:
        """Whether channels are to send nothing for now."""
        return not self._kex_complete

    def _send(self, data: Buffer) -> None:
        super()._send(data)  # type: ignore[arg-type]  # asyncssh's own is never but bytes; its transports take any

    def _sealer(self) -> PacketCipher | None:
        """Return the cipher for a packet that may go now; None when there is more to it."""
        cipher = self._send_encryption
        if (
            isinstance(cipher, PacketCipher)
            and self._kex_complete
            and self._auth_complete
            and not self._compressor
            and self._rekey_bytes_sent < self._rekey_bytes
            and not (self._rekey_seconds and self._loop.time() >= self._rekey_time)  # as 2.24.1: the same clock
        ):
            return cipher
        return None

    def _seal(self, cipher: PacketCipher, frames: memoryview, size: int, *payload: Buffer) -> int:
        """Put the frame of one packet, whose payload has that size, to the start of `frames`; return its length."""
        padding = -(1 + size) % self._send_blocksize
        if padding < _LEAST_PADDING:
            padding += self._send_blocksize
        length = 1 + size + padding
        seq = self._send_seq
        self._send_seq = (seq + 1) & 0xFFFFFFFF
        self._rekey_bytes_sent += length
        end = LENGTH_BYTES + length + TAG_BYTES
        packet = b"".join((_HEAD.pack(length, padding), *payload, os.urandom(padding)))
        cipher.seal(seq, memoryview(packet), frames[:end])
        return end

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """End a key exchange."""
        super().send_newkeys(k, h)
        self._send_encryption = kept(self._send_encryption)

    _packet_handlers = {  # noqa: RUF012  # the base class's own form; asyncssh looks handlers up here, not by name
        **SSHConnection._packet_handlers,
        MSG_NEWKEYS: _process_newkeys,
    }
