"""The agent socket of one session: made when asked for, once, and gone with the session."""

from __future__ import annotations

import asyncio

from runtime.node.agent import SessionAgent


class Socket:
    """A socket that knows whether it was closed."""

    path = "/tmp/ssh-x/agent.1"

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        """Note it."""
        self.closed = True


class Listen:
    """Makes a socket as soon as it may, and counts."""

    def __init__(self, made: Socket | None) -> None:
        self.made = made
        self.asked = 0
        self.may = asyncio.Event()

    async def __call__(self) -> Socket | None:
        """Wait, and give it."""
        self.asked += 1
        await self.may.wait()
        return self.made


async def test_nobody_asked() -> None:
    """Without a request there is no socket, and none is made at the end."""
    listen = Listen(Socket())
    agent = SessionAgent(listen)
    assert agent.path is None
    agent.close()
    assert listen.asked == 0


async def test_asked_for_and_closed() -> None:
    """The path is known from the request's answer to the session's end, when the socket goes."""
    listen = Listen(Socket())
    listen.may.set()
    agent = SessionAgent(listen)
    assert await agent.request()
    assert agent.path == Socket.path
    agent.close()
    assert listen.made is not None
    assert listen.made.closed
    assert agent.path is None


async def test_refused() -> None:
    """Where it is not allowed there is no path."""
    listen = Listen(None)
    listen.may.set()
    agent = SessionAgent(listen)
    assert not await agent.request()
    assert agent.path is None


async def test_one_for_each_session() -> None:
    """A second request is refused, also while the first is under way, and leaves the first its socket."""
    listen = Listen(Socket())
    agent = SessionAgent(listen)
    first = asyncio.create_task(agent.request())
    await asyncio.sleep(0)
    assert not await agent.request()
    listen.may.set()
    assert await first
    assert not await agent.request()
    assert agent.path == Socket.path
    assert listen.asked == 1


async def test_the_session_ends_while_it_is_made() -> None:
    """A socket that comes after the end is closed at once, and not announced."""
    listen = Listen(Socket())
    agent = SessionAgent(listen)
    asked = asyncio.create_task(agent.request())
    await asyncio.sleep(0)
    agent.close()
    listen.may.set()
    assert not await asked
    assert listen.made is not None
    assert listen.made.closed
    assert agent.path is None


async def test_a_closed_session_asks_in_vain() -> None:
    """After the end nothing is made any more."""
    listen = Listen(Socket())
    agent = SessionAgent(listen)
    agent.close()
    assert not await agent.request()
    assert listen.asked == 0
