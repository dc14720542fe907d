"""UNIX and TCP sockets that the user's own process opens."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from runtime.core.errors import AccessDenied, AlreadyExists, InvalidInput, NotFound, TeleportError, Unavailable
from runtime.node.spawner import Spawner
from runtime.node.spawning.protocol import Request, receive, request_to_file, send
from tests.servers.spawners import (
    SECONDS,
    World,
    children_of,
    spawning,
    until,
)


def lowest_port() -> int:
    """Return the lowest port that the machine leaves to ordinary users."""
    return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())


async def test_an_agent_socket_is_the_users_alone(world: World, spawner: Spawner) -> None:
    """A socket without a path is in a new folder that only the user may enter; closed, it is gone with its folder."""
    listening = await spawner.listen_unix(world.user.name)
    path = Path(listening.path)
    for made, mode in ((path.parent, 0o700), (path, 0o600)):
        assert (made.stat().st_uid, stat.S_IMODE(made.stat().st_mode)) == (world.user.uid, mode)
    talking = await spawner.connect_unix(world.user.name, listening.path)
    loop = asyncio.get_running_loop()
    accepted, _ = await loop.sock_accept(listening.socket)
    with talking, accepted:
        await loop.sock_sendall(talking, b"hello")
        assert await loop.sock_recv(accepted, 100) == b"hello"
    listening.close()
    listening.close()
    await until(lambda: not path.parent.exists())


async def test_sockets_are_removed_however_the_node_ends(world: World) -> None:
    """The spawner removes what nobody has closed when the node's end of its socket is gone."""
    async with spawning(world.command()) as spawner:
        listening = [await spawner.listen_unix(world.user.name) for _ in range(3)]
        given = world.new_path()
        listening.append(await spawner.listen_unix(world.user.name, str(given)))
        listening[0].close()
        left = [given, *(Path(one.path).parent for one in listening[:3])]
        assert all(path.exists() for path in left[:1] + left[2:])
        await spawner.stop()
        await until(lambda: not any(path.exists() for path in left))
        for one in listening:
            one.close()


async def test_sockets_that_nobody_had_time_to_close_are_removed(world: World) -> None:
    """Sockets of whose making the spawner has hardly heard are removed too when the node's end is gone."""
    async with spawning(world.command()) as spawner:
        listening = await asyncio.gather(*(spawner.listen_unix(world.user.name) for _ in range(40)))
        await spawner.stop()
        for one in listening:
            one.socket.close()
        await until(lambda: not any(Path(one.path).parent.exists() for one in listening))


@pytest.mark.parametrize("listens", [True, False], ids=["closed", "given up"])
async def test_a_socket_that_is_unwanted_before_it_is_made_is_removed(world: World, listens: bool) -> None:
    """A node that sends its end right after its request, and may not wait for the answer: the socket does not stay."""
    path = world.new_path()
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    answer, answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with control, answer:
        text = request_to_file(Request("listen_unix", world.user.name, path=str(path)))
        with theirs, answering:
            process = await asyncio.create_subprocess_exec(*world.command(), stdin=theirs.fileno())
            send(control, {"do": "start", "id": 1}, [answering.fileno(), text])
            send(control, {"do": "remove", "id": 1})
        os.close(text)
        if not listens:
            answer.close()
        ready, ended = [await asyncio.to_thread(receive, control) for _ in range(2)]
        assert ready == ({"id": 0, "status": 0}, [])
        assert ended is not None
        assert (ended[0]["status"] == 0) is listens
        await until(lambda: not path.exists())
    assert await process.wait() == 0


async def test_a_socket_at_a_path_replaces_nothing(world: World, spawner: Spawner) -> None:
    """What is at the path stays, and a refused request removes nothing: not at once, and not at the end."""
    path = world.new_path()
    first = await spawner.listen_unix(world.user.name, str(path))
    with pytest.raises(AlreadyExists, match=f"cannot listen at {path}: Address already in use"):
        await spawner.listen_unix(world.user.name, str(path))
    await until(lambda: children_of(spawner) == [])
    (await spawner.connect_unix(world.user.name, str(path))).close()
    first.close()
    await until(lambda: not path.exists())
    path.write_text("a file of the user")
    try:
        with pytest.raises(AlreadyExists):
            await spawner.listen_unix(world.user.name, str(path))
        await spawner.stop()
        assert path.read_text() == "a file of the user"
    finally:
        path.unlink()


@pytest.mark.parametrize("path", ["", "relative", "/tmp/a\0b", "/tmp/" + "x" * 103])
async def test_paths_that_cannot_be_are_refused(world: World, spawner: Spawner, path: str) -> None:
    """A path that is relative, has a NUL, or is too long for a socket is an error of whoever asked, either way."""
    with pytest.raises(InvalidInput, match="the socket's path"):
        await spawner.listen_unix(world.user.name, path)
    with pytest.raises(InvalidInput, match="the socket's path"):
        await spawner.connect_unix(world.user.name, path)


async def test_sockets_that_are_not_there(world: World, spawner: Spawner) -> None:
    """A path without a socket, a folder that is missing, a socket nobody listens at: each says so."""
    path = world.new_path()
    with pytest.raises(NotFound, match=f"cannot connect to {path}: No such file"):
        await spawner.connect_unix(world.user.name, str(path))
    with pytest.raises(NotFound, match="cannot listen at"):
        await spawner.listen_unix(world.user.name, str(path / "socket"))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    os.chown(path, world.user.uid, world.user.gid)
    try:
        with pytest.raises(Unavailable, match="Connection refused"):
            await spawner.connect_unix(world.user.name, str(path))
    finally:
        path.unlink()


async def test_a_socket_that_does_not_accept_is_given_up(world: World) -> None:
    """Connecting to one whose queue is full ends in time."""
    async with spawning(world.command(), seconds=0.5) as spawner:
        listening = await spawner.listen_unix(world.user.name)
        listening.socket.listen(0)
        with await spawner.connect_unix(world.user.name, listening.path):
            with pytest.raises(Unavailable, match="nothing had started"):
                await spawner.connect_unix(world.user.name, listening.path)
            await until(lambda: children_of(spawner) == [])
        listening.close()


async def test_a_port_is_listened_at(world: World, spawner: Spawner) -> None:
    """A free port of an address is had, and told; it is non-blocking, and taken for the next one."""
    with await spawner.listen_tcp(world.user.name, "127.0.0.1", 0) as listening:
        assert not listening.getblocking()
        host, port = listening.getsockname()
        assert host == "127.0.0.1"
        with socket.create_connection((host, port), timeout=SECONDS):
            pass
        with pytest.raises(AlreadyExists, match=f"cannot listen at 127.0.0.1:{port}: Address already in use"):
            await spawner.listen_tcp(world.user.name, "127.0.0.1", port)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "b\u00fccher", "a\0b"])
async def test_hosts_that_are_none(world: World, spawner: Spawner, host: str) -> None:
    """A name that stands for no address, or cannot be one, is an error."""
    with pytest.raises(TeleportError, match="cannot listen at"):
        await spawner.listen_tcp(world.user.name, host, 0)


async def test_ports_are_the_users_to_have(world: World, spawner: Spawner) -> None:
    """A port below what the kernel leaves to users is refused: it is the user that opens it, not the node."""
    lowest = lowest_port()
    for port in (1, 1023):
        try:
            (await spawner.listen_tcp(world.user.name, "127.0.0.1", port)).close()
        except AccessDenied as error:
            assert "Permission denied" in str(error)  # noqa: PT017 - either is right, by the machine's setting
            assert port < lowest
        else:
            assert port >= lowest
