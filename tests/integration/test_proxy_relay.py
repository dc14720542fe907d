"""What the proxy carries: every byte, in order, both ways, to the end of each; and nothing left behind afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtime.transport import relay
from tests.servers.sshport import pattern, until
from tests.servers.sshproxy import Client, SSHProxyCluster, ssh_proxy

MEBIBYTE = 1024 * 1024

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Target:
    """A TCP server that is listed as the node `db1`; `accept` gives its connections, one by one."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Streams] = asyncio.Queue()
        self._server: asyncio.Server
        self._open: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        """Listen, and return the address."""
        # A small buffer: what is not read stays with the proxy, or is not taken by it.
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=4096)
        host, port = self._server.sockets[0].getsockname()
        return f"{host}:{port}"

    async def accept(self) -> Streams:
        """Return the next connection."""
        async with asyncio.timeout(30):
            return await self._waiting.get()

    async def stop(self) -> None:
        """Close everything."""
        self._server.close()
        for writer in self._open:
            writer.close()
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.append(writer)
        await self._waiting.put((reader, writer))


class World:
    """A cluster, a node that is a bare socket, and somebody who may go there."""

    def __init__(self, cluster: SSHProxyCluster, target: Target, joe: Client) -> None:
        self.cluster = cluster
        self.target = target
        self.joe = joe

    async def session(self) -> tuple[asyncio.subprocess.Process, Streams]:
        """Start an ssh that is connected to the node, and return it with the node's end."""
        process = await self.joe.start([*self.joe.to_proxy(), "-s", "proxy:db1:22"])
        return process, await self.target.accept()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Yield the cluster, the node and somebody."""
    async with ssh_proxy(tmp_path) as cluster:
        target = Target()
        await cluster.node("db1").heartbeat(await target.start())
        try:
            yield World(cluster, target, await cluster.joe())
        finally:
            await target.stop()


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, bytes, str]:
    """End ssh's standard input and wait for its end; return status, output and errors."""
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out, err.decode()


# --- both ways, to the end of each --------------------------------------------------------------------------------


async def test_the_client_ends_first(world: World) -> None:
    """All that it sent is there before its end is; what the node then says still arrives, and all is well (0)."""
    process, (reader, writer) = await world.session()
    assert process.stdin is not None
    sent = pattern(3 * MEBIBYTE)
    process.stdin.write(sent)
    process.stdin.write_eof()
    async with asyncio.timeout(30):
        assert await reader.read(-1) == sent
    writer.write(sent[::-1])
    writer.close()
    assert await ended(process) == (0, sent[::-1], "")


async def test_the_node_ends_first(world: World) -> None:
    """All that it sent arrives; what the client still says reaches a node that only stopped speaking; then 1."""
    process, (reader, writer) = await world.session()
    assert process.stdin is not None
    assert process.stdout is not None
    sent = pattern(3 * MEBIBYTE)
    writer.write(sent)
    writer.write_eof()
    async with asyncio.timeout(30):
        assert await process.stdout.read(-1) == sent
        process.stdin.write(b"last words")
        process.stdin.write_eof()
        assert await reader.read(-1) == b"last words"
    status, _, errors = await ended(process)
    assert (status, errors) == (1, "")


async def test_the_node_speaks_first(world: World) -> None:
    """As SSH servers do."""
    process, (_, writer) = await world.session()
    assert process.stdout is not None
    writer.write(b"SSH-2.0-OpenSSH\r\n")
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"SSH-2.0-OpenSSH\r\n"


@pytest.mark.parametrize("size", [0, 100, 5 * MEBIBYTE])  # the last is more than the channel's window
async def test_what_comes_before_there_is_a_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A client that speaks, and ends, while the node is still being dialled loses nothing."""
    dialler, gate = world.cluster.proxy.connector.dialler, asyncio.Event()
    dial = dialler.dial

    async def slow(address: object) -> socket.socket:
        await gate.wait()
        return await dial(address)  # type: ignore[arg-type]  # passed on as it is

    monkeypatch.setattr(dialler, "dial", slow)
    sent = pattern(size)
    async with await world.joe.connect() as connection:
        channel, stdout, _ = await connection.open_session(subsystem="proxy:db1:22", encoding=None)
        channel.write(sent)
        channel.write_eof()
        # Answered in their order: when this is, what the window takes of the other is there too.
        _, sites, _ = await connection.open_session(subsystem="proxysites", encoding=None)
        assert await sites.read()
        gate.set()
        reader, writer = await world.target.accept()
        async with asyncio.timeout(30):
            assert await reader.read(-1) == sent
        writer.write(b"thanks")
        writer.close()
        assert await stdout.read() == b"thanks"


# --- ends that are none -------------------------------------------------------------------------------------------


async def test_a_node_that_is_gone_half_way(world: World) -> None:
    """What had been sent arrives; then a line that names the node, and 1."""
    process, (_, writer) = await world.session()
    assert process.stdout is not None
    writer.write(b"half a ")
    async with asyncio.timeout(30):
        assert await process.stdout.readexactly(7) == b"half a "
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    async with asyncio.timeout(30):
        assert await process.wait() == 1
    _, out, errors = await ended(process)
    assert out == b""
    assert errors.startswith("teleport: the connection to node db1 (127.0.0.1:")
    assert "broke: Connection reset by peer" in errors


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_client_that_is_gone(world: World, number: signal.Signals) -> None:
    """The node's connection ends as well."""
    process, (reader, writer) = await world.session()
    writer.write(b"hello")
    process.send_signal(number)
    async with asyncio.timeout(30):
        assert await reader.read(-1) == b""
        await process.wait()
    await until(lambda: not world.cluster.proxy._serving, "the relay has ended")


async def test_a_client_that_is_gone_while_the_node_is_dialled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is connected for somebody who has left."""
    dialling, given_up = asyncio.Event(), asyncio.Event()

    async def never(_: object) -> socket.socket:
        dialling.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()
        raise AssertionError("it does not get here")

    monkeypatch.setattr(world.cluster.proxy.connector.dialler, "dial", never)
    process = await world.joe.start([*world.joe.to_proxy(), "-s", "proxy:db1:22"])
    async with asyncio.timeout(30):
        await dialling.wait()
        process.kill()
        await given_up.wait()
    await until(lambda: not world.cluster.proxy._serving, "nothing is done any more")


async def test_half_a_connection_does_not_last(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the node has said its last word and the client says nothing, it is over after a while."""
    monkeypatch.setattr(relay, "LINGER_SECONDS", 0.2)
    process, (_, writer) = await world.session()
    writer.write(b"bye")
    writer.write_eof()
    async with asyncio.timeout(30):
        assert process.stdout is not None
        assert await process.stdout.read(-1) == b"bye"
        assert await process.wait() == 1


# --- who does not read makes the other wait -----------------------------------------------------------------------


async def sent_until_stuck(write: Callable[[bytes], Awaitable[None]], *, most: int) -> int:
    """Write until a piece is not taken within a second, and return how much was taken; fail beyond `most`."""
    piece, taken = bytes(64 * 1024), 0
    while taken < most:
        try:
            async with asyncio.timeout(1):
                await write(piece)
        except TimeoutError:
            return taken
        taken += len(piece)
    raise AssertionError(f"more than {most} bytes are on their way")


async def test_a_client_that_does_not_read(world: World) -> None:
    """The node can send some megabytes and then has to wait; others are served meanwhile, and nothing is lost."""
    async with await world.joe.connect() as connection:
        _, stdout, _ = await connection.open_session(subsystem="proxy:db1:22", encoding=None)
        stdout.channel.pause_reading()
        _, writer = await world.target.accept()

        async def write(piece: bytes) -> None:
            writer.write(piece)
            await writer.drain()

        taken = await sent_until_stuck(write, most=32 * MEBIBYTE)
        assert (await world.joe.ask("proxysites")).code == 0
        stdout.channel.resume_reading()
        writer.write(b"end")
        writer.close()
        received = 0
        async with asyncio.timeout(60):
            while piece := await stdout.read(MEBIBYTE):
                received, last = received + len(piece), piece
        assert last.endswith(b"end")
        assert received >= taken + 3


async def test_a_node_that_does_not_read(world: World) -> None:
    """The client can send some megabytes and then has to wait; others are served meanwhile, and nothing is lost."""
    process, (reader, writer) = await world.session()
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # it is one that reads
    stdin = process.stdin
    assert stdin is not None

    async def write(piece: bytes) -> None:
        stdin.write(piece)
        await stdin.drain()

    taken = await sent_until_stuck(write, most=32 * MEBIBYTE)
    assert (await world.joe.ask("proxysites")).code == 0
    writer.transport.resume_reading()  # type: ignore[attr-defined]  # it is one that reads
    stdin.write(b"end")
    stdin.write_eof()
    async with asyncio.timeout(60):
        received = await reader.read(-1)
    assert received.endswith(b"end")
    assert len(received) >= taken + 3


# --- nothing is left ----------------------------------------------------------------------------------------------


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count


@asynccontextmanager
async def nothing_left(world: World) -> AsyncIterator[None]:
    """Check that after the block there are as many descriptors and tasks as before."""
    assert (await world.joe.ask("proxysites")).code == 0
    await until(lambda: not world.cluster.proxy._serving, "nothing is going on")
    before, tasks = descriptors(), asyncio.all_tasks()
    yield
    await until(lambda: descriptors() <= before, f"{descriptors()} descriptors are {before} again")
    await until(lambda: asyncio.all_tasks() <= tasks, "no task is left")


async def test_no_descriptor_and_no_task_is_left(world: World) -> None:
    """However sessions end, by the client, by the node, with a signal, or before they began."""
    async with nothing_left(world):
        sessions = [await world.session() for _ in range(12)]
        for number, (process, (_, writer)) in enumerate(sessions):
            assert process.stdin is not None
            match number % 4:
                case 0:
                    process.stdin.close()
                    writer.close()
                case 1:
                    writer.transport.abort()
                case 2:
                    process.kill()
                case 3:
                    writer.close()
        for process, (_, writer) in sessions:
            await ended(process)
            writer.transport.abort()
        for wish in ("proxy:nobody:22", "proxy:", "sftp"):
            assert (await world.joe.ask(wish)).code == 1
        sessions.clear()
        world.target._open.clear()


async def test_one_connection_has_many_sessions(world: World, tmp_path: Path) -> None:
    """Ten on one connection, each with a node of its own; an eleventh is refused; one that ends makes room."""
    async with await world.joe.connect() as connection:
        channels = []
        for number in range(10):
            channel, stdout, _ = await connection.open_session(subsystem="proxy:db1:22", encoding=None)
            _, writer = await world.target.accept()
            writer.write(f"{number}".encode())
            channels.append((channel, stdout, writer))
        with pytest.raises(OSError, match="10 sessions are open"):
            await open_one_more(connection)
        for number, (_, stdout, _) in enumerate(channels):
            assert await stdout.read(10) == f"{number}".encode()
        channels[3][0].close()
        await channels[3][0].channel.wait_closed()
        await open_one_more(connection)


async def open_one_more(connection: object) -> None:
    """Open one more session. Raises OSError with the reason when it is refused."""
    try:
        await connection.open_session(subsystem="proxysites", encoding=None)  # type: ignore[attr-defined]
    except Exception as error:
        raise OSError(str(error)) from error


# --- when the proxy stops -----------------------------------------------------------------------------------------


async def test_sessions_go_on_for_a_while(world: World) -> None:
    """A proxy that stops takes nobody new, and lets sessions come to their end."""
    process, (reader, writer) = await world.session()
    assert process.stdin is not None
    stopping = asyncio.create_task(world.cluster.proxy.stop(grace=60))
    await until(lambda: world.cluster.proxy._stopping, "it stops")
    assert (await world.joe.ask("proxysites")).code == 255
    process.stdin.write(b"still")
    async with asyncio.timeout(30):
        assert await reader.readexactly(5) == b"still"
        assert not stopping.done()
        process.stdin.close()
        assert await reader.read(-1) == b""
        writer.write(b"done")
        writer.close()
        assert await ended(process) == (0, b"done", "")
        await stopping


async def test_but_not_for_ever(world: World) -> None:
    """When the time is over, what is left ends, on both sides."""
    process, (reader, _) = await world.session()
    async with asyncio.timeout(30):
        await world.cluster.proxy.stop(grace=0.2)
        assert await reader.read(-1) == b""
    assert (await ended(process))[0] == 255
