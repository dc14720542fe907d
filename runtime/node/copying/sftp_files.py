"""What an SFTP client has open: files and folders, under handles (draft-ietf-secsh-filexfer-02 §6.2)."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from runtime.node.copying.wire import OpenFlag

SPARE_DESCRIPTORS = 16
"""Open files that the process needs beside those of the client."""
NEW_FILE_MODE = 0o666
LARGEST_OFFSET = 2**63 - 1
ENTRIES = 128
"""Entries of a folder in one answer."""


class OpenFile:
    """A file. It is uploaded when it was opened to be written, else downloaded."""

    def __init__(self, path: bytes, wanted: OpenFlag, mode: int | None) -> None:
        flags = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # a pipe or a device with nobody behind it does not hold us
        if wanted & OpenFlag.WRITE:
            flags |= os.O_RDWR if wanted & OpenFlag.READ else os.O_WRONLY
        for flag, bit in _FLAGS.items():
            flags |= bit if wanted & flag else 0
        self.path = path
        self.writable = bool(wanted & OpenFlag.WRITE)
        self.copied = 0
        """Bytes."""
        self.error: OSError | None = None
        """The first that reading or writing it had."""
        self.descriptor = os.open(path, flags, NEW_FILE_MODE if mode is None else mode)

    @property
    def action(self) -> str:
        """Return its name in a record."""
        return "upload" if self.writable else "download"

    def read(self, offset: int, count: int) -> bytes:
        """Return at most `count` bytes; none at the end. Raises OSError."""
        try:
            data = os.pread(self.descriptor, count, _within(offset))
        except OSError as error:
            self.error = self.error or error
            raise
        if not self.writable:
            self.copied += len(data)
        return data

    def write(self, offset: int, data: memoryview) -> None:
        """Write it all, at the end where the file was opened so. Raises OSError, after as much as could be written."""
        try:
            while data:
                written = os.pwrite(self.descriptor, data, _within(offset))
                data, offset, self.copied = data[written:], offset + written, self.copied + written
        except OSError as error:
            self.error = self.error or error
            raise

    def close(self) -> None:
        """Close it. Raises OSError where what was written could not be kept."""
        os.close(self.descriptor)


class OpenFolder:
    """A folder that is being listed."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self._entries = os.scandir(path)
        self._dots = [(b".", path), (b"..", os.path.join(path, b".."))]

    def some(self) -> list[tuple[bytes, os.stat_result]]:
        """Return the next entries, links as such; none at the end. What vanished is left out. Raises OSError."""
        found: list[tuple[bytes, os.stat_result]] = []
        for name, path in self._names():
            try:
                found.append((name, os.lstat(path)))
            except OSError:
                continue
            if len(found) == ENTRIES:
                break
        return found

    def close(self) -> None:
        """Close it."""
        self._entries.close()

    def _names(self) -> Iterator[tuple[bytes, bytes]]:
        while self._dots:
            yield self._dots.pop(0)
        for entry in self._entries:
            yield entry.name, entry.path


class Handles:
    """Everything that is open, by its handle."""

    def __init__(self) -> None:
        self._open: dict[bytes, OpenFile | OpenFolder] = {}
        self._last = 0
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.limit = 1024 if soft == resource.RLIM_INFINITY else max(1, soft - SPARE_DESCRIPTORS)

    def add(self, opened: OpenFile | OpenFolder) -> bytes:
        """Return a handle, one that was never given before."""
        self._last += 1
        handle = self._last.to_bytes(8, "big")
        self._open[handle] = opened
        return handle

    @property
    def full(self) -> bool:
        """Tell whether no more may be opened."""
        return len(self._open) >= self.limit

    def get(self, handle: bytes) -> OpenFile | OpenFolder | None:
        """Return what is open under a handle."""
        return self._open.get(handle)

    def take(self, handle: bytes) -> OpenFile | OpenFolder | None:
        """Return what is open under a handle, which then is no longer one."""
        return self._open.pop(handle, None)

    def take_all(self) -> list[OpenFile | OpenFolder]:
        """Return all that is open, and forget it."""
        left, self._open = list(self._open.values()), {}
        return left


def _within(offset: int) -> int:
    """Return an offset that the system can take, which refuses it if it is beyond."""
    return min(offset, LARGEST_OFFSET)


_FLAGS = {
    OpenFlag.APPEND: os.O_APPEND,
    OpenFlag.CREATE: os.O_CREAT,
    OpenFlag.TRUNCATE: os.O_TRUNC,
    OpenFlag.EXCLUSIVE: os.O_EXCL,
}
