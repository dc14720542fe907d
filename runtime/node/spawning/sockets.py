"""Sockets opened by the user's own process: what the user may not open, nobody opens for him."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from runtime.core.errors import AccessDenied, AlreadyExists, InvalidInput, NotFound, TeleportError, Unavailable
from runtime.node.spawning.protocol import Request

MAX_PATH = 107
"""The longest path of a UNIX socket on Linux, in bytes: sun_path without the NUL at its end (unix(7))."""
BACKLOG = 128


def checked(path: str) -> bytes:
    """Return the path of a UNIX socket as bytes. Raises InvalidInput unless it is absolute and can be one."""
    raw = os.fsencode(path)
    if not raw.startswith(b"/"):
        raise InvalidInput(f"the socket's path {path!r} is not absolute")
    if b"\0" in raw:
        raise InvalidInput(f"the socket's path {path!r} has a NUL character")
    if len(raw) > MAX_PATH:
        raise InvalidInput(f"the socket's path has {len(raw)} bytes; a socket's path has at most {MAX_PATH}")
    return raw


def listen_unix(request: Request) -> socket.socket:
    """Listen at a path, in a folder made for it if so asked; what is there is not replaced. Raises TeleportError."""
    path = checked(request.path)
    folder = os.path.dirname(path)  # noqa: PTH120 - bytes, as the kernel has them
    listening = socket.socket(socket.AF_UNIX)
    try:
        if request.folder:
            os.mkdir(folder, 0o700)  # noqa: PTH102 - as above
        os.umask(0o177)  # whatever the folder's mode, the socket is its user's only
        listening.bind(path)
    except OSError as error:
        if request.folder:
            with suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106 - as above
        raise _told(error, f"cannot listen at {request.path}") from error
    listening.listen(BACKLOG)
    return listening


def remove_unix(request: Request) -> None:
    """Remove what `listen_unix` made, as far as it is there."""
    path = Path(request.path)
    with suppress(OSError):
        if path.is_socket() and not path.is_symlink():
            path.unlink()
    if request.folder:
        with suppress(OSError):
            path.parent.rmdir()


def connect_unix(request: Request) -> socket.socket:
    """Connect to a path. Raises TeleportError."""
    path = checked(request.path)
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.connect(path)
    except OSError as error:
        raise _told(error, f"cannot connect to {request.path}") from error
    return connected


def listen_tcp(request: Request) -> socket.socket:
    """Listen at the first address of a host that can be had. Raises TeleportError."""
    where = f"cannot listen at {request.host}:{request.port}"
    try:
        # As bytes: for a str Python would load its IDNA tables, from files that the user may not be able to read.
        addresses = socket.getaddrinfo(
            request.host.encode("ascii") or None, request.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:
        raise NotFound(f"{where}: the host is not known") from error
    failed: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        try:
            listening = socket.socket(family, kind, protocol)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
        except OSError as error:
            failed = failed or error
        else:
            return listening
    raise _told(failed or OSError(0, "it has no address"), where) from failed


def _told(error: OSError, what: str) -> TeleportError:
    return _KINDS.get(error.errno, Unavailable)(f"{what}: {error.strerror}")


_KINDS: dict[int | None, type[TeleportError]] = {
    errno.EACCES: AccessDenied,
    errno.EPERM: AccessDenied,
    errno.ENOENT: NotFound,
    errno.ENOTDIR: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EADDRINUSE: AlreadyExists,
}


OPENERS: Mapping[str, Callable[[Request], socket.socket]] = {
    "listen_unix": listen_unix,
    "connect_unix": connect_unix,
    "listen_tcp": listen_tcp,
}
