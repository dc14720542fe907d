"""Answers of an SFTP server that are more than a status (draft-ietf-secsh-filexfer-02 §7; OpenSSH PROTOCOL §4)."""

from __future__ import annotations

import functools
import grp
import os
import pwd

from runtime.node.copying import attributes
from runtime.node.copying.wire import Kind, packet, string, uint32

READ_ONLY, NO_SETUID = 1, 2
"""Flags of a file system in an answer to statvfs@openssh.com."""


def handle(number: int, handle: bytes) -> bytes:
    """Return the answer to opening a file or a folder."""
    return packet(Kind.HANDLE, uint32(number), string(handle))


def name(number: int, path: bytes) -> bytes:
    """Return the answer that is one path."""
    return packet(Kind.NAME, uint32(number), uint32(1), string(path), string(path), uint32(0))


def entry(name: bytes, found: os.stat_result, now: float) -> bytes:
    """Return one entry of a folder, for an answer to READDIR; `now` is in seconds since 1970."""
    user, group = user_name(found.st_uid) or str(found.st_uid), group_name(found.st_gid) or str(found.st_gid)
    return string(name) + string(attributes.long_name(name, found, user, group, now)) + attributes.write(found)


def file_system(number: int, found: os.statvfs_result) -> bytes:
    """Return the answer to statvfs@openssh.com."""
    flags = (READ_ONLY if found.f_flag & os.ST_RDONLY else 0) | (NO_SETUID if found.f_flag & os.ST_NOSUID else 0)
    told = (
        *(found.f_bsize, found.f_frsize, found.f_blocks, found.f_bfree, found.f_bavail),
        *(found.f_files, found.f_ffree, found.f_favail, found.f_fsid, flags, found.f_namemax),
    )
    return packet(Kind.EXTENDED_REPLY, uint32(number), *(value.to_bytes(8, "big") for value in told))


@functools.cache
def user_name(number: int) -> str:
    """Return the name of a user of this machine, "" for one without."""
    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):
        return ""


@functools.cache
def group_name(number: int) -> str:
    """Return the name of a group of this machine, "" for one without."""
    try:
        return grp.getgrgid(number).gr_name
    except (KeyError, OverflowError):
        return ""
