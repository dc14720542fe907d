"""The old protocol of scp, which receives: `scp -t`. The other side is not trusted with names, modes or sizes.

Source: OpenSSH's scp.c `sink`. A name is one name in the folder that the person named, or nothing is written; of a mode
only 0777 counts, less the umask unless -p was given.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import NamedTuple

from runtime.node.copying.attributes import LARGEST_SIZE, MODE_BITS
from runtime.node.copying.channel import Gone, reason
from runtime.node.copying.command import ScpRequest
from runtime.node.copying.scp import ERROR, FATAL, LINE_LIMIT, Peer, expand

_ENTRY = re.compile(rb"([CD])([0-7]{1,6}) ([0-9]{1,19}) (.+)", re.DOTALL)
_TIMES = re.compile(rb"T([0-9]{1,12}) [0-9]{1,6} ([0-9]{1,12}) [0-9]{1,6}")
_OWNER_MAY_ALL, _OWNER_MAY_WRITE = 0o700, 0o200


class Refused(Exception):
    """The other side sent what a proper scp does not: the transfer ends."""


class _Folder(NamedTuple):
    """A folder that is being filled, and what it gets at its end."""

    path: bytes
    is_folder: bool = True
    mode: int | None = None
    times: tuple[int, int] | None = None


class Sink:
    """Receives files and folders into one target."""

    def __init__(self, peer: Peer, request: ScpRequest) -> None:
        self._peer = peer
        self._channel = peer.channel
        self._request = request
        self._times: tuple[int, int] | None = None
        self._written = 0
        """Bytes of the file that is being received."""
        self._umask = os.umask(0o077)
        os.umask(self._umask)

    def run(self) -> None:
        """Receive until the other side is done. Raises Gone where it ends too early, Refused."""
        targets = expand(self._request.paths[0])
        if len(targets) != 1:
            raise Refused("ambiguous target")
        target = targets[0]
        is_folder = os.path.isdir(target)
        if self._request.into_directory and not is_folder:
            raise Refused(f"{os.fsdecode(target)}: {_reason_of_no_folder(target)}")
        self._peer.accept()
        folders = [_Folder(target, is_folder)]
        while line := self._channel.read_line(LINE_LIMIT):
            if not line.endswith(b"\n"):
                raise Gone
            self._obey(line[:-1], folders)
            if not folders:
                return
        if len(folders) > 1:
            raise Gone

    def _obey(self, line: bytes, folders: list[_Folder]) -> None:
        kind = line[:1]
        if kind == ERROR:
            self._peer.failures += 1
        elif kind == FATAL:
            raise Gone
        elif kind == b"E":
            self._leave(folders)
        elif times := _TIMES.fullmatch(line):
            self._times = (int(times[2]), int(times[1]))
            self._peer.accept()
        elif entry := _ENTRY.fullmatch(line):
            self._receive(entry, folders)
        else:
            raise Refused("the other side sent a line that is none of scp's")

    def _receive(self, entry: re.Match[bytes], folders: list[_Folder]) -> None:
        mode, size, name = int(entry[2], 8) & MODE_BITS, int(entry[3]), entry[4]
        times, self._times = self._times, None
        if size > LARGEST_SIZE:
            raise Refused(f"a file of {size} bytes is larger than any")
        check_name(name)
        into = folders[-1]
        path = os.path.join(into.path, name) if into.is_folder else into.path
        if entry[1] == b"D":
            self._enter(path, mode, times, folders)
        else:
            self._receive_file(path, mode, size, times)

    def _enter(self, path: bytes, mode: int, times: tuple[int, int] | None, folders: list[_Folder]) -> None:
        if not self._request.recursive:
            raise Refused("received a directory without -r")
        try:
            found = os.stat(path)
        except FileNotFoundError:
            found = None
        except (OSError, ValueError) as error:
            return self._failed("mkdir", path, error)
        if found and not stat.S_ISDIR(found.st_mode):
            return self._failed("mkdir", path, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
        if not found:
            try:
                os.mkdir(path, mode | _OWNER_MAY_ALL)
            except (OSError, ValueError) as error:
                return self._failed("mkdir", path, error)
            self._channel.record("mkdir", path)
        # A folder that was there keeps its mode unless -p was given; a new one gets what it lacked while it was filled.
        later = mode if self._request.preserve else None if found else mode & ~self._umask
        folders.append(_Folder(path, mode=later, times=times))
        self._peer.accept()
        return None

    def _leave(self, folders: list[_Folder]) -> None:
        left = folders.pop()
        if not folders:  # as OpenSSH: an end that nothing began is the end of all
            self._peer.accept()
            return
        try:
            if left.mode is not None:
                os.chmod(left.path, left.mode)
            if left.times is not None:
                os.utime(left.path, left.times)
        except (OSError, OverflowError) as error:
            self._peer.fail(f"{os.fsdecode(left.path)}: set times and mode: {reason(error)}")
            return
        self._peer.accept()

    def _receive_file(self, path: bytes, mode: int, size: int, times: tuple[int, int] | None) -> None:
        existed = os.path.exists(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, mode | _OWNER_MAY_WRITE)
        except (OSError, ValueError) as error:
            return self._failed("upload", path, error)
        self._written = 0
        problem: Exception | str | None = "the transfer ended before the file did"
        try:
            self._peer.accept()
            problem = self._copy(descriptor, size) or self._finish(descriptor, mode, size, times, existed=existed)
            if not self._peer.accepted():
                problem = problem or "the other side could not read it all"
            elif problem:
                self._peer.fail(f"{os.fsdecode(path)}: {reason(problem)}")
            else:
                self._peer.accept()
        finally:
            os.close(descriptor)
            self._channel.record("upload", path, problem, size=self._written)
        return None

    def _copy(self, descriptor: int, size: int) -> OSError | None:
        """Write what comes, and go on taking it after an error. Returns the error."""
        left = size
        error: OSError | None = None
        while left:
            data = memoryview(self._channel.read_up_to(left))
            left -= len(data)
            try:
                while data and not error:
                    count = os.write(descriptor, data)
                    data, self._written = data[count:], self._written + count
            except OSError as failure:
                error = failure
        return error

    def _finish(
        self, descriptor: int, mode: int, size: int, times: tuple[int, int] | None, *, existed: bool
    ) -> Exception | None:
        """Cut the file to its size; give it its mode and times."""
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.ftruncate(descriptor, size)
                if self._request.preserve:
                    os.fchmod(descriptor, mode)
                elif not existed:
                    os.fchmod(descriptor, mode & ~self._umask)
            if times is not None:
                os.utime(descriptor, times)
        except (OSError, OverflowError) as error:
            return error
        return None

    def _failed(self, action: str, path: bytes, error: Exception) -> None:
        self._peer.fail(f"{os.fsdecode(path)}: {reason(error)}")
        self._channel.record(action, path, error)


def check_name(name: bytes) -> None:
    """Raise Refused unless this is the name of one file in a folder, and nothing else to anybody."""
    if name in (b"", b".", b"..") or any(letter < 0x20 or letter == 0x7F or letter in b"/\\" for letter in name):
        raise Refused(f"unexpected filename: {os.fsdecode(name)}")


def _reason_of_no_folder(target: bytes) -> str:
    try:
        os.stat(target)
    except (OSError, ValueError) as error:
        return reason(error)
    return os.strerror(errno.ENOTDIR)
