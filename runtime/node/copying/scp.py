"""The old protocol of scp, which sends: `scp -f`. What both sides of it have in common is here too.

There is no document of it but OpenSSH's scp.c (`source`, `rsource`, `response`, `run_err`). A line and its answer by
turns: C (a file), D and E (a folder and its end), T (times); the answer is 0, or 1 (an error) or 2 (the end) and a line
of text.
"""

from __future__ import annotations

import errno
import glob
import os
import stat
from collections.abc import Iterator

from runtime.node.copying.attributes import MODE_BITS
from runtime.node.copying.channel import READ_BYTES, Channel, Gone, reason
from runtime.node.copying.command import ScpRequest, Word
from runtime.node.copying.records import shown_to_bytes

LINE_LIMIT = 16 * 1024
"""Bytes of a line of the protocol, as in OpenSSH: four times PATH_MAX."""
_SHORTER = OSError(errno.EIO, "the file became shorter while it was sent")
TEXT_LIMIT = 1024
"""Bytes of an error's text: a long path gives way in its middle, so that the reason behind it is seen."""
OK = b"\0"
ERROR, FATAL = b"\x01", b"\x02"


class Peer:
    """The scp on the other side: its answers, and ours."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.failures = 0

    def accept(self) -> None:
        """Say that the last line was understood."""
        self.channel.write(OK)

    def fail(self, text: str) -> None:
        """Tell the other side of an error, which it shows to the person, and go on."""
        self.failures += 1
        shown = shown_to_bytes(text)
        if len(shown) > TEXT_LIMIT:
            shown = shown[: TEXT_LIMIT // 2] + b"..." + shown[-TEXT_LIMIT // 2 :]
        self.channel.write(ERROR + b"scp: " + shown + b"\n")

    def accepted(self) -> bool:
        """Wait for an answer. Raises Gone where it is the end."""
        answer = self.channel.read_up_to(1)
        if answer == OK:
            return True
        self.channel.read_line(LINE_LIMIT)
        if answer != ERROR:
            raise Gone
        self.failures += 1
        return False


class Source:
    """Sends files and folders, following links as scp does."""

    def __init__(self, peer: Peer, request: ScpRequest) -> None:
        self._peer = peer
        self._channel = peer.channel
        self._request = request

    def run(self) -> None:
        """Send all that was asked for. Raises Gone."""
        if not self._peer.accepted():
            return
        for word in self._request.paths:
            for path in expand(word):
                self._send(path)

    def _send(self, path: bytes) -> None:
        """Send one path, and what is below it. A list of open folders, not recursion: they may be deep."""
        entered = self._send_one(path)
        folders = [] if entered is None else [entered]
        while folders:
            below = next(folders[-1], None)
            if below is None:
                folders.pop()
                self._line(b"E")
            elif (entered := self._send_one(below)) is not None:
                folders.append(entered)

    def _send_one(self, path: bytes) -> Iterator[bytes] | None:
        """Send a file; of a folder only its beginning: return the paths in it."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except (OSError, ValueError) as error:
            self._failed(path, error)
            return None
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode):
                self._send_file(path, descriptor, found)
                return None
            if stat.S_ISDIR(found.st_mode) and self._request.recursive:
                return self._enter(path, found)
            self._failed(path, "not a regular file")
        finally:
            os.close(descriptor)
        return None

    def _send_file(self, path: bytes, descriptor: int, found: os.stat_result) -> None:
        if not self._announce(b"C", path, found, found.st_size):
            return
        sent = 0
        problem: Exception | str | None = "the transfer ended before the file did"
        try:
            sent, problem = self._copy(descriptor, found.st_size)
            if problem:
                self._peer.fail(f"{os.fsdecode(path)}: {reason(problem)}")
            else:
                self._peer.accept()
            if not self._peer.accepted():
                problem = problem or "the other side could not keep it"
        except Gone:
            problem = problem or "the transfer ended before the other side had it"
            raise
        finally:
            self._channel.record("download", path, problem, size=sent)

    def _copy(self, descriptor: int, size: int) -> tuple[int, OSError | None]:
        """Send as many bytes as were announced, zeros where there are no more. Returns how many were the file's."""
        sent = 0
        problem: OSError | None = None
        while sent < size and not problem:
            try:
                data = os.read(descriptor, min(size - sent, READ_BYTES))
            except OSError as error:
                problem = error
            else:
                problem = None if data else _SHORTER
                self._channel.write(data)
                sent += len(data)
        for at in range(sent, size, READ_BYTES):
            self._channel.write(bytes(min(size - at, READ_BYTES)))
        return sent, problem

    def _enter(self, path: bytes, found: os.stat_result) -> Iterator[bytes] | None:
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            self._failed(path, error)
            return None
        if not self._announce(b"D", path, found, 0):
            return None
        return (os.path.join(path, name) for name in names)

    def _announce(self, kind: bytes, path: bytes, found: os.stat_result, size: int) -> bool:
        """Send the line that a file or folder begins with. Returns whether the other side takes it."""
        name = os.path.basename(path.rstrip(b"/")) or path
        if b"\n" in name:
            self._failed(path, "a name with a line break cannot be sent in this protocol; use scp without -O, or sftp")
            return False
        if self._request.preserve and not self._line(b"T%d 0 %d 0" % (max(0, found.st_mtime), max(0, found.st_atime))):
            return False
        return self._line(b"%s%04o %d %s" % (kind, found.st_mode & MODE_BITS, size, name))

    def _line(self, line: bytes) -> bool:
        self._channel.write(line + b"\n")
        return self._peer.accepted()

    def _failed(self, path: bytes, error: Exception | str) -> None:
        self._peer.fail(f"{os.fsdecode(path)}: {reason(error)}")
        self._channel.record("download", path, reason(error))


def expand(word: Word) -> list[bytes]:
    """Return the paths that a word stands for, sorted; itself, where its pattern matches nothing (POSIX 2.6.6)."""
    home = os.path.expanduser(word.tilde)
    if word.pattern and (found := sorted(glob.glob(os.fsencode(glob.escape(home) + word.pattern)))):
        return found
    return [os.fsencode(home + word.text)]
