"""The server's side of a session channel: a shell, a command or a subsystem, in a terminal or without (RFC 4254 §6).

asyncssh reads the requests and keeps the windows. A service gets a `SessionChannel` to write to and implements
`SessionHandler`; neither shows asyncssh, and all data is bytes. Both directions have back-pressure: `writable` says
when to hold, and `pause_reading` keeps the client's data away.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import asyncssh
from asyncssh.channel import SSHServerChannel
from asyncssh.connection import SSHServerConnection
from asyncssh.packet import SSHPacket

from runtime.core.errors import TeleportError
from runtime.transport.packets import Packets

logger = logging.getLogger(__name__)

WRITE_BYTES = 64 * 1024
"""`writable(False)` is called once so much waits in a channel, and `writable(True)` when all of it has been taken."""


class TerminalSize(NamedTuple):
    """Characters and, where the client knows them, pixels; 0 is unknown (RFC 4254 §6.2)."""

    columns: int
    rows: int
    pixel_width: int = 0
    pixel_height: int = 0


@dataclass(frozen=True, slots=True)
class RequestedTerminal:
    """What a client asked of a terminal. `modes` are opcodes and arguments of RFC 4254 §8."""

    term: str
    size: TerminalSize
    modes: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What a session is to be. `command` is the command of an exec, or the name of a subsystem.

    Its bytes need not be UTF-8: others are surrogates, as in the names of files (`os.fsencode` gives the bytes).
    """

    kind: Literal["shell", "exec", "subsystem"]
    command: str = ""
    terminal: RequestedTerminal | None = None


class SessionHandler:
    """One session as its service sees it. Everything is refused or ignored unless it is overridden."""

    def opened(self, channel: SessionChannel) -> None:
        """Keep the channel: it is open."""

    def variable(self, name: bytes, value: bytes) -> bool:
        """Take an environment variable; False refuses it."""
        return False

    def terminal_permitted(self) -> bool:
        """Tell whether the session may have a terminal."""
        return False

    async def agent_requested(self) -> bool:
        """Offer the client's agent to the session; False refuses."""
        return False

    def requested(self, request: SessionRequest) -> bool:
        """Begin, or refuse with False. It comes once, after the three above."""
        return False

    def received(self, data: bytes) -> None:
        """Take input."""

    def input_ended(self) -> None:
        """Learn that no more input comes."""

    def resized(self, size: TerminalSize) -> None:
        """Take the terminal's new size."""

    def signalled(self, name: str) -> None:
        """Take a signal by its name without SIG (RFC 4254 §6.9)."""

    def writable(self, yes: bool) -> None:
        """Hold output, or go on: the client is slower than it is made."""

    def closed(self) -> None:
        """Learn that the channel, or its connection, is gone. It comes exactly once after `opened`."""


class SessionChannel:
    """What a service may do with an open session channel. What is written after its end is dropped."""

    def __init__(self, channel: SSHServerChannel[bytes]) -> None:
        self._channel = channel
        self._connection = cast("Packets", channel.get_connection())
        self._last: Callable[[], None] | None = None

    def write(self, data: bytes) -> None:
        """Send output."""
        with suppress(OSError):
            self._connection.send_data(self._channel, memoryview(data))

    def write_error(self, data: bytes) -> None:
        """Send output to the client's stderr."""
        with suppress(OSError):
            self._channel.write_stderr(data)

    def hand_over(self, handler: SessionHandler) -> None:
        """Let another handler have all that comes from now on."""
        self._channel._session.handler = handler  # type: ignore[attr-defined]  # ours is the only one (`_Channel`)

    def pause_reading(self) -> None:
        """Keep input away; the client stops when the window is full."""
        self._channel.pause_reading()

    def resume_reading(self) -> None:
        """Let input come again."""
        self._channel.resume_reading()

    def exit(self, code: int) -> None:
        """Tell with which code the program ended, and close, once all that was written has been sent."""
        self._end(lambda: self._channel.exit(code))

    def exit_signal(self, name: str, *, core: bool = False) -> None:
        """Tell which signal (its name without SIG) ended the program, and close, as `exit` does."""
        self._end(lambda: self._channel.exit_with_signal(name, core, "", ""))

    def abort(self) -> None:
        """Close at once; what has not been sent is lost."""
        self._channel.abort()

    def drained(self) -> None:
        """Do what was left for the moment when all has been sent."""
        if self._last is not None:
            last, self._last = self._last, None
            last()

    def _end(self, last: Callable[[], None]) -> None:
        # asyncssh sends the exit status ahead of data that waits for the window.
        def end() -> None:
            self._channel.write_eof()
            last()

        if self._channel.get_write_buffer_size():
            self._last = end
            self._channel.set_write_buffer_limits(high=0, low=0)
        else:
            end()


class _Channel(SSHServerChannel[bytes]):
    """asyncssh's channel, where it decides by itself what is a service's to decide."""

    # Ours is the only session that it is given.
    _session: _Session  # pyright: ignore[reportIncompatibleVariableOverride]

    def _process_env_request(self, packet: SSHPacket) -> bool:
        # 2.24.1 keeps whatever it is sent, without limit.
        name, value = packet.get_string(), packet.get_string()
        packet.check_end()
        return self._session.handler.variable(name, value)

    def _process_exec_request(self, packet: SSHPacket) -> bool:
        # 2.24.1 refuses what is not UTF-8; a file's name may be anything.
        command = packet.get_string()
        packet.check_end()
        return self._start_session(command=command.decode("utf-8", "surrogateescape"))

    def _start_session(self, command: str | None = None, subsystem: str | None = None) -> bool:
        # 2.24.1 puts a forced command in the place of the one asked for, which is lost then.
        if self._session_started:
            return False
        self._session_started = True
        return self._session.requested(command, subsystem)

    def _process_auth_agent_req_at_openssh_dot_com_request(self, packet: SSHPacket) -> None:
        # 2.24.1 makes the socket itself, as the user who runs the server.
        packet.check_end()
        self._conn.create_task(self._offer_agent(), self.logger)

    async def _offer_agent(self) -> None:
        try:
            offered = await self._session.handler.agent_requested()
        except TeleportError as error:
            logger.warning("no agent is offered: %s", error)
            offered = False
        if self._conn:  # the connection may be over by now
            self._report_response(offered)

    def _process_x11_req_request(self, packet: SSHPacket) -> bool:
        return False

    def _process_signal_request(self, packet: SSHPacket) -> bool:
        # 2.24.1 ends the connection when there is no session yet.
        name = packet.get_string()
        packet.check_end()
        if not self._session_started:
            return False
        self._session.handler.signalled(name.decode("ascii", "replace"))
        return True


class _Session(asyncssh.SSHServerSession[bytes]):
    """asyncssh's callbacks of one session channel, told to the service's handler."""

    def __init__(self, handler: SessionHandler) -> None:
        self.handler = handler
        self._terminal: RequestedTerminal | None = None
        self._channel: SessionChannel

    def connection_made(self, chan: SSHServerChannel[bytes]) -> None:
        chan.set_write_buffer_limits(high=WRITE_BYTES, low=0)
        self._channel = SessionChannel(chan)
        self.handler.opened(self._channel)

    def connection_lost(self, exc: Exception | None) -> None:
        try:
            self.handler.closed()
        except Exception:  # asyncssh drops it unseen
            logger.exception("the handler of a session failed to close")

    def pty_requested(
        self, term_type: str, term_size: tuple[int, int, int, int], term_modes: Mapping[int, int]
    ) -> bool:
        if not self.handler.terminal_permitted():
            return False
        self._terminal = RequestedTerminal(term_type, TerminalSize(*term_size), dict(term_modes))
        return True

    def requested(self, command: str | None, subsystem: str | None) -> bool:
        """Begin whatever was asked for."""
        if command is not None:
            return self.handler.requested(SessionRequest("exec", command, self._terminal))
        if subsystem is not None:
            return self.handler.requested(SessionRequest("subsystem", subsystem, self._terminal))
        return self.handler.requested(SessionRequest("shell", "", self._terminal))

    def session_started(self) -> None:
        """Nothing: `requested` has begun it."""

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self.handler.received(data)

    def eof_received(self) -> bool:
        self.handler.input_ended()
        return True  # output may go on

    def pause_writing(self) -> None:
        self.handler.writable(False)

    def resume_writing(self) -> None:
        self._channel.drained()
        self.handler.writable(True)

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        self.handler.resized(TerminalSize(width, height, pixwidth, pixheight))


def session_channel(connection: SSHServerConnection, handler: SessionHandler) -> Any:
    """Return what `Handler.session_requested` returns to have a session channel served by that handler."""
    options = connection._options
    channel = _Channel(
        connection,
        connection._loop,
        True,  # whether it may have a terminal, the handler says
        False,  # no line editor: what the client types goes to the terminal as it is
        False,
        0,
        0,
        None,  # bytes
        "strict",
        options.window,
        options.max_pktsize,
    )
    return channel, _Session(handler)
