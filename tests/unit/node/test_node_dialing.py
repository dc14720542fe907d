"""Connecting to a port that somebody asks for."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from runtime.core.errors import InvalidInput, NotFound, Unavailable
from runtime.node import dialing
from runtime.node.dialing import dial
from tests.servers.sshport import until


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Yield something that listens on 127.0.0.1, and not on ::1."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture
def deaf() -> Iterator[int]:
    """Yield a port at which a connection is neither made nor refused: its queue is full."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_an_address_and_a_name(server: socket.socket, host: str) -> None:
    """Either gives a connected socket that does not block, whichever of a name's addresses answers."""
    port = server.getsockname()[1]
    with await dial(host, port) as sock:
        assert sock.getpeername()[:2] == ("127.0.0.1", port)
        assert not sock.getblocking()


async def test_the_next_address_is_tried_beside_one_that_does_not_answer(
    server: socket.socket, deaf: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name with a dead address costs a quarter of a second, not the time-out (RFC 8305)."""
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (("127.0.0.1", deaf), server.getsockname())
    ]
    monkeypatch.setattr(dialing, "_resolve", lambda host, port: found)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with await dial("two.example", 80, within=20) as sock:
        assert sock.getpeername() == server.getsockname()
    assert loop.time() - started < 10


async def test_a_port_where_nobody_listens() -> None:
    """The text names host, port, and what the system said."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        with pytest.raises(Unavailable, match=f"^localhost port {port}: Connection refused$"):
            await dial("localhost", port)


async def test_a_host_that_does_not_answer(deaf: int) -> None:
    """There is a limit in time."""
    with pytest.raises(Unavailable, match=f"^127.0.0.1 port {deaf}: no answer within 0.2 s$"):
        await dial("127.0.0.1", deaf, within=0.2)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
async def test_what_names_no_host(host: str) -> None:
    """A name that no resolver takes is not found, and nobody is asked for it."""
    with pytest.raises(NotFound, match="^" + host):
        await dial(host, 80)


@pytest.mark.parametrize("host", ["", "a b\n", "a\0b", "bücher.example", "x" * 256])
async def test_what_cannot_name_a_host(host: str) -> None:
    """Text that would only confuse a resolver or a log does not come to either."""
    with pytest.raises(InvalidInput, match="is not the name of a host"):
        await dial(host, 80)


@pytest.mark.parametrize("port", [0, 65536, 2**32 - 1, -1])
async def test_what_is_no_port(port: int) -> None:
    """Port 0 means any port, and one cannot connect to any."""
    with pytest.raises(InvalidInput, match=f"{port} is not a TCP port"):
        await dial("localhost", port)


def sockets() -> int:
    """Return how many sockets this process has open."""
    count = 0
    for file in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one with which the folder is read
            count += str(file.readlink()).startswith("socket:")
    return count


async def test_who_gives_up_leaves_no_socket(deaf: int) -> None:
    """Cancelled while it connects, it closes what it had begun."""
    before = sockets()
    task = asyncio.create_task(dial("127.0.0.1", deaf))
    await until(lambda: sockets() > before, "a socket connects")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sockets() == before
