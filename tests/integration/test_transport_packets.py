"""How packets are taken apart and put together: whatever the cipher and the pieces, nothing is lost or let by."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_EOF, MSG_IGNORE
from asyncssh.packet import String, UInt32

from runtime.transport import algorithms
from runtime.transport.ciphers import PacketCipher
from runtime.transport.limits import Limits
from runtime.transport.server import Handler
from tests.servers.rawssh import RawClient, raw_client
from tests.servers.sshport import FORGIVING, Port, pattern, port, until

LIMITS = Limits(penalties=FORGIVING)
MANY = 3_000_000
"""Bytes: more than a window, and no multiple of anything."""


class Echo(asyncssh.SSHServerSession[bytes]):
    """Says what it hears, and makes the other side wait while it is told to wait itself."""

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Keep the channel."""
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        """Accept any command."""
        return True

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Say it."""
        self._channel.write(data)

    def eof_received(self) -> bool:
        """End."""
        self._channel.exit(0)
        return True

    def pause_writing(self) -> None:
        """Read no more."""
        self._channel.pause_reading()

    def resume_writing(self) -> None:
        """Read on."""
        self._channel.resume_reading()


class Echoing(Handler):
    """Has one kind of session."""

    def session_requested(self) -> Echo:
        """Return it."""
        return Echo()


@asynccontextmanager
async def client(
    server: Port, number: int | None = None, **options: Any
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connect with asyncssh's own client."""
    credential = server.users.issue(["joe"])
    key = asyncssh.import_private_key(credential.key)
    certificate = asyncssh.import_certificate(credential.certificate)
    connection = await asyncssh.connect(
        "127.0.0.1",
        number or server.number,
        config=None,
        username="joe",
        client_keys=[(key, certificate)],
        known_hosts=None,
        agent_path=None,
        **options,
    )
    async with connection:
        yield connection


@asynccontextmanager
async def chopped(number: int) -> AsyncIterator[int]:
    """Give a port that passes everything on to another one, in pieces of 1 to 3,000 bytes."""
    dice = random.Random(1)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(dice.choice((1, 3, 17, 3000))):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", number)
        await asyncio.gather(carry(reader, far_writer), carry(far_reader, writer))

    acceptor = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with acceptor:
        yield acceptor.sockets[0].getsockname()[1]


@pytest.mark.parametrize("cipher", algorithms.CIPHERS)
async def test_every_byte_there_and_back_while_keys_change(cipher: str) -> None:
    """With each cipher, and with a key exchange every 400,000 bytes, begun by either side."""
    limits = dataclasses.replace(LIMITS, rekey_bytes=700_000)
    async with (
        port(limits, handler=lambda _proved, _connection: Echoing()) as server,
        client(server, encryption_algs=[cipher], rekey_bytes=400_000) as connection,
    ):
        async with asyncio.timeout(60):
            done = await connection.run("echo", input=pattern(MANY), encoding=None)
        assert done.stdout == pattern(MANY)
        assert server.refusals == []


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com"])
async def test_packets_in_pieces(cipher: str) -> None:
    """However the network cuts them up, the first key exchange included."""
    size = 200_000
    async with (
        port(handler=lambda _proved, _connection: Echoing()) as server,
        chopped(server.number) as number,
        client(server, number, encryption_algs=[cipher]) as connection,
    ):
        async with asyncio.timeout(60):
            done = await connection.run("echo", input=pattern(size), encoding=None)
        assert done.stdout == pattern(size)
        assert server.refusals == []


async def test_our_ciphers_are_in_use() -> None:
    """In both directions, and not replaced by asyncssh's at a key exchange."""
    async with port() as server, raw_client(server.number) as raw:
        assert await raw.log_in("joe", server.users.issue(["joe"]))
        await until(lambda: server.connections, "the handler is made")
        connection: Any = server.connections[0]
        before = connection._recv_encryption
        raw.begin_key_exchange(stall=False)
        await until(lambda: connection._recv_encryption is not before, "the keys are new")
        assert isinstance(connection._recv_encryption, PacketCipher)
        assert isinstance(connection._send_encryption, PacketCipher)


async def test_no_empty_packets_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asyncssh sends ahead of each packet for ciphers in CBC mode is left out."""
    ignored: list[int] = []
    monkeypatch.setitem(
        RawClient._packet_handlers,
        MSG_IGNORE,
        lambda _self, pkttype, _number, _packet: ignored.append(pkttype),
    )
    async with port() as server, raw_client(server.number) as raw:
        assert await raw.log_in("joe", server.users.issue(["joe"]))
        channel = await raw.open_channel()
        assert channel is not None
        raw.execute(channel, "send 100000")
        await until(lambda: raw.data_bytes == 100_000, "all of it arrives")
        assert ignored == []


@asynccontextmanager
async def echo_channel(limits: Limits = LIMITS) -> AsyncIterator[tuple[Port, RawClient, int]]:
    """Start a port, and open a channel on it whose other end echoes."""
    async with port(limits, handler=lambda _proved, _connection: Echoing()) as server, raw_client(server.number) as raw:
        assert await raw.log_in("joe", server.users.issue(["joe"]))
        channel = await raw.open_channel()
        assert channel is not None
        raw.execute(channel, "echo")
        raw.send_packet(MSG_CHANNEL_DATA, UInt32(channel), String(b"first"))
        await until(lambda: raw.data_bytes == 5, "the echo answers")
        yield server, raw, channel


async def test_a_forged_packet_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed bit in a tag: nothing of that packet, or of what follows, is looked at."""
    async with echo_channel() as (server, raw, channel):
        send = raw._send
        monkeypatch.setattr(raw, "_send", lambda data: send(data[:-1] + bytes([data[-1] ^ 1])))
        raw.send_packet(MSG_CHANNEL_DATA, UInt32(channel), String(b"forged"))
        await raw.ended()
        assert server.reasons == "MAC verification failed"
        assert raw.data_bytes == 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (UInt32(99) + String(b"x"), "Invalid channel number 99 received"),
        (UInt32(0) + UInt32(5) + b"four", "Incomplete packet"),
        (UInt32(0) + UInt32(3) + b"four", "Unexpected data at end of packet"),
        (UInt32(0) + String(bytes(1025)), "Window exceeded"),
        (UInt32(0), "Incomplete packet"),
        (b"", "Incomplete channel request received"),
    ],
)
async def test_data_that_breaks_a_rule_ends_the_connection(content: bytes, reason: str) -> None:
    """The short way that data goes is no way around asyncssh's checks."""
    async with echo_channel(dataclasses.replace(LIMITS, window=1024)) as (server, raw, _):
        raw.send_packet(MSG_CHANNEL_DATA, content)
        assert await raw.ended() == reason
        assert server.reasons == reason
        assert raw.data_bytes == 5


async def test_data_after_the_end_of_a_channel_ends_the_connection() -> None:
    """Whoever has said that nothing more comes sends nothing more."""
    async with port() as server, raw_client(server.number) as raw:
        assert await raw.log_in("joe", server.users.issue(["joe"]))
        channel = await raw.open_channel()
        assert channel is not None
        raw.send_packet(MSG_CHANNEL_EOF, UInt32(channel))
        raw.send_packet(MSG_CHANNEL_DATA, UInt32(channel), String(b"more"))
        assert await raw.ended() == "Channel not open for sending"


async def test_a_peer_that_falls_silent_is_noticed() -> None:
    """After so many unanswered questions the connection ends, though each question once had its timer put off."""
    limits = dataclasses.replace(LIMITS, keepalive_interval=0.1, keepalive_count=2)
    async with echo_channel(limits) as (server, raw, _):
        raw.stop_reading()
        await until(lambda: server.listener.admission.connections == 0, "it is given up")


async def test_a_peer_that_answers_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again and again while it is idle, it is still there."""
    asked = 0

    def answer(connection: Any, _packet: object) -> None:
        nonlocal asked
        asked += 1
        connection._report_global_response(True)

    name = "_process_keepalive_at_openssh_dot_com_global_request"
    monkeypatch.setattr(asyncssh.SSHClientConnection, name, answer)
    limits = dataclasses.replace(LIMITS, keepalive_interval=0.1, keepalive_count=5)
    async with port(limits, handler=lambda _proved, _connection: Echoing()) as server, client(server) as connection:
        await until(lambda: asked > limits.keepalive_count, "it was asked more often than it may leave unanswered")
        done = await connection.run("echo", input=b"still there", encoding=None)
        assert done.stdout == b"still there"
        assert server.refusals == []


class Source(asyncssh.SSHServerSession[bytes]):
    """Sends without end until it is told to wait, by the short way."""

    def __init__(self) -> None:
        self.sent = 0
        self.paused = False

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Keep the channel."""
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        """Accept any command."""
        return True

    def session_started(self) -> None:
        """Begin."""
        self.resume_writing()

    def pause_writing(self) -> None:
        """Wait."""
        self.paused = True

    def resume_writing(self) -> None:
        """Send on, though never for ever: a fault shows as megabytes, not as a full memory."""
        connection: Any = self._channel.get_connection()
        self.paused = False
        while not self.paused and self.sent < 64 * 1024 * 1024:
            piece = pattern(100_000)
            connection.send_data(self._channel, memoryview(piece))
            self.sent += len(piece)


async def test_the_short_way_heeds_the_socket() -> None:
    """With a window of 4 GiB and nobody reading, what is sent by `send_data` waits, is told to, and is bounded (A6)."""
    sources: list[Source] = []

    class _Sources(Handler):
        def session_requested(self) -> Source:
            sources.append(Source())
            return sources[-1]

    async with port(handler=lambda _proved, _connection: _Sources()) as server, raw_client(server.number) as raw:
        assert await raw.log_in("joe", server.users.issue(["joe"]))
        channel = await raw.open_channel(window=2**32 - 1)
        assert channel is not None
        raw.stop_reading()
        raw.execute(channel, "send")
        await until(lambda: sources and sources[0].paused, "the session is told to wait")
        connection: Any = next(iter(server.listener._connections))
        assert connection._transport.get_write_buffer_size() <= 2 * LIMITS.write_pause + 100_000
        assert connection._channels[channel].get_write_buffer_size() <= 200_000
        before = sources[0].sent
        raw.go_on_reading()
        await until(lambda: sources[0].sent > before, "it goes on once there is room")
        assert server.refusals == []
