"""The way to an auth server that lets us in and then stands still."""

from __future__ import annotations

import asyncio

import asyncssh
import pytest

from runtime.api import dial
from runtime.api.dial import Dialer, Identity
from runtime.core.errors import Unavailable
from runtime.transport.capture import Proved
from runtime.transport.server import Handler
from tests.servers.sshport import port, until


class Stuck(Handler):
    """Lets in, and never opens what it is asked for."""

    def __init__(self) -> None:
        self.over = False

    async def session_requested(self) -> bool:
        """Think about it for ever."""
        await asyncio.Event().wait()
        return False

    def closed(self) -> None:
        """Note that the connection has ended."""
        self.over = True


async def test_dialling_ends_in_time_and_leaves_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Login works, the subsystem does not come: the dial ends as Unavailable, and so does the connection."""
    monkeypatch.setattr(dial, "DIAL_SECONDS", 3.0)
    handlers: list[Stuck] = []

    def handler(proved: Proved[str], connection: asyncssh.SSHServerConnection) -> Handler:
        handlers.append(Stuck())
        return handlers[-1]

    async with port(handler=handler) as server:
        who = server.users.issue(["joe"])
        dialer = Dialer(lambda: Identity("joe", who.key, who.certificate), lambda *_: None, "server.example")
        with pytest.raises(Unavailable, match="let us in and then said no more"):
            await dialer.dial(f"127.0.0.1:{server.number}")
        (stuck,) = handlers
        await until(lambda: stuck.over, "the end of the connection")
