"""Events to syslog: RFC 5424 messages over UDP (RFC 5426), TCP (RFC 6587, octet counting) or a local socket.

Syslog acknowledges nothing. Over TCP a batch counts as taken once the other machine has acknowledged all of it; what
that machine had not read when it crashed is lost, and over UDP whatever the network drops. Where that matters, take the
webhook, or a syslog daemon on this machine that keeps what it passes on.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import logging
import os
import re
import socket
import struct
import termios
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from runtime.audit.events import EventType
from runtime.audit.search import time_of, uid_of
from runtime.audit.sinks.reasons import reason_of
from runtime.audit.sinks.shorten import shorten
from runtime.core.errors import Unavailable
from runtime.core.version import __version__

logger = logging.getLogger(__name__)

TIMEOUT_SECONDS = 10.0
"""For a connection, for one message, and for what was sent to be acknowledged."""
FACILITIES = {
    "user": 1, "daemon": 3, "auth": 4, "authpriv": 10,
    "local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21, "local6": 22, "local7": 23,
}  # fmt: skip
"""Numerical codes (RFC 5424 §6.2.1)."""
WARNING, INFORMATIONAL = 4, 6
"""Severities (RFC 5424 §6.2.1)."""

_REFUSALS = frozenset(
    {
        EventType.SESSION_REJECTED,
        EventType.PROXY_REJECTED,
        EventType.WEB_REJECTED,
        EventType.USER_LOCKED,
        EventType.JOIN_REFUSED,
        EventType.CALL_REFUSED,
    }
)
_ACKNOWLEDGED_POLL_SECONDS = 0.01


def message(line: bytes, *, facility: int, host: str, process: int) -> bytes:
    """Return an event as a message (RFC 5424 §6): its type is the MSGID, the line of the log the text."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    fields = event if isinstance(event, dict) else {}
    kind = str(fields.get("event", ""))
    bad = kind in _REFUSALS or fields.get("success") == "false"
    priority = facility * 8 + (WARNING if bad else INFORMATIONAL)
    header = (
        f"<{priority}>1 {time_of(line).decode('ascii', 'replace') or '-'} {_name(host, 255)} teleport {process} "
        f'{_name(kind, 32)} [origin software="teleport" swVersion="{__version__}"] '
    )
    return header.encode() + line


def _name(text: str, limit: int) -> str:
    """Return text as a header has it: printable ASCII without blanks."""
    return re.sub(r"[^!-~]", "?", text)[:limit] or "-"


class SyslogSink:
    """Sends events to one syslog server. A connection that ends is made again."""

    def __init__(self, address: str, *, facility: str, host: str, process: int) -> None:
        """Take `udp://HOST:PORT`, `tcp://HOST:PORT` or `unix:///PATH`, and what is told of this process."""
        self._url = urlsplit(address)
        self._address = address
        self.name = f"syslog-{zlib.crc32(address.encode()):08x}"
        self._message: Callable[[bytes], bytes] = lambda line: message(
            line, facility=FACILITIES[facility], host=host, process=process
        )
        self._socket: socket.socket | None = None

    async def take(self, lines: Sequence[bytes]) -> None:
        """Send the lines. Raises Unavailable when the server cannot be reached, or does not take them."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                connected = await self._connected()
            if self._url.scheme == "tcp":
                await self._stream(connected, lines)
            else:
                for line in lines:
                    await self._datagram(connected, line)
                if failed := connected.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):  # nobody is at that port
                    raise OSError(failed, os.strerror(failed))
        except OSError as error:  # TimeoutError is one
            self._close()
            raise Unavailable(f"syslog at {self._address}: {reason_of(error)}") from error
        except BaseException:
            self._close()
            raise

    async def close(self) -> None:
        """Close the connection."""
        self._close()

    async def _connected(self) -> socket.socket:
        if self._socket is not None:
            with suppress(OSError):
                if not _has_ended(self._socket):
                    return self._socket
            self._close()
        self._socket = await self._connect()
        return self._socket

    async def _connect(self) -> socket.socket:
        if self._url.scheme == "unix":
            return await _open(socket.AF_UNIX, socket.SOCK_DGRAM, self._url.path)
        kind = socket.SOCK_STREAM if self._url.scheme == "tcp" else socket.SOCK_DGRAM
        found = await asyncio.get_running_loop().getaddrinfo(self._url.hostname, self._url.port, type=kind)
        failure = OSError(errno.EADDRNOTAVAIL, "it has no address")
        for family, _, _, _, address in found:
            try:
                return await _open(family, kind, address)
            except OSError as error:
                failure = error
        raise failure

    async def _datagram(self, connected: socket.socket, line: bytes) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            try:
                await loop.sock_sendall(connected, self._message(line))
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                logger.warning(
                    "event %s is too long for %s, which gets it shortened; tcp has no limit",
                    uid_of(line).decode() or "without an id",
                    self._address,
                )
                await loop.sock_sendall(connected, self._message(shorten(line)))

    async def _stream(self, connected: socket.socket, lines: Sequence[bytes]) -> None:
        loop = asyncio.get_running_loop()
        for line in lines:
            text = self._message(line)
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await loop.sock_sendall(connected, b"%d %s" % (len(text), text))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while _unacknowledged(connected):
                _has_ended(connected)  # or was reset: then nothing more will be acknowledged
                await asyncio.sleep(_ACKNOWLEDGED_POLL_SECONDS)
        _has_ended(connected)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None


async def _open(family: int, kind: int, address: object) -> socket.socket:
    """Return a connected socket that does not block. Raises OSError."""
    made = socket.socket(family, kind)
    try:
        made.setblocking(False)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await asyncio.get_running_loop().sock_connect(made, address)  # type: ignore[arg-type]  # as getaddrinfo has it
        else:
            made.connect(address)  # type: ignore[arg-type]  # as getaddrinfo has it; it does not wait
    except BaseException:
        made.close()
        raise
    return made


def _has_ended(connected: socket.socket) -> bool:
    """Tell whether the other side of a stream sends no more; what it sends is of no interest. Raises OSError."""
    if connected.type != socket.SOCK_STREAM:
        return False
    try:
        while connected.recv(4096):
            pass
    except BlockingIOError:
        return False
    return True


def _unacknowledged(connected: socket.socket) -> int:
    """Return how many bytes the other machine has not acknowledged (tcp(7), SIOCOUTQ)."""
    (count,) = struct.unpack("i", fcntl.ioctl(connected, termios.TIOCOUTQ, b"\0" * 4))
    return int(count)
