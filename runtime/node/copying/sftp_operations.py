"""What an SFTP client may ask for, request by request; `sftp` has the protocol around them.

The sections (§) are those of draft-ietf-secsh-filexfer-02; extensions are in OpenSSH PROTOCOL §4.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runtime.node.copying import answers, attributes, paths, wire
from runtime.node.copying.channel import Channel, reason
from runtime.node.copying.sftp_files import LARGEST_OFFSET, Handles, OpenFile, OpenFolder
from runtime.node.copying.wire import Kind, OpenFlag, Packet, Status, packet, status, string, uint32

NEW_FOLDER_MODE = 0o777


class Refused(Exception):
    """A request that cannot be carried out for a reason that is not the operating system's."""

    def __init__(self, code: Status, text: str = "") -> None:
        super().__init__(text)
        self.code = code


class Operations:
    """The operations: each takes the request's number and what follows it, and returns the answer.

    Raises Refused, BadPacket, and OSError of the operating system.
    """

    def __init__(self, channel: Channel, send: Callable[[bytes], None]) -> None:
        """Take the node's channel, and what sends the first part of an answer that is in two."""
        self._channel = channel
        self._send = send
        self._handles = Handles()

    def end(self) -> None:
        """Close what the client has left open."""
        for left in self._handles.take_all():
            self._close(left, OSError("the session ended before the file was closed"))

    # Files

    def open(self, number: int, request: Packet) -> bytes:
        """Open a file (§6.3)."""
        path, wanted, given = _path(request), OpenFlag(request.uint32() & 0x3F), attributes.read(request)
        self._check_handles()
        action = "upload" if wanted & OpenFlag.WRITE else "download"
        with self._telling(path), self._recording_failure(action, path):
            return answers.handle(number, self._handles.add(OpenFile(path, wanted, given.mode)))

    def close(self, number: int, request: Packet) -> bytes:
        """Close a file or folder (§6.3)."""
        opened = self._handles.take(request.string())
        if opened is None:
            raise Refused(Status.FAILURE, "no such handle")
        self._close(opened)
        return status(number, Status.OK)

    def _close(self, opened: OpenFile | OpenFolder, ended: OSError | None = None) -> None:
        if isinstance(opened, OpenFolder):
            opened.close()
            return
        try:
            with self._telling(opened.path):
                opened.close()
        except OSError as error:
            opened.error = opened.error or error
            raise
        finally:
            self._channel.record(opened.action, opened.path, opened.error or ended, size=opened.copied)

    def read(self, number: int, request: Packet) -> bytes:
        """Read from a file (§6.4)."""
        opened, offset, count = self._file(request), request.uint64(), request.uint32()
        data = opened.read(offset, min(count, wire.DATA_LIMIT))
        if not data and count:
            return status(number, Status.EOF)
        self._send(wire.data_header(number, len(data)))
        return data

    def write(self, number: int, request: Packet) -> bytes:
        """Write to a file (§6.4)."""
        opened, offset, data = self._file(request), request.uint64(), request.data()
        first = opened.error is None
        with self._telling(opened.path, aloud=first):
            opened.write(offset, data)
        return status(number, Status.OK)

    def fstat(self, number: int, request: Packet) -> bytes:
        """Tell an open file's attributes (§6.8)."""
        return packet(Kind.ATTRS, uint32(number), attributes.write(os.fstat(self._file(request).descriptor)))

    def fsetstat(self, number: int, request: Packet) -> bytes:
        """Set an open file's attributes (§6.9)."""
        opened, wanted = self._file(request), attributes.read(request)
        with self._telling(opened.path):
            attributes.apply(opened.descriptor, wanted)
        return status(number, Status.OK)

    def fsync(self, number: int, request: Packet) -> bytes:
        """Have a file on disk (fsync@openssh.com)."""
        opened = self._file(request)
        with self._telling(opened.path):
            os.fsync(opened.descriptor)
        return status(number, Status.OK)

    def copy_data(self, number: int, request: Packet) -> bytes:
        """Copy from an open file to another, or within one (draft-ietf-secsh-filexfer-extensions-00 §7)."""
        source, offset, count = self._file(request), request.uint64() & LARGEST_OFFSET, request.uint64()
        target, to = self._file(request), request.uint64()
        if source is target or os.path.sameopenfile(source.descriptor, target.descriptor):
            raise Refused(Status.FAILURE, "the source and the target are one file")
        with self._telling(target.path):
            left = count or None
            while left is None or left > 0:
                data = os.pread(
                    source.descriptor, wire.DATA_LIMIT if left is None else min(left, wire.DATA_LIMIT), offset
                )
                if not data:
                    break
                target.write(to, memoryview(data))
                offset, to = offset + len(data), to + len(data)
                left = None if left is None else left - len(data)
        return status(number, Status.OK)

    # Folders

    def opendir(self, number: int, request: Packet) -> bytes:
        """Begin to list a folder (§6.7)."""
        path = _path(request)
        self._check_handles()
        return answers.handle(number, self._handles.add(OpenFolder(path)))

    def readdir(self, number: int, request: Packet) -> bytes:
        """List some entries of a folder (§6.7)."""
        opened = self._handles.get(request.string())
        if not isinstance(opened, OpenFolder):
            raise Refused(Status.FAILURE, "no such handle")
        entries = opened.some()
        if not entries:
            return status(number, Status.EOF)
        now = time.time()
        return packet(
            Kind.NAME, uint32(number), uint32(len(entries)), *(answers.entry(*entry, now) for entry in entries)
        )

    def mkdir(self, number: int, request: Packet) -> bytes:
        """Make a folder (§6.6)."""
        path, given = _path(request), attributes.read(request)
        with self._telling(path), self._recording("mkdir", path):
            os.mkdir(path, NEW_FOLDER_MODE if given.mode is None else given.mode)
        return status(number, Status.OK)

    def rmdir(self, number: int, request: Packet) -> bytes:
        """Remove an empty folder (§6.6)."""
        path = _path(request)
        with self._telling(path), self._recording("rmdir", path):
            os.rmdir(path)
        return status(number, Status.OK)

    # Names

    def remove(self, number: int, request: Packet) -> bytes:
        """Remove a file (§6.5)."""
        path = _path(request)
        with self._telling(path), self._recording("remove", path):
            os.unlink(path)
        return status(number, Status.OK)

    def rename(self, number: int, request: Packet) -> bytes:
        """Rename; never over what is there (§6.5)."""
        old, new = _path(request), _path(request)
        with self._telling(old), self._recording("rename", old, new):
            paths.rename_to_nothing(old, new)
        return status(number, Status.OK)

    def posix_rename(self, number: int, request: Packet) -> bytes:
        """Rename, in place of what is there (posix-rename@openssh.com)."""
        old, new = _path(request), _path(request)
        with self._telling(old), self._recording("rename", old, new):
            os.rename(old, new)
        return status(number, Status.OK)

    def symlink(self, number: int, request: Packet) -> bytes:
        """Make a symbolic link. What it leads to comes first, as OpenSSH has it (PROTOCOL §4.1), against §6.10."""
        target, path = _path(request), _path(request)
        with self._telling(path), self._recording("symlink", path, target):
            os.symlink(target, path)
        return status(number, Status.OK)

    def hardlink(self, number: int, request: Packet) -> bytes:
        """Make a hard link (hardlink@openssh.com)."""
        old, new = _path(request), _path(request)
        with self._telling(old), self._recording("link", old, new):
            os.link(old, new, follow_symlinks=False)
        return status(number, Status.OK)

    def readlink(self, number: int, request: Packet) -> bytes:
        """Tell where a symbolic link leads (§6.10)."""
        return answers.name(number, os.readlink(_path(request)))

    def realpath(self, number: int, request: Packet) -> bytes:
        """Tell the absolute path, without links (§6.11). The last name need not be there."""
        return answers.name(number, paths.real(_path(request)))

    def expand_path(self, number: int, request: Packet) -> bytes:
        """As realpath, of a path that may begin with ~ (expand-path@openssh.com)."""
        path = _path(request)
        expanded = os.path.expanduser(path)
        if path.startswith(b"~") and expanded.startswith(b"~"):
            raise Refused(Status.FAILURE, "no such user")
        return answers.name(number, paths.real(expanded))

    def home_directory(self, number: int, request: Packet) -> bytes:
        """Tell the home of a user (home-directory, draft-ietf-secsh-filexfer-extensions-00)."""
        login = request.string()
        expanded = os.path.expanduser(b"~" + login)
        if b"/" in login or expanded.startswith(b"~"):
            raise Refused(Status.FAILURE, "no such user")
        return answers.name(number, expanded)

    # Attributes

    def stat(self, number: int, request: Packet) -> bytes:
        """Tell a path's attributes, of what a link leads to (§6.8)."""
        return packet(Kind.ATTRS, uint32(number), attributes.write(os.stat(_path(request))))

    def lstat(self, number: int, request: Packet) -> bytes:
        """Tell a path's attributes, of a link itself (§6.8)."""
        return packet(Kind.ATTRS, uint32(number), attributes.write(os.lstat(_path(request))))

    def setstat(self, number: int, request: Packet) -> bytes:
        """Set a path's attributes, of what a link leads to (§6.9)."""
        path, wanted = _path(request), attributes.read(request)
        with self._telling(path), self._recording("attributes", path):
            attributes.apply(path, wanted)
        return status(number, Status.OK)

    def lsetstat(self, number: int, request: Packet) -> bytes:
        """Set a path's attributes, of a link itself (lsetstat@openssh.com)."""
        path, wanted = _path(request), attributes.read(request)
        with self._telling(path), self._recording("attributes", path):
            attributes.apply_to_link(path, wanted)
        return status(number, Status.OK)

    def statvfs(self, number: int, request: Packet) -> bytes:
        """Tell how full a path's file system is (statvfs@openssh.com)."""
        return answers.file_system(number, os.statvfs(_path(request)))

    def fstatvfs(self, number: int, request: Packet) -> bytes:
        """Tell how full an open file's file system is (fstatvfs@openssh.com)."""
        return answers.file_system(number, os.fstatvfs(self._file(request).descriptor))

    def limits(self, number: int, _: Packet) -> bytes:
        """Tell what is taken at once (limits@openssh.com)."""
        told = (wire.PACKET_LIMIT, wire.DATA_LIMIT, wire.DATA_LIMIT, self._handles.limit)
        return packet(Kind.EXTENDED_REPLY, uint32(number), *(value.to_bytes(8, "big") for value in told))

    def users_groups_by_id(self, number: int, request: Packet) -> bytes:
        """Tell names of user and group ids, "" for an unknown one (users-groups-by-id@openssh.com)."""
        users, groups = _numbers(request.string()), _numbers(request.string())
        names = b"".join(string(answers.user_name(user).encode()) for user in users)
        group_names = b"".join(string(answers.group_name(group).encode()) for group in groups)
        return packet(Kind.EXTENDED_REPLY, uint32(number), string(names), string(group_names))

    # What they have in common

    def _file(self, request: Packet) -> OpenFile:
        opened = self._handles.get(request.string())
        if not isinstance(opened, OpenFile):
            raise Refused(Status.FAILURE, "no such handle")
        return opened

    def _check_handles(self) -> None:
        if self._handles.full:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    @contextmanager
    def _recording(self, action: str, path: bytes, target: bytes = b"") -> Iterator[None]:
        """Tell the node how an operation ended."""
        with self._recording_failure(action, path, target):
            yield
        self._channel.record(action, path, target=target)

    @contextmanager
    def _recording_failure(self, action: str, path: bytes, target: bytes = b"") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._channel.record(action, path, error, target=target)
            raise

    @contextmanager
    def _telling(self, path: bytes, *, aloud: bool = True) -> Iterator[None]:
        """Tell the person what went wrong: OpenSSH's clients show no more of it than "Failure"."""
        try:
            yield
        except OSError as error:
            expected = error.errno == errno.EEXIST  # a client makes a folder to see whether it is there
            if aloud and not expected and wire.status_of(error) is Status.FAILURE:
                self._channel.say(f"sftp: {os.fsdecode(path)}: {reason(error)}")
            raise


def _path(request: Packet) -> bytes:
    path = request.string()
    if b"\0" in path:
        raise OSError(errno.EINVAL, "a path cannot hold NUL")
    return path


def _numbers(text: bytes) -> list[int]:
    return [int.from_bytes(text[at : at + 4], "big") for at in range(0, len(text) - 3, 4)]


EXTENSIONS = (
    *(b"posix-rename@openssh.com", b"1", b"statvfs@openssh.com", b"2", b"fstatvfs@openssh.com", b"2"),
    *(b"hardlink@openssh.com", b"1", b"fsync@openssh.com", b"1", b"lsetstat@openssh.com", b"1"),
    *(b"limits@openssh.com", b"1", b"expand-path@openssh.com", b"1", b"copy-data", b"1"),
    *(b"home-directory", b"1", b"users-groups-by-id@openssh.com", b"1"),
)
"""Names and versions, as they are told in VERSION."""

OPERATIONS: dict[int | bytes, Callable[[Operations, int, Packet], bytes]] = {
    Kind.OPEN: Operations.open,
    Kind.CLOSE: Operations.close,
    Kind.READ: Operations.read,
    Kind.WRITE: Operations.write,
    Kind.LSTAT: Operations.lstat,
    Kind.FSTAT: Operations.fstat,
    Kind.SETSTAT: Operations.setstat,
    Kind.FSETSTAT: Operations.fsetstat,
    Kind.OPENDIR: Operations.opendir,
    Kind.READDIR: Operations.readdir,
    Kind.REMOVE: Operations.remove,
    Kind.MKDIR: Operations.mkdir,
    Kind.RMDIR: Operations.rmdir,
    Kind.REALPATH: Operations.realpath,
    Kind.STAT: Operations.stat,
    Kind.RENAME: Operations.rename,
    Kind.READLINK: Operations.readlink,
    Kind.SYMLINK: Operations.symlink,
    b"posix-rename@openssh.com": Operations.posix_rename,
    b"statvfs@openssh.com": Operations.statvfs,
    b"fstatvfs@openssh.com": Operations.fstatvfs,
    b"hardlink@openssh.com": Operations.hardlink,
    b"fsync@openssh.com": Operations.fsync,
    b"lsetstat@openssh.com": Operations.lsetstat,
    b"limits@openssh.com": Operations.limits,
    b"expand-path@openssh.com": Operations.expand_path,
    b"copy-data": Operations.copy_data,
    b"home-directory": Operations.home_directory,
    b"users-groups-by-id@openssh.com": Operations.users_groups_by_id,
}
