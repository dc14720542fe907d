"""An SFTP server, version 3, for one client on standard input and output, with the extensions of OpenSSH's client.

It does what OpenSSH's sftp-server does, with the rights of the process as the only limit, but for set-user-ID,
set-group-ID and sticky bits, which it never sets. Source: draft-ietf-secsh-filexfer-02; OpenSSH PROTOCOL §4.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from runtime.node.copying import wire
from runtime.node.copying.channel import Channel, Gone, reason
from runtime.node.copying.sftp_operations import EXTENSIONS, OPERATIONS, Operations, Refused
from runtime.node.copying.wire import BadPacket, Kind, Packet, Status, packet, status, string, uint32

FLUSH_BYTES = 128 * 1024
"""Answers are sent together up to so many bytes, and before more requests are waited for."""
LENGTH_BYTES = 4
FLUSH_PIECES = 512
"""writev(2) takes up to 1024 pieces."""
Operation = Callable[[int, Packet], bytes]


class SftpServer:
    """Answers one client's requests, one after the other, as they come."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._operations = Operations(channel, self._send)
        self._answers: list[bytes] = []
        self._waiting = 0
        self._begun = False

    def serve(self) -> int:
        """Serve until the client ends its side. Returns the exit code."""
        pending = bytearray()
        try:
            while data := self._channel.read_some():
                pending += data
                del pending[: self._answer_all(pending)]
                self._flush()
        except BadPacket as error:
            self._channel.say(f"sftp: {error}")
            return 1
        except Gone:
            return 1
        finally:
            self._operations.end()
        return 0

    def _answer_all(self, pending: bytearray) -> int:
        """Answer each whole packet; return how many bytes they were."""
        at = 0
        while len(pending) - at >= LENGTH_BYTES:
            length = int.from_bytes(pending[at : at + LENGTH_BYTES], "big")
            if not 0 < length <= wire.PACKET_LIMIT:
                raise BadPacket(f"a packet of {length} bytes; at most {wire.PACKET_LIMIT} are taken")
            begin = at + LENGTH_BYTES
            if len(pending) < begin + length:
                break
            with memoryview(pending) as view:
                body = bytes(view[begin : begin + length])
            self._answer(Packet(memoryview(body)))
            at = begin + length
        return at

    def _answer(self, request: Packet) -> None:
        kind = request.byte()
        number = request.uint32()
        if not self._begun:
            if kind != Kind.INIT:
                raise BadPacket("the first packet is not INIT")
            self._begun = True
            self._send(packet(Kind.VERSION, uint32(wire.VERSION), *map(string, EXTENSIONS)))
            return
        operation = self._operation(kind, request)
        try:
            self._send(operation(number, request))
        except Refused as refusal:
            self._send(status(number, refusal.code, str(refusal)))
        except OSError as error:
            self._send(status(number, wire.status_of(error), reason(error)))

    def _operation(self, kind: int, request: Packet) -> Operation:
        name = request.string() if kind == Kind.EXTENDED else kind
        found = OPERATIONS.get(name)
        return functools.partial(found, self._operations) if found else _unsupported

    def _send(self, answer: bytes) -> None:
        self._answers.append(answer)
        self._waiting += len(answer)
        if self._waiting >= FLUSH_BYTES or len(self._answers) >= FLUSH_PIECES:
            self._flush()

    def _flush(self) -> None:
        if self._answers:
            self._channel.write(*self._answers)
            self._answers, self._waiting = [], 0


def _unsupported(number: int, _: Packet) -> bytes:
    return status(number, Status.UNSUPPORTED)
