"""A recording in memory."""

from __future__ import annotations

from runtime.audit.reading import File


class Memory:
    """A recording's files, and how much of them was read."""

    def __init__(self, log: bytes, printed: bytes, index: bytes = b"") -> None:
        self.log = log
        self.bytes = printed
        self.index = index
        self.taken = 0

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Return bytes of a file."""
        data = {"log": self.log, "bytes": self.bytes, "index": self.index}[part][offset : offset + size]
        self.taken += len(data)
        return data
