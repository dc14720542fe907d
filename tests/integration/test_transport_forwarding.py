"""Forwarded connections on the wire: opening, refusing, ends, and limits; with a raw client and with asyncssh's."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncssh
import pytest
from asyncssh.constants import (
    MSG_CHANNEL_OPEN,
    MSG_CHANNEL_OPEN_CONFIRMATION,
    MSG_CHANNEL_OPEN_FAILURE,
    MSG_GLOBAL_REQUEST,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_CONNECT_FAILED,
    OPEN_RESOURCE_SHORTAGE,
)
from asyncssh.packet import Boolean, String, UInt32

from runtime.core.errors import AccessDenied, Unavailable
from runtime.transport import forwarding as transport_forwarding
from runtime.transport import relay
from runtime.transport.capture import Proved
from runtime.transport.forwarding import ForwardingHandler
from runtime.transport.limits import Limits
from runtime.transport.server import Handler
from tests.servers.rawssh import DEADLINE, RawClient, raw_client
from tests.servers.sshport import FORGIVING, Port, pattern, port, until

LIMITS = Limits(penalties=FORGIVING)
EVERYTHING = ((b"permit-port-forwarding", b""), (b"permit-agent-forwarding", b""))


class Sockets:
    """Listens on one socket of loopback."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.sockets = rules.sockets()
        self.path = ""

    def admit(self) -> None:
        """Ask the rules."""
        if self._rules.denied:
            raise AccessDenied("not any more")

    def close(self) -> None:
        """Close, and count."""
        self.sockets[0].close()
        self._rules.closed += 1


class Rules:
    """Allows what a test wants, at a moment of its choosing."""

    def __init__(self) -> None:
        self.denied = False
        self.go = asyncio.Event()
        self.go.set()
        self.waiting = 0
        self.cancelled = 0
        self.closed = 0
        self.listeners: list[Sockets] = []

    async def connect_tcp(self, host: str, port: int) -> socket.socket:
        """Connect, or refuse."""
        await self._wait()
        if host == "forbidden":
            raise AccessDenied("it is forbidden", hint="Ask.")
        if host == "down":
            raise Unavailable("it is down")
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, port))
        return sock

    async def connect_unix(self, path: str) -> socket.socket:
        """Refuse."""
        raise Unavailable(f"nothing at {path}")

    async def listen_tcp(self, host: str, port: int) -> Sockets:
        """Listen, or refuse."""
        return await self._listen()

    async def listen_unix(self, path: str) -> Sockets:
        """Listen, or refuse."""
        return await self._listen()

    async def listen_agent(self) -> Sockets:
        """Listen, or refuse."""
        return await self._listen()

    def sockets(self) -> tuple[socket.socket, ...]:
        """Listen on a free port."""
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        return (sock,)

    async def _listen(self) -> Sockets:
        await self._wait()
        if self.denied:
            raise AccessDenied("it is forbidden", hint="Ask.")
        self.listeners.append(Sockets(self))
        return self.listeners[-1]

    async def _wait(self) -> None:
        self.waiting += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1

    def number(self, which: int = -1) -> int:
        """Return the port of a listener."""
        return int(self.listeners[which].sockets[0].getsockname()[1])


@asynccontextmanager
async def forwarding(limits: Limits = LIMITS) -> AsyncIterator[tuple[Port, Rules]]:
    """Start a port of ours that forwards by rules of the test's."""
    rules = Rules()

    def handler(proved: Proved[str], connection: asyncssh.SSHServerConnection) -> Handler:
        return ForwardingHandler(connection, rules)

    async with port(limits, handler=handler) as server:
        yield server, rules


@asynccontextmanager
async def raw(server: Port) -> AsyncIterator[RawClient]:
    """Log in with a client that obeys nothing."""
    async with raw_client(server.number) as client:
        assert await client.log_in("joe", server.users.issue(["joe"], extensions=EVERYTHING))
        yield client


@asynccontextmanager
async def client_of(server: Port, client_factory: Any = None) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Log in with asyncssh's own client."""
    who = server.users.issue(["joe"], extensions=EVERYTHING)
    keys = [(asyncssh.import_private_key(who.key), asyncssh.import_certificate(who.certificate))]
    options: dict[str, Any] = {"config": None, "known_hosts": None, "agent_path": None, "client_keys": keys}
    async with asyncssh.connect(
        "127.0.0.1", server.number, username="joe", client_factory=client_factory, **options
    ) as connection:
        yield connection


def ask_direct(client: RawClient, host: str, port_number: int, *, number: int = 0) -> None:
    """Send a CHANNEL_OPEN of direct-tcpip (RFC 4254 §7.2)."""
    client.send_packet(
        MSG_CHANNEL_OPEN,
        *(String("direct-tcpip"), UInt32(number), UInt32(2**21), UInt32(32768)),
        *(String(host), UInt32(port_number), String("127.0.0.1"), UInt32(4711)),
    )


def ask_listen(client: RawClient, port_number: int, *, cancel: bool = False) -> None:
    """Send a global request for tcpip-forward, or to cancel it (RFC 4254 §7.1)."""
    name = "cancel-tcpip-forward" if cancel else "tcpip-forward"
    client.send_packet(MSG_GLOBAL_REQUEST, String(name), Boolean(True), String("localhost"), UInt32(port_number))


async def listened(client: RawClient) -> bool:
    """Return whether the next global request was granted."""
    return (await client.expect(MSG_REQUEST_SUCCESS, MSG_REQUEST_FAILURE))[0] == MSG_REQUEST_SUCCESS


async def opened(client: RawClient) -> tuple[int, str] | None:
    """Return code and reason of the next channel that was refused, or None when it was opened."""
    answer, content = await client.expect(MSG_CHANNEL_OPEN_CONFIRMATION, MSG_CHANNEL_OPEN_FAILURE)
    content.get_uint32()
    return None if answer == MSG_CHANNEL_OPEN_CONFIRMATION else (content.get_uint32(), content.get_string().decode())


@asynccontextmanager
async def accepting() -> AsyncIterator[tuple[int, list[asyncio.StreamWriter]]]:
    """Accept connections on a port and keep them open."""
    writers: list[asyncio.StreamWriter] = []

    async def keep(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(keep, "127.0.0.1", 0, backlog=1024)
    try:
        yield server.sockets[0].getsockname()[1], writers
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await server.wait_closed()


async def test_a_half_closed_connection_goes_on_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the far side answers after our end of file arrives; and what we send after its end of file does too."""

    async def answers_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read()
        writer.write(asked[::-1])
        writer.close()

    heard = asyncio.get_running_loop().create_future()

    async def says_its_word_and_listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"word")
        writer.write_eof()
        heard.set_result(await reader.read())
        writer.close()

    first = await asyncio.start_server(answers_at_the_end, "127.0.0.1", 0)
    second = await asyncio.start_server(says_its_word_and_listens, "127.0.0.1", 0)
    monkeypatch.setattr(relay, "LINGER_SECONDS", 0)  # the proxy's relays have it; forwards wait for the client
    async with forwarding() as (server, _), client_of(server) as client, first, second:
        reader, writer = await client.open_connection("127.0.0.1", first.sockets[0].getsockname()[1], encoding=None)
        writer.write(b"abc")
        writer.write_eof()
        assert await reader.read() == b"cba"
        reader, writer = await client.open_connection("127.0.0.1", second.sockets[0].getsockname()[1], encoding=None)
        assert await reader.read() == b"word"
        for _ in range(10):  # so that the loop has been through its timers
            await asyncio.sleep(0)
        writer.write(b"and more")
        writer.write_eof()
        assert await asyncio.wait_for(heard, DEADLINE) == b"and more"


async def test_many_bytes_arrive_whole_both_ways() -> None:
    """8 MiB, four windows, to a far side that starts reading late, and back, are the same bytes."""
    data = pattern(8 * 1024 * 1024)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begin = await reader.readexactly(1)
        writer.write(begin)
        while piece := await reader.read(1024 * 1024):
            writer.write(piece)
            await writer.drain()
        writer.close()

    far = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with forwarding() as (server, _), client_of(server) as client, far:
        reader, writer = await client.open_connection("127.0.0.1", far.sockets[0].getsockname()[1], encoding=None)
        writer.write(data)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), DEADLINE * 2) == data


async def test_refusals_say_why() -> None:
    """A right that is missing and a connection that fails have different codes; hints come with the text."""
    async with forwarding() as (server, _), raw(server) as client:
        ask_direct(client, "forbidden", 80)
        assert await opened(client) == (OPEN_ADMINISTRATIVELY_PROHIBITED, "it is forbidden. Ask.")
        ask_direct(client, "down", 80)
        assert await opened(client) == (OPEN_CONNECT_FAILED, "it is down")


async def test_a_refused_listener_says_why_in_a_debug_message() -> None:
    """The answer to a global request has no text, so a message comes before it, as from sshd."""
    heard: list[str] = []

    class Client(asyncssh.SSHClient):
        def debug_msg_received(self, msg: str, lang: str, always_display: bool) -> None:
            heard.append(msg)

    async with forwarding() as (server, rules), client_of(server, Client) as client:
        rules.denied = True
        with pytest.raises(asyncssh.ChannelListenError):
            await client.forward_remote_port("", 0, "127.0.0.1", 1)
        assert heard == ["it is forbidden. Ask."]


async def test_a_handler_that_forwards_nothing_refuses_all() -> None:
    """Our ports that are no node's refuse, though the certificate permits it: what is not overridden is refused."""
    async with port() as server, raw(server) as client:
        ask_direct(client, "127.0.0.1", 80)
        assert await opened(client) == (OPEN_CONNECT_FAILED, "Connection refused")
        ask_listen(client, 0)
        assert not await listened(client)
        client.send_packet(
            *(MSG_GLOBAL_REQUEST, String("streamlocal-forward@openssh.com"), Boolean(True), String("/tmp/x"))
        )
        assert not await listened(client)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("tun@openssh.com", (UInt32(1), UInt32(0x7FFFFFFF))),  # ssh -w
        ("x11", (String("127.0.0.1"), UInt32(6000))),
        ("auth-agent@openssh.com", ()),
        ("forwarded-tcpip", (String("localhost"), UInt32(80), String("127.0.0.1"), UInt32(4711))),
        ("forwarded-streamlocal@openssh.com", (String("/tmp/x"), String(""))),
    ],
)
async def test_channels_that_are_not_a_clients_to_open(kind: str, fields: tuple[bytes, ...]) -> None:
    """Tunnels, and the kinds that a server opens, are refused, and the connection goes on."""
    async with forwarding() as (server, rules), raw(server) as client:
        client.send_packet(MSG_CHANNEL_OPEN, String(kind), UInt32(0), UInt32(2**21), UInt32(32768), *fields)
        assert await opened(client) is not None
        ask_listen(client, 0)
        assert await listened(client)
        assert len(rules.listeners) == 1


async def test_a_thousand_channels_meet_the_limit() -> None:
    """Of 1,000 that are asked for at once 256 open; the others are refused, and the connection goes on."""
    async with forwarding() as (server, _), accepting() as (number, writers), raw(server) as client:
        for channel in range(1000):
            ask_direct(client, "127.0.0.1", number, number=channel)
        answers = [await opened(client) for _ in range(1000)]
        assert answers.count(None) == LIMITS.channels == len(writers)
        reason = f"{LIMITS.channels} channels are open on this connection"
        assert answers.count((OPEN_RESOURCE_SHORTAGE, reason)) == 1000 - LIMITS.channels
        ask_listen(client, 0)
        assert await listened(client)


async def test_connections_to_a_forwarded_port_meet_the_limit_too() -> None:
    """Anybody on the machine can connect there: more than the limit are closed, and the client is not asked."""
    async with forwarding(dataclasses.replace(LIMITS, channels=3)) as (server, rules), raw(server) as client:
        ask_listen(client, 0)
        assert await listened(client)
        streams = [await asyncio.open_connection("127.0.0.1", rules.number()) for _ in range(5)]
        for reader, _ in streams[3:]:
            assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
        for _ in range(3):
            await client.expect(MSG_CHANNEL_OPEN)
        assert not streams[0][0].at_eof()
        for _, writer in streams:
            writer.close()


async def test_listeners_are_bounded_and_cancelling_makes_room() -> None:
    """The third of two is refused and reported; once one is cancelled another may come."""
    async with forwarding(dataclasses.replace(LIMITS, listeners=2)) as (server, rules), raw(server) as client:
        answers = []
        for number in (1, 2, 3):
            ask_listen(client, number)
            answers.append(await listened(client))
        assert answers == [True, True, False]
        assert server.reasons == "2 ports and sockets are listened on for this connection"
        ask_listen(client, 2, cancel=True)
        assert await listened(client)
        assert rules.closed == 1
        ask_listen(client, 3)
        assert await listened(client)


async def test_a_refused_listener_is_not_counted() -> None:
    """Requests that were denied use nothing up."""
    async with forwarding(dataclasses.replace(LIMITS, listeners=1)) as (server, rules), raw(server) as client:
        rules.denied = True
        for _ in range(3):
            ask_listen(client, 0)
            assert not await listened(client)
        rules.denied = False
        ask_listen(client, 0)
        assert await listened(client)


async def test_requests_that_wait_are_bounded() -> None:
    """Who asks on and on for listeners, while the first is still being made, is dropped."""
    async with forwarding(dataclasses.replace(LIMITS, requests=16)) as (server, rules), raw(server) as client:
        rules.go.clear()
        for number in range(17):
            ask_listen(client, number)
        await client.ended()
        assert server.reasons == "over 16 of its requests wait to be carried out"
        rules.go.set()
        await until(lambda: rules.closed == 1, "the listener that came too late is closed")


async def test_as_many_requests_as_may_wait_are_all_answered() -> None:
    """The limit itself is no offence."""
    async with forwarding(dataclasses.replace(LIMITS, requests=16)) as (server, rules), raw(server) as client:
        rules.go.clear()
        for number in range(16):
            ask_listen(client, number)
        await until(lambda: rules.waiting == 1, "the first is being made")
        rules.go.set()
        assert [await listened(client) for _ in range(16)] == [True] * 16


async def test_cancelling_what_is_not_there_is_refused() -> None:
    """A client that cancels a forward which was refused hears no, as from sshd, and stays connected."""
    async with forwarding() as (server, _), raw(server) as client:
        ask_listen(client, 8080, cancel=True)
        assert not await listened(client)
        name = "cancel-streamlocal-forward@openssh.com"
        client.send_packet(MSG_GLOBAL_REQUEST, String(name), Boolean(True), String("/tmp/x"))
        assert not await listened(client)
        ask_listen(client, 0)
        assert await listened(client)


async def test_the_end_of_the_connection_ends_what_is_connecting() -> None:
    """A connection that is still being made is given up when nobody waits for it."""
    async with forwarding() as (server, rules):
        rules.go.clear()
        async with raw(server) as client:
            ask_direct(client, "127.0.0.1", 80)
            await until(lambda: rules.waiting == 1, "it connects")
        await until(lambda: rules.cancelled == 1, "it was given up")


async def test_the_end_of_the_connection_ends_its_listeners() -> None:
    """Ports that were listened on are free again."""
    async with forwarding() as (server, rules):
        async with raw(server) as client:
            ask_listen(client, 0)
            assert await listened(client)
            number = rules.number()
            _, writer = await asyncio.open_connection("127.0.0.1", number)
            writer.close()
        await until(lambda: rules.closed == 1, "it was closed")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", number)


async def test_the_end_of_the_connection_ends_forwarded_connections() -> None:
    """The far side of an open channel sees the end."""
    async with forwarding() as (server, _):
        seen: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def wait_for_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen.set_result(await reader.read())
            writer.close()

        far = await asyncio.start_server(wait_for_end, "127.0.0.1", 0)
        async with far:
            async with raw(server) as client:
                ask_direct(client, "127.0.0.1", far.sockets[0].getsockname()[1])
                assert await opened(client) is None
            assert await asyncio.wait_for(seen, DEADLINE) == b""


async def test_a_listener_rests_when_files_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a descriptor for what comes, it neither spins nor ends; it goes on a little later."""
    monkeypatch.setattr(transport_forwarding, "_ACCEPT_PAUSE_SECONDS", 0.05)
    tries: list[None] = []

    class Scarce(socket.socket):
        def accept(self) -> tuple[socket.socket, Any]:
            tries.append(None)
            if len(tries) == 1:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return super().accept()

    async with forwarding() as (server, _), raw(server) as client:
        made = socket.create_server(("127.0.0.1", 0))
        scarce = Scarce(fileno=made.detach())
        scarce.setblocking(False)
        monkeypatch.setattr(Rules, "sockets", lambda self: (scarce,))
        ask_listen(client, 0)
        assert await listened(client)
        _, writer = await asyncio.open_connection(*scarce.getsockname())
        await client.expect(MSG_CHANNEL_OPEN)
        assert len(tries) <= 3  # the failure, the connection, and perhaps that there is no other
        writer.close()


async def test_a_right_that_is_gone_closes_what_comes_to_a_listener() -> None:
    """Each connection to a forwarded port is asked about; the listener stays, and serves once the right is back."""
    async with forwarding() as (server, rules), raw(server) as client:
        ask_listen(client, 0)
        assert await listened(client)
        rules.denied = True
        reader, writer = await asyncio.open_connection("127.0.0.1", rules.number())
        assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
        writer.close()
        rules.denied = False
        _, writer = await asyncio.open_connection("127.0.0.1", rules.number())
        await client.expect(MSG_CHANNEL_OPEN)
        writer.close()


async def test_a_client_that_refuses_a_forwarded_connection_closes_it() -> None:
    """Who connected to the port sees the end, and the next one is asked about again."""
    async with forwarding() as (server, rules), raw(server) as client:
        ask_listen(client, 0)
        assert await listened(client)
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", rules.number())
            _, content = await client.expect(MSG_CHANNEL_OPEN)
            assert content.get_string() == b"forwarded-tcpip"
            number = content.get_uint32()
            client.send_packet(
                *(MSG_CHANNEL_OPEN_FAILURE, UInt32(number), UInt32(OPEN_CONNECT_FAILED), String("no"), String("")),
            )
            assert await asyncio.wait_for(reader.read(), DEADLINE) == b""
            writer.close()


async def test_a_forwarded_connection_names_what_was_asked_for_and_who_came() -> None:
    """The channel carries the listening address as the client put it, the real port, and the origin (RFC 4254 §7.2)."""
    async with forwarding() as (server, rules), raw(server) as client:
        ask_listen(client, 0)
        _, content = await client.expect(MSG_REQUEST_SUCCESS)
        assert content.get_uint32() == rules.number()
        _, writer = await asyncio.open_connection("127.0.0.1", rules.number())
        _, content = await client.expect(MSG_CHANNEL_OPEN)
        assert content.get_string() == b"forwarded-tcpip"
        for _ in range(3):
            content.get_uint32()
        origin = writer.get_extra_info("sockname")
        assert (content.get_string(), content.get_uint32()) == (b"localhost", rules.number())
        assert (content.get_string(), content.get_uint32()) == (origin[0].encode(), origin[1])
        writer.close()
