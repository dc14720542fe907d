"""A session channel on which a server does one thing by name, a subsystem (RFC 4254 §6.5), and nothing else."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import asyncssh

from runtime.transport.relay import Ended, Relay, Relayed
from runtime.transport.splice import FarChannel

logger = logging.getLogger(__name__)


class GatewayChannel:
    """What may be done with the channel while it is served. Who writes to one that is gone writes to nobody."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], relay: Relay) -> None:
        self._channel = channel
        self._relay = relay

    def write(self, data: bytes) -> None:
        """Send bytes to the client's standard output."""
        if not self._channel.is_closing():
            self._channel.write(data)

    def write_error(self, text: str) -> None:
        """Send a line to the client's standard error, which may be a terminal in raw mode (hence the CR)."""
        if not self._channel.is_closing():
            self._channel.write_stderr(f"{text}\r\n".encode())

    async def relay(self, sock: socket.socket) -> Ended:
        """Carry bytes between the channel and a connected socket until either has ended; the socket is then closed."""
        return await self._relay.run(sock)

    def far_channel(self, begun: Callable[[], None] = lambda: None) -> FarChannel:
        """Return what a channel of another connection is to be opened with for `join`.

        `begun` is called when the first byte comes from there.
        """
        return FarChannel(self._channel, begun)

    async def join(self, far: FarChannel) -> None:
        """Carry bytes between the channel and one of another connection, which is open, until that has ended."""
        try:
            await self._relay.carry(far)
        finally:
            far.abort()


Serve = Callable[[str | None, GatewayChannel], Awaitable[int]]
"""Serves the subsystem of that name (any text the client chose) on a channel, and returns the exit status.

None in place of a name is for a client that wants a shell or a command, and gets words.
"""


class GatewaySession(Relayed, asyncssh.SSHServerSession[bytes]):
    """One channel. Every request is accepted here: it is `serve` that says on standard error what is wrong with one."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._name: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._channel: asyncssh.SSHServerChannel[bytes]

    # --- the channel's requests, in the order in which they come ----------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Take the channel."""
        self._channel = chan
        self._relay = Relay(chan)
        # 2.24.1 accepts and keeps every variable, as many as come; here nobody would ever read one.
        chan._process_env_request = _refuse  # type: ignore[method-assign,assignment]  # per object

    def pty_requested(self, term_type: str, term_size: Any, term_modes: Any) -> bool:
        """Refuse a terminal."""
        return False

    def shell_requested(self) -> bool:
        """Accept, so that there is a channel to say on that there is none."""
        return True

    def exec_requested(self, command: str) -> bool:
        """Accept, so that there is a channel to say on that none is run."""
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        """Accept any name."""
        self._name = subsystem
        return True

    def session_started(self) -> None:
        """Serve."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    # --- its end -----------------------------------------------------------------------------------------------------

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is being done; a relay ends by itself, once the other side has what was sent to it."""
        super().connection_lost(exc)
        if self._task is not None and not self._relay.running:
            self._task.cancel()

    async def _run(self) -> None:
        status = 255
        try:
            status = await self._serve(self._name, GatewayChannel(self._channel, self._relay))
        except Exception:
            logger.exception("serving the subsystem %a failed", (self._name or "")[:80])
        finally:
            self._channel.exit(status)  # once all that was written is sent


def _refuse(_: object) -> bool:
    return False
