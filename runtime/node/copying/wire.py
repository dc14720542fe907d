"""Packets of the SFTP protocol, version 3, read and written; no I/O.

Source: draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL §4 for the extensions.
"""

from __future__ import annotations

import errno
import struct
from enum import IntEnum, IntFlag

VERSION = 3
PACKET_LIMIT = 256 * 1024
"""Bytes of a packet without its length that are taken, as by OpenSSH (sftp-common.h SFTP_MAX_MSG_LENGTH)."""
DATA_LIMIT = PACKET_LIMIT - 1024
"""Bytes of a file in one packet; larger reads are cut, larger writes do not fit a packet."""


class Kind(IntEnum):
    """Types of packets."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    LSTAT = 7
    FSTAT = 8
    SETSTAT = 9
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    MKDIR = 14
    RMDIR = 15
    REALPATH = 16
    STAT = 17
    RENAME = 18
    READLINK = 19
    SYMLINK = 20
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Status(IntEnum):
    """How a request ended (§7)."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    UNSUPPORTED = 8


class OpenFlag(IntFlag):
    """How to open a file (§6.3)."""

    READ = 1
    WRITE = 2
    APPEND = 4
    CREATE = 8
    TRUNCATE = 16
    EXCLUSIVE = 32


class BadPacket(Exception):
    """A packet that cannot be understood: what follows it cannot be either."""


class Packet:
    """A packet, read from front to back. Raises BadPacket where it ends too early."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """Return the next byte."""
        return self._take(1)[0]

    def uint32(self) -> int:
        """Return the next four bytes as a number."""
        return int.from_bytes(self._take(4), "big")

    def uint64(self) -> int:
        """Return the next eight bytes as a number."""
        return int.from_bytes(self._take(8), "big")

    def string(self) -> bytes:
        """Return the next string: a path, a handle or a name."""
        return bytes(self.data())

    def data(self) -> memoryview:
        """Return the next string without copying it; it lasts as long as the packet."""
        return self._take(self.uint32())

    def _take(self, count: int) -> memoryview:
        begin, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise BadPacket(f"a packet of {len(self._data)} bytes is too short for what it says")
        return self._data[begin : self._at]


def uint32(value: int) -> bytes:
    """Return a number as four bytes."""
    return (value & 0xFFFFFFFF).to_bytes(4, "big")


def string(value: bytes) -> bytes:
    """Return a string with its length before it."""
    return len(value).to_bytes(4, "big") + value


def packet(kind: Kind, *fields: bytes) -> bytes:
    """Return a whole packet, its length first."""
    body = b"".join(fields)
    return struct.pack(">IB", len(body) + 1, kind) + body


def status(request: int, code: Status, text: str = "") -> bytes:
    """Return the answer that says how a request ended."""
    message = (text or _TEXTS[code]).encode(errors="replace")
    return packet(Kind.STATUS, uint32(request), uint32(code), string(message), string(b""))


def data_header(request: int, count: int) -> bytes:
    """Return what comes before `count` bytes of a file, which are not copied into a packet for it."""
    return struct.pack(">IBII", count + 9, Kind.DATA, request, count)


def status_of(error: OSError) -> Status:
    """Return the code of an operating system's error, as OpenSSH has them (sftp-server.c errno_to_portable)."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR | errno.EBADF | errno.ELOOP:
            return Status.NO_SUCH_FILE
        case errno.EPERM | errno.EACCES | errno.EFAULT:
            return Status.PERMISSION_DENIED
        case errno.ENAMETOOLONG | errno.EINVAL:
            return Status.BAD_MESSAGE
        case errno.ENOSYS | errno.EOPNOTSUPP:
            return Status.UNSUPPORTED
        case _:
            return Status.FAILURE


_TEXTS = {
    Status.OK: "Success",
    Status.EOF: "End of file",
    Status.NO_SUCH_FILE: "No such file",
    Status.PERMISSION_DENIED: "Permission denied",
    Status.FAILURE: "Failure",
    Status.BAD_MESSAGE: "Bad message",
    Status.UNSUPPORTED: "Operation unsupported",
}
