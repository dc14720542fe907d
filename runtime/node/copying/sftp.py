"""An SFTP server, version 3, for one client on standard input and output, with the extensions of OpenSSH's client.

It does what OpenSSH's sftp-server does, with the rights of the process as the only limit, but for set-user-ID,
set-group-ID and sticky bits, which it never sets. Source: draft-ietf-secsh-filexfer-02; OpenSSH PROTOCOL §4.
"""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from runtime.node.copying import answers, attributes, paths, wire
from runtime.node.copying.channel import Channel, Gone, reason
from runtime.node.copying.sftp_files import LARGEST_OFFSET, Handles, OpenFile, OpenFolder
from runtime.node.copying.wire import BadPacket, Kind, OpenFlag, Packet, Status, packet, status, string, uint32

NEW_FOLDER_MODE = 0o777
FLUSH_BYTES = 128 * 1024
"""Answers are sent together up to so many bytes, and before more requests are waited for."""
LENGTH_BYTES = 4
FLUSH_PIECES = 512
"""writev(2) takes up to 1024 pieces."""
Operation = Callable[[int, Packet], bytes]


class _Refused(Exception):
    """A request that cannot be carried out for a reason that is not the operating system's."""

    def __init__(self, code: Status, text: str = "") -> None:
        super().__init__(text)
        self.code = code


class SftpServer:
    """Answers one client's requests, one after the other, as they come."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._handles = Handles()
        self._answers: list[bytes] = []
        self._waiting = 0
        self._begun = False

    def serve(self) -> int:
        """Serve until the client ends its side. Returns the exit code."""
        pending = bytearray()
        try:
            while data := self._channel.read_some():
                pending += data
                del pending[: self._answer_all(pending)]
                self._flush()
        except BadPacket as error:
            self._channel.say(f"sftp: {error}")
            return 1
        except Gone:
            return 1
        finally:
            for left in self._handles.take_all():
                self._close(left, OSError("the session ended before the file was closed"))
        return 0

    def _answer_all(self, pending: bytearray) -> int:
        """Answer each whole packet; return how many bytes they were."""
        at = 0
        while len(pending) - at >= LENGTH_BYTES:
            length = int.from_bytes(pending[at : at + LENGTH_BYTES], "big")
            if not 0 < length <= wire.PACKET_LIMIT:
                raise BadPacket(f"a packet of {length} bytes; at most {wire.PACKET_LIMIT} are taken")
            begin = at + LENGTH_BYTES
            if len(pending) < begin + length:
                break
            with memoryview(pending) as view:
                body = bytes(view[begin : begin + length])
            self._answer(Packet(memoryview(body)))
            at = begin + length
        return at

    def _answer(self, request: Packet) -> None:
        kind = request.byte()
        number = request.uint32()
        if not self._begun:
            if kind != Kind.INIT:
                raise BadPacket("the first packet is not INIT")
            self._begun = True
            self._send(packet(Kind.VERSION, uint32(wire.VERSION), *map(string, _EXTENSIONS)))
            return
        operation = self._operation(kind, request)
        try:
            self._send(operation(number, request))
        except _Refused as refusal:
            self._send(status(number, refusal.code, str(refusal)))
        except OSError as error:
            self._send(status(number, wire.status_of(error), reason(error)))

    def _operation(self, kind: int, request: Packet) -> Operation:
        name = request.string() if kind == Kind.EXTENDED else kind
        found = _OPERATIONS.get(name)
        return functools.partial(found, self) if found else _unsupported

    def _send(self, answer: bytes) -> None:
        self._answers.append(answer)
        self._waiting += len(answer)
        if self._waiting >= FLUSH_BYTES or len(self._answers) >= FLUSH_PIECES:
            self._flush()

    def _flush(self) -> None:
        if self._answers:
            self._channel.write(*self._answers)
            self._answers, self._waiting = [], 0

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
            raise _Refused(Status.FAILURE, "no such handle")
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
            raise _Refused(Status.FAILURE, "the source and the target are one file")
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
            raise _Refused(Status.FAILURE, "no such handle")
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
            raise _Refused(Status.FAILURE, "no such user")
        return answers.name(number, paths.real(expanded))

    def home_directory(self, number: int, request: Packet) -> bytes:
        """Tell the home of a user (home-directory, draft-ietf-secsh-filexfer-extensions-00)."""
        login = request.string()
        expanded = os.path.expanduser(b"~" + login)
        if b"/" in login or expanded.startswith(b"~"):
            raise _Refused(Status.FAILURE, "no such user")
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
            raise _Refused(Status.FAILURE, "no such handle")
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


def _unsupported(number: int, _: Packet) -> bytes:
    return status(number, Status.UNSUPPORTED)


def _path(request: Packet) -> bytes:
    path = request.string()
    if b"\0" in path:
        raise OSError(errno.EINVAL, "a path cannot hold NUL")
    return path


def _numbers(text: bytes) -> list[int]:
    return [int.from_bytes(text[at : at + 4], "big") for at in range(0, len(text) - 3, 4)]


_EXTENSIONS = (
    *(b"posix-rename@openssh.com", b"1", b"statvfs@openssh.com", b"2", b"fstatvfs@openssh.com", b"2"),
    *(b"hardlink@openssh.com", b"1", b"fsync@openssh.com", b"1", b"lsetstat@openssh.com", b"1"),
    *(b"limits@openssh.com", b"1", b"expand-path@openssh.com", b"1", b"copy-data", b"1"),
    *(b"home-directory", b"1", b"users-groups-by-id@openssh.com", b"1"),
)
"""Names and versions, as they are told in VERSION."""

_OPERATIONS: dict[int | bytes, Callable[[SftpServer, int, Packet], bytes]] = {
    Kind.OPEN: SftpServer.open,
    Kind.CLOSE: SftpServer.close,
    Kind.READ: SftpServer.read,
    Kind.WRITE: SftpServer.write,
    Kind.LSTAT: SftpServer.lstat,
    Kind.FSTAT: SftpServer.fstat,
    Kind.SETSTAT: SftpServer.setstat,
    Kind.FSETSTAT: SftpServer.fsetstat,
    Kind.OPENDIR: SftpServer.opendir,
    Kind.READDIR: SftpServer.readdir,
    Kind.REMOVE: SftpServer.remove,
    Kind.MKDIR: SftpServer.mkdir,
    Kind.RMDIR: SftpServer.rmdir,
    Kind.REALPATH: SftpServer.realpath,
    Kind.STAT: SftpServer.stat,
    Kind.RENAME: SftpServer.rename,
    Kind.READLINK: SftpServer.readlink,
    Kind.SYMLINK: SftpServer.symlink,
    b"posix-rename@openssh.com": SftpServer.posix_rename,
    b"statvfs@openssh.com": SftpServer.statvfs,
    b"fstatvfs@openssh.com": SftpServer.fstatvfs,
    b"hardlink@openssh.com": SftpServer.hardlink,
    b"fsync@openssh.com": SftpServer.fsync,
    b"lsetstat@openssh.com": SftpServer.lsetstat,
    b"limits@openssh.com": SftpServer.limits,
    b"expand-path@openssh.com": SftpServer.expand_path,
    b"copy-data": SftpServer.copy_data,
    b"home-directory": SftpServer.home_directory,
    b"users-groups-by-id@openssh.com": SftpServer.users_groups_by_id,
}
