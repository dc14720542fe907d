"""What a peer may send, and leave unread, at our SSH ports: findings A2, A3 and A6 of docs/adr/0005."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import (
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_KEXINIT,
)
from asyncssh.packet import Boolean, Byte, String, UInt32

from runtime.transport.guards import Guards
from runtime.transport.limits import Limits
from tests.servers.rawssh import DEADLINE, RawClient, plain_packet, raw_client
from tests.servers.sshca import Authority
from tests.servers.sshport import FORGIVING, Port, port, stock_port, until

LIMITS = Limits(penalties=FORGIVING)
BIG = 4 * 1024 * 1024
"""More than a connection should hold for a peer that does not read."""


@asynccontextmanager
async def plain_socket(number: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect with TCP alone and exchange version lines."""
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    try:
        writer.write(b"SSH-2.0-raw\r\n")
        async with asyncio.timeout(DEADLINE):
            await reader.readline()
        yield reader, writer
    finally:
        writer.close()


async def drained(reader: asyncio.StreamReader) -> bytes:
    """Return what arrives until the other side closes."""
    async with asyncio.timeout(DEADLINE):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


@asynccontextmanager
async def logged_in(limits: Limits = LIMITS) -> AsyncIterator[tuple[Port, RawClient]]:
    """Start a port and log a raw client in."""
    async with port(limits) as server, raw_client(server.number) as client:
        assert await client.log_in("joe", server.users.issue(["joe"]))
        await until(lambda: server.connections, "the handler is made")
        yield server, client


@pytest.mark.parametrize("length", [256 * 1024 + 1, 2**31, 2**32 - 1])
async def test_a2_a_packet_that_is_too_long_ends_the_connection_before_login(length: int) -> None:
    """The length alone is enough: nothing of the packet is waited for."""
    async with port() as server, plain_socket(server.number) as (reader, writer):
        writer.write(UInt32(length) + bytes(12))
        await drained(reader)
        await until(lambda: server.refusals, "the refusal is reported")
        assert server.reasons == "Max packet size exceeded"


async def test_a2_the_longest_packet_is_taken() -> None:
    """A packet just within the limit is waited for, and ignored as it asks to be."""
    async with port() as server, plain_socket(server.number) as (reader, writer):
        size = 256 * 1024 - 64
        packet = plain_packet(Byte(MSG_IGNORE) + String(bytes(size)))
        writer.write(packet + UInt32(2**31) + bytes(12))
        await drained(reader)
        await until(lambda: server.refusals, "the packet behind it is refused")
        assert len(server.refusals) == 1


async def test_a2_a_packet_that_is_too_long_ends_the_connection_after_login() -> None:
    """The limit is the same for those who are logged in, whatever their channels' packet size."""
    async with logged_in() as (server, client):
        await client.open_channel()
        client.send_packet(MSG_IGNORE, String(bytes(256 * 1024 + 64)))
        assert "Max packet size" in await client.ended()
        assert server.reasons == "Max packet size exceeded"


async def test_a_packet_without_content_ends_the_connection() -> None:
    """Not even a type is in it: a clear refusal, not an exception that nobody sees."""
    async with port() as server, plain_socket(server.number) as (reader, writer):
        writer.write(plain_packet(b""))
        await drained(reader)
        await until(lambda: server.refusals, "the refusal is reported")
        assert server.reasons == "a packet that cannot be read"


async def test_a2_a_thousand_small_packets_cost_no_quadratic_copying() -> None:
    """What asyncssh has in its buffer stays small while a large chunk of tiny packets is worked off."""
    seen: list[int] = []
    original = Guards._finish_recv_packet

    def spy(self: Guards, *args: Any, **keywords: Any) -> None:
        seen.append(len(self._inpbuf))
        original(self, *args, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Guards, "_finish_recv_packet", spy)
        async with port() as server, plain_socket(server.number) as (reader, writer):
            tiny = plain_packet(Byte(MSG_IGNORE) + String(b""))
            writer.write(tiny * 16_000 + UInt32(2**31) + bytes(12))
            await drained(reader)
            await until(lambda: server.refusals, "the packet behind them is refused")
    assert len(seen) >= 16_000
    assert max(seen) <= 8 * 1024


async def test_a2_what_arrives_while_a_packet_is_handled_is_bounded() -> None:
    """While asyncssh awaits a packet's handler, we stop reading after 256 KiB; it alone reads on without a limit."""
    release = asyncio.Event()

    async def slow(_self: Any) -> None:
        await release.wait()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime.transport.capture.ServerConnection.reload_config", slow)
        async with port() as server, raw_client(server.number) as client:
            client.prove("joe", server.users.issue(["joe"]))
            for _ in range(60):
                client.send_packet(MSG_IGNORE, String(bytes(200_000)))
            connection = next(iter(server.listener._connections))
            await until(lambda: connection._reading_paused, "reading is paused")
            assert len(connection._backlog) + len(connection._inpbuf) < 1024 * 1024
            release.set()
            await until(lambda: server.proved, "the login goes on")
            await until(lambda: not connection._reading_paused, "reading goes on")
            assert server.refusals == []


@pytest.mark.parametrize("size", [0, 1, 1023])
async def test_a3_a_channel_with_a_tiny_packet_size_ends_the_connection(size: int) -> None:
    """Who asks to be sent data in crumbs is gone before a session exists."""
    async with logged_in() as (server, client):
        client.ask_channel(packet=size)
        assert f"packet size {size} " in await client.ended()
        assert server.sessions == []
        assert len(server.refusals) == 1


async def test_a3_the_smallest_packet_size_is_served() -> None:
    """1,024 bytes is enough, and no data packet is larger; a window of 0 waits for more."""
    async with logged_in() as (_, client):
        channel = await client.open_channel(packet=1024, window=0)
        assert channel is not None
        client.execute(channel, "send 10000")
        client.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(channel), UInt32(100_000))
        await until(lambda: client.data_bytes == 10_000, "all of it arrives")
        assert client.data_packets == 10


async def test_a3_control_asyncssh_alone_sends_a_packet_for_each_byte() -> None:
    """Control: without us, a packet size of 1 makes 1,000 packets of 1,000 bytes, in one go of the event loop."""
    users = Authority()
    async with stock_port(users) as (number, _), raw_client(number) as client:
        assert await client.log_in("joe", users.issue(["joe"]))
        channel = await client.open_channel(packet=1)
        assert channel is not None
        client.execute(channel, "send 1000")
        await until(lambda: client.data_bytes == 1000, "all of it arrives")
        assert client.data_packets == 1000


async def test_a3_a_confirmation_with_a_tiny_packet_size_ends_the_connection() -> None:
    """The same when we open the channel, as towards a node, and the peer confirms it."""
    async with logged_in() as (server, client):
        connection: Any = server.connections[0]
        opening = asyncio.ensure_future(connection.open_connection("", 0))
        try:
            _, request = await client.expect(asyncssh.constants.MSG_CHANNEL_OPEN)
            request.get_string()
            number = request.get_uint32()
            client.send_packet(MSG_CHANNEL_OPEN_CONFIRMATION, UInt32(number), UInt32(0), UInt32(2**21), UInt32(1))
            assert "packet size 1 " in await client.ended()
            with pytest.raises(asyncssh.ChannelOpenError):
                await opening
        finally:
            opening.cancel()


def stop_reading(client: RawClient, connection: Any) -> None:
    """Have the client read no more, and keep the kernel, which would take megabytes on loopback, from doing so."""
    sender, receiver = connection.get_extra_info("socket"), client.get_extra_info("socket")
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    client.stop_reading()


async def _unread(client: RawClient, connection: Any, size: int) -> int:
    """Have `size` bytes sent to a client that does not read; return how much was left for the socket at the most."""
    channel = await client.open_channel(window=2**32 - 1)
    assert channel is not None
    stop_reading(client, connection)
    client.execute(channel, f"send {size}")
    # The socket is full when a write was left over; a keepalive's worth of turns later nothing more has come.
    await until(lambda: connection._transport.get_write_buffer_size() > 0, "the socket is full")
    worst = 0
    for _ in range(50):
        worst = max(worst, connection._transport.get_write_buffer_size())
        await asyncio.sleep(0)
    return worst


async def test_a6_a_slow_reader_costs_little_memory_and_loses_nothing() -> None:
    """With a window of 4 GiB and nobody reading, half a MiB waits for the socket; once read, every byte arrives."""
    async with logged_in() as (server, client):
        worst = await _unread(client, server.connections[0], BIG)
        assert worst <= 2 * LIMITS.write_pause + 64 * 1024
        assert server.sessions[0].writing_paused
        client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
        client.go_on_reading()
        async with asyncio.timeout(60):
            while client.data_bytes < BIG:
                await client.expect(MSG_CHANNEL_DATA)
        assert client.data_bytes == BIG
        assert server.refusals == []


async def test_a6_control_asyncssh_alone_buffers_it_all() -> None:
    """Control: without us, all that the window allows is put into the socket's buffer, read or not."""
    users = Authority()
    async with stock_port(users) as (number, connections), raw_client(number) as client:
        assert await client.log_in("joe", users.issue(["joe"]))
        assert await _unread(client, connections[0], BIG) > BIG // 2


async def test_a6_questions_whose_answers_are_not_read_end_the_connection() -> None:
    """A peer that asks and asks and reads no answer is dropped once too many wait for it."""
    limits = dataclasses.replace(LIMITS, write_drop=4 * 1024)
    async with logged_in(limits) as (server, client):
        channel = await client.open_channel()
        assert channel is not None
        stop_reading(client, server.connections[0])
        for _ in range(8000):
            client.send_packet(MSG_CHANNEL_REQUEST, UInt32(channel), String("nothing"), Boolean(True))
        await until(lambda: server.refusals, "the connection is refused")
        assert server.reasons == "it does not read what it asks for"
        await until(lambda: server.closed, "the connection is gone")


async def test_a6_a_key_exchange_that_does_not_end_ends_the_connection() -> None:
    """Who begins a key exchange and falls silent is dropped after the time for it, and its handler told."""
    async with logged_in(dataclasses.replace(LIMITS, rekey_timeout=0.1)) as (server, client):
        client.begin_key_exchange(stall=True)
        await until(lambda: server.refusals, "the connection is refused")
        assert server.reasons == "a key exchange took over 0.1 s"
        await until(lambda: server.closed, "the handler is told")


async def test_a6_a_key_exchange_that_ends_in_time_is_nothing_special() -> None:
    """After a proper key exchange the connection serves on, and the timer is gone."""
    async with logged_in() as (server, client):
        connection: Any = server.connections[0]
        before = connection._recv_encryption
        client.begin_key_exchange(stall=False)
        await until(lambda: connection._recv_encryption is not before, "the keys are new")
        assert connection._rekey_timer is None
        assert await client.open_channel() is not None
        assert server.refusals == []


async def test_a6_other_packets_during_a_key_exchange_end_the_connection() -> None:
    """After its KEXINIT a peer sends nothing but the key exchange (RFC 4253 §7.1), or is gone."""
    async with logged_in() as (server, client):
        client.begin_key_exchange(stall=True)
        await client.expect(MSG_KEXINIT)
        client.send_regardless(MSG_GLOBAL_REQUEST, String("keepalive@openssh.com"), Boolean(True))
        await client.ended()
        assert "during a key exchange" in server.reasons


async def test_a6_answers_kept_for_after_a_key_exchange_are_bounded() -> None:
    """When we began the key exchange and the peer does not join in but asks on, the answers that wait are counted."""
    async with logged_in(dataclasses.replace(LIMITS, deferred_packets=100)) as (server, client):
        connection: Any = server.connections[0]
        client.stalls_key_exchange = True
        connection._send_kexinit()
        for _ in range(200):
            client.send_packet(MSG_GLOBAL_REQUEST, String("keepalive@openssh.com"), Boolean(True))
        await until(lambda: server.refusals, "the connection is refused")
        assert server.reasons == "it asks for too much during a key exchange"


async def test_a6_channels_wait_for_a_key_exchange() -> None:
    """Data that a session writes during a key exchange stays in its channel, where it is counted."""
    async with logged_in() as (server, client):
        channel = await client.open_channel()
        assert channel is not None
        connection: Any = server.connections[0]
        client.stalls_key_exchange = True
        connection._send_kexinit()
        client.execute(channel, "send 500000")
        await until(lambda: server.sessions[0].writing_paused, "the session is told to wait")
        assert MSG_CHANNEL_DATA not in [pkttype for pkttype, _ in connection._deferred_packets]
        assert connection._channels[channel].get_write_buffer_size() == 500_000
        assert client.data_bytes == 0


async def test_what_follows_a_violation_in_the_same_segment_is_not_looked_at() -> None:
    """A channel request right behind the packet that ends the connection opens nothing."""
    async with logged_in() as (server, client):
        client.ask_channel(packet=1)
        client.ask_channel(number=1)
        await client.ended()
        await until(lambda: server.closed, "the handler is told")
        assert server.sessions == []
        assert len(server.refusals) == 1
