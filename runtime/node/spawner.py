"""Sessions and sockets of the machine's users, started by their own processes: what the node asks the spawner for.

What the spawner is, and why it is a process of its own: `runtime.node.spawning`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from runtime.core.errors import InvalidInput, Unavailable
from runtime.node.spawning.link import Link, Started
from runtime.node.spawning.protocol import Request, Terminal
from runtime.node.spawning.terminal import set_size

__all__ = ["Child", "Exit", "Listening", "Program", "Spawner", "Terminal"]

logger = logging.getLogger(__name__)

START_SECONDS = 30.0
"""How long a session or socket may take to start: a home folder on a network that is away keeps nobody forever."""
SIGNALS = frozenset(
    {"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"}
)
"""The signals of RFC 4254 §6.10, as a client may send them."""


def spawner_command(etc: Path = Path("/etc")) -> tuple[str, ...]:
    """Return the command of a spawner; `etc` is where the machine has login.defs, nologin, shadow and shells."""
    return sys.executable, "-I", "-S", str(Path(__file__).with_name("spawning") / "__main__.py"), str(etc)


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and as whom."""

    login: str
    kind: Literal["shell", "exec", "sftp", "scp"]
    command: str = ""
    """exec: for the shell's -c. scp: as the client sent it. What is not UTF-8 comes as os.fsdecode makes it."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What to add to HOME, USER, LOGNAME, SHELL, PATH, TERM and SSH_TTY, none of which it can change."""
    terminal: Terminal | None = None


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: with a code, or by a signal, named without SIG (RFC 4254 §6.10); `core`: it left a core."""

    code: int | None
    signal: str | None = None
    core: bool = False


class Child:
    """A running session.

    It has a `terminal`, the master of a pseudo-terminal, or else `stdin`, `stdout` and `stderr`. These descriptors do
    not block, and are the caller's to close. Reading the master raises OSError (EIO) when nobody has the terminal open.
    """

    def __init__(self, link: Link, started: Started) -> None:
        self.pid = started.pid
        self.terminal: int | None = None
        self.stdin: int | None = None
        self.stdout: int | None = None
        self.stderr: int | None = None
        for descriptor in started.descriptors:
            os.set_blocking(descriptor, False)
        if len(started.descriptors) == 1:
            (self.terminal,) = started.descriptors
        else:
            self.stdin, self.stdout, self.stderr = started.descriptors
        self._link = link
        self._number = started.number
        self._ended = started.ended

    async def wait(self) -> Exit:
        """Return how it ended, once it has. Raises Unavailable when the spawner ended first: nobody can know then."""
        status = await asyncio.shield(self._ended)
        if status is None:
            raise Unavailable("the node's spawner has ended: how this session ends cannot be known")
        return exit_of(status)

    def send_signal(self, name: str) -> None:
        """Send a signal, as "TERM", to its process group; nothing happens once it has ended. Raises InvalidInput."""
        if name not in SIGNALS:
            raise InvalidInput(f"there is no signal {name!r}", hint=f"signals are {', '.join(sorted(SIGNALS))}")
        self._link.signal(self._number, signal.Signals[f"SIG{name}"])

    def resize(self, columns: int, rows: int, pixel_width: int = 0, pixel_height: int = 0) -> None:
        """Set the terminal's size, in characters and pixels; its programs in the foreground are told by SIGWINCH."""
        if self.terminal is not None:
            set_size(self.terminal, columns, rows, pixel_width, pixel_height)


class Listening:
    """A UNIX socket at which a user's process has begun to listen."""

    def __init__(self, link: Link, number: int, listening: socket.socket, path: str) -> None:
        self.socket = listening
        self.path = path
        self._link = link
        self._number = number

    def close(self) -> None:
        """Stop listening; the user's process removes the socket, and the folder made for it. Safe to call twice."""
        self.socket.close()
        self._link.remove(self._number)


class Spawner:
    """The spawner process. When it has ended, the next request starts another."""

    def __init__(self, command: Sequence[str], start_seconds: float) -> None:
        self._command = command
        self._start_seconds = start_seconds
        self._link: Link | None = None
        self._stopped = False
        self._opening = asyncio.Lock()

    @classmethod
    async def start(cls, *, command: Sequence[str] = spawner_command(), start_seconds: float = START_SECONDS) -> Self:
        """Start it with a command. Raises Unavailable.

        A session or socket that takes longer than `start_seconds` to start is given up.
        """
        spawner = cls(command, start_seconds)
        await spawner._current()
        return spawner

    async def stop(self) -> None:
        """End it, for good. Sessions that run go on until their descriptors are closed; new ones are Unavailable."""
        self._stopped = True
        async with self._opening:
            if self._link is not None:
                await self._link.stop()

    @property
    def pid(self) -> int | None:
        """The spawner's process id, None before it has started."""
        return self._link.pid if self._link is not None else None

    async def run(self, program: Program) -> Child:
        """Start a session; it has begun to run when this returns.

        Raises NotFound (no such OS user, no such shell), AccessDenied (the account has expired, the machine is closed,
        or this node is not root and another user), InvalidInput (a command that cannot be run), Unavailable.
        """
        link = await self._current()
        request = Request(
            program.kind,
            program.login,
            command=program.command,
            environment=dict(program.environment),
            terminal=program.terminal,
        )
        return Child(link, await link.request(request))

    async def listen_unix(self, login: str, path: str | None = None) -> Listening:
        """Listen at a path as a user; without one, in a new folder of /tmp that nobody else may enter, as sshd does.

        Raises InvalidInput (the path), AlreadyExists, AccessDenied, NotFound, Unavailable.
        """
        link = await self._current()
        wanted = path if path is not None else f"/tmp/ssh-{secrets.token_hex(8)}/agent.{os.getpid()}"  # noqa: S108 - 0700
        started = await link.request(Request("listen_unix", login, path=wanted, folder=path is None))
        return Listening(link, started.number, _as_socket(started), wanted)

    async def connect_unix(self, login: str, path: str) -> socket.socket:
        """Return a socket connected to a path as a user. Raises as `listen_unix`."""
        link = await self._current()
        return _as_socket(await link.request(Request("connect_unix", login, path=path)))

    async def listen_tcp(self, login: str, host: str, port: int) -> socket.socket:
        """Return a socket that listens at an address as a user; port 0 is a free one, "" any address.

        Raises AccessDenied (the user may not have it), AlreadyExists (it is taken), NotFound (the host), Unavailable.
        """
        link = await self._current()
        return _as_socket(await link.request(Request("listen_tcp", login, host=host, port=port)))

    async def _current(self) -> Link:
        async with self._opening:
            if self._stopped:
                raise Unavailable("this node is stopping", hint="try again when it is back")
            if self._link is None or self._link.lost:
                if self._link is not None:
                    logger.error("the spawner has ended; starting another")
                    await self._link.stop()
                self._link = await Link.open(self._command, self._start_seconds)
            return self._link


def exit_of(status: int) -> Exit:
    """Return what a status of wait(2) says."""
    if not os.WIFSIGNALED(status):
        return Exit(os.WEXITSTATUS(status))
    number = os.WTERMSIG(status)
    try:
        name = signal.Signals(number).name.removeprefix("SIG")
    except ValueError:  # a real-time signal
        name = f"RTMIN+{number - signal.SIGRTMIN}"
    return Exit(None, name, os.WCOREDUMP(status))


def _as_socket(started: Started) -> socket.socket:
    (descriptor,) = started.descriptors
    opened = socket.socket(fileno=descriptor)
    opened.setblocking(False)
    return opened
