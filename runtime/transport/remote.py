"""What a client does on a connection: runs something, forwards ports, copies files. asyncssh stays inside."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import termios
import tty
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import asyncssh

from runtime.core.errors import AccessDenied, NotFound, TeleportError, Unavailable
from runtime.transport.client import ClientConnection
from runtime.transport.escape import Escape

_KEYS = 64 * 1024
"""Read at once: a whole paste."""
NO_STATUS = 255
"""What a command ends with that a signal ended, or of which nothing was heard: as ssh does."""


async def run(
    connection: ClientConnection,
    command: str | None,
    *,
    stdin: int,
    stdout: int,
    stderr: int,
    terminal: bool,
    variables: Mapping[str, str] | None = None,
) -> int:
    """Run a command, or a shell, with these file descriptors, and return its exit code.

    With `terminal` it has one like that of `stdin`, if that is one: keys go to it unread but for ssh's `~.`, which ends
    it, and it follows a change of size. Raises Unavailable when the connection breaks, AccessDenied when the server
    refuses.
    """
    options: dict[str, Any] = {"encoding": None, "request_pty": False, "env": dict(variables or {})}
    local = terminal and os.isatty(stdin)
    if terminal:
        options |= {"request_pty": "force", "term_type": os.environ.get("TERM", "dumb")}
        options |= {"term_size": os.get_terminal_size(stdin) if local else (80, 24)}
    # Raw before the session is there: a key that is pressed as soon as something is shown is for the other side.
    with _as_they_were(stdin, stdout, stderr), _raw(stdin) if local else nullcontext():
        try:
            process = await connection.create_process(
                command,
                stdin=asyncssh.PIPE if local else _readable(stdin),
                stdout=os.dup(stdout),
                stderr=os.dup(stderr),
                **options,
            )
            with _passed_on(stdin, process) if local else nullcontext():
                await process.wait()
        except asyncssh.ChannelOpenError as error:
            raise AccessDenied(f"the node opens no session: {error.reason}") from error
        except (asyncssh.Error, OSError) as error:
            raise Unavailable(f"the connection has ended: {error}") from error
    return NO_STATUS if process.exit_status is None or process.exit_status < 0 else process.exit_status


async def forward_here(connection: ClientConnection, bind: str, port: int, to_host: str, to_port: int) -> int:
    """Listen here, and connect from the server (-L); return the port. Raises Unavailable."""
    with _forwarding(f"port {port} cannot be listened on"):
        return (await connection.forward_local_port(bind, port, to_host, to_port)).get_port()


async def forward_there(connection: ClientConnection, bind: str, port: int, to_host: str, to_port: int) -> int:
    """Have the server listen, and connect from here (-R); return the port. Raises Unavailable."""
    with _forwarding(f"the node does not listen on port {port}"):
        return (await connection.forward_remote_port(bind, port, to_host, to_port)).get_port()


async def forward_socks(connection: ClientConnection, bind: str, port: int) -> int:
    """Serve SOCKS here, and connect from the server (-D); return the port. Raises Unavailable."""
    with _forwarding(f"port {port} cannot be listened on"):
        return (await connection.forward_socks(bind, port)).get_port()


async def fetch(
    connection: ClientConnection, paths: Sequence[str], target: Path, *, recurse: bool, preserve: bool
) -> None:
    """Copy files of the server's, which may be patterns, to here, by SFTP.

    Names that would leave `target` are refused. Raises NotFound, AccessDenied, Unavailable, TeleportError.
    """
    with _copying():
        async with connection.start_sftp_client() as sftp:
            await sftp.mget(list(paths), target, recurse=recurse, preserve=preserve)


async def send(
    connection: ClientConnection, paths: Sequence[Path], target: str, *, recurse: bool, preserve: bool
) -> None:
    """Copy files to the server, by SFTP. Raises NotFound, AccessDenied, Unavailable, TeleportError."""
    with _copying():
        async with connection.start_sftp_client() as sftp:
            await sftp.put(list(paths), target or ".", recurse=recurse, preserve=preserve)


@contextmanager
def _copying() -> Iterator[None]:
    try:
        yield
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath) as error:
        raise NotFound(_reason(error)) from error
    except asyncssh.SFTPPermissionDenied as error:
        raise AccessDenied(_reason(error)) from error
    except asyncssh.ChannelOpenError as error:
        raise AccessDenied(f"the node copies no files: {error.reason}") from error
    except asyncssh.SFTPError as error:
        raise TeleportError(_reason(error)) from error
    except asyncssh.Error as error:
        raise Unavailable(f"the connection has ended: {error}") from error
    except OSError as error:
        raise TeleportError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from error


def _reason(error: asyncssh.SFTPError) -> str:
    source = getattr(error, "srcpath", None)
    name = os.fsdecode(source) if isinstance(source, bytes | str) else ""
    return f"{name}: {error.reason}" if name and name not in error.reason else error.reason


@contextmanager
def _forwarding(what: str) -> Iterator[None]:
    try:
        yield
    except (asyncssh.Error, OSError) as error:
        raise Unavailable(f"{what}: {error}") from error


def _readable(descriptor: int) -> Any:
    """Return a source for asyncssh: what cannot be waited for, /dev/null above all, is empty."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISCHR(mode) and not os.isatty(descriptor):
        return asyncssh.DEVNULL
    return os.dup(descriptor)


@contextmanager
def _as_they_were(*descriptors: int) -> Iterator[None]:
    """Leave descriptors as they were found: asyncio makes them non-blocking, for all who have them open."""
    before = {descriptor: os.get_blocking(descriptor) for descriptor in descriptors}
    try:
        yield
    finally:
        for descriptor, blocking in before.items():
            with suppress(OSError):
                os.set_blocking(descriptor, blocking)


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Have the terminal pass each key on as it is."""
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed ahead is not lost
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _passed_on(descriptor: int, process: asyncssh.SSHClientProcess[bytes]) -> Iterator[None]:
    """Pass keys on, and tell the other side of a new size."""
    escape = Escape()

    def typed() -> None:
        try:
            keys = os.read(descriptor, _KEYS)
        except BlockingIOError:
            return
        except OSError:
            keys = b""  # EIO: the terminal has gone
        with suppress(asyncssh.Error, OSError):
            if keys:
                process.stdin.write(escape.feed(keys))
            if not keys or escape.over:
                loop.remove_reader(descriptor)
                process.close()

    def resized() -> None:
        size = os.get_terminal_size(descriptor)
        with suppress(asyncssh.Error, OSError):
            process.change_terminal_size(size.columns, size.lines)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGWINCH, resized)
    try:
        resized()  # it may have changed since it was asked for
        loop.add_reader(descriptor, typed)
        yield
    finally:
        loop.remove_reader(descriptor)
        loop.remove_signal_handler(signal.SIGWINCH)
