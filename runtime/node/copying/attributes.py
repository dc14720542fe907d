"""A file's size, owner, mode and times: as they go over the wire, and onto a file (draft-ietf-secsh-filexfer-02 §5)."""

from __future__ import annotations

import errno
import os
import stat
import time
from enum import IntFlag
from typing import NamedTuple

from runtime.node.copying import wire

MODE_BITS = 0o777
"""What a client may set of a mode: set-user-ID, set-group-ID and sticky are never set by a copy."""

LARGEST_SIZE = 2**63 - 1


class Present(IntFlag):
    """Which attributes follow."""

    SIZE = 1
    OWNER = 2
    MODE = 4
    TIMES = 8
    EXTENDED = 0x80000000


class Attributes(NamedTuple):
    """Attributes of a file as a client gives them. None: it gave none."""

    size: int | None = None
    owner: tuple[int, int] | None = None
    """User and group id; the largest number stands for "as it is" (chown(2))."""
    mode: int | None = None
    """Within MODE_BITS, whatever was asked for."""
    times: tuple[int, int] | None = None
    """Access and modification, seconds since 1970, UTC."""


def read(packet: wire.Packet) -> Attributes:
    """Return the attributes that come next in a packet. Raises BadPacket."""
    present = packet.uint32()
    size = min(packet.uint64(), LARGEST_SIZE) if present & Present.SIZE else None
    owner = (packet.uint32(), packet.uint32()) if present & Present.OWNER else None
    mode = packet.uint32() & MODE_BITS if present & Present.MODE else None
    times = (packet.uint32(), packet.uint32()) if present & Present.TIMES else None
    for _ in range(packet.uint32() if present & Present.EXTENDED else 0):
        packet.data()
        packet.data()
    return Attributes(size, owner, mode, times)


def write(found: os.stat_result) -> bytes:
    """Return a file's attributes as they go into a packet."""
    return b"".join(
        (
            wire.uint32(Present.SIZE | Present.OWNER | Present.MODE | Present.TIMES),
            found.st_size.to_bytes(8, "big"),
            wire.uint32(found.st_uid),
            wire.uint32(found.st_gid),
            wire.uint32(found.st_mode),
            wire.uint32(int(found.st_atime)),
            wire.uint32(int(found.st_mtime)),
        )
    )


def apply(file: bytes | int, wanted: Attributes) -> None:
    """Set attributes of a path or an open file; of a link, those of what it leads to. Raises OSError."""
    if wanted.size is not None:
        os.truncate(file, wanted.size)
    if wanted.mode is not None:
        os.chmod(file, wanted.mode)
    if wanted.times is not None:
        os.utime(file, wanted.times)
    if wanted.owner is not None:
        os.chown(file, *wanted.owner)


def apply_to_link(path: bytes, wanted: Attributes) -> None:
    """Set attributes of a path; of a link, its own (lsetstat@openssh.com). Raises OSError."""
    if wanted.mode is not None:
        _change_mode(path, wanted.mode)
    if wanted.times is not None:
        os.utime(path, wanted.times, follow_symlinks=False)
    if wanted.owner is not None:
        os.chown(path, *wanted.owner, follow_symlinks=False)


def _change_mode(path: bytes, mode: int) -> None:
    """Set the mode of what is no link, by a descriptor that does not follow: Linux has no call for it before 6.6."""
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))  # a link has no mode here
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)


def long_name(name: bytes, found: os.stat_result, user: str, group: str, now: float) -> bytes:
    """Return a line as of `ls -l`, which a client shows as it is. `now` is in seconds since 1970."""
    moment = time.localtime(found.st_mtime)
    half_a_year = 365 * 24 * 3600 / 2
    recent = now - half_a_year < found.st_mtime <= now + 60
    shown = time.strftime("%b %e %H:%M" if recent else "%b %e  %Y", moment)
    line = f"{stat.filemode(found.st_mode)} {found.st_nlink:>3} {user:<8} {group:<8} {found.st_size:>8} {shown} "
    return line.encode(errors="surrogateescape") + name
