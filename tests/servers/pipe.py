"""A two-way byte stream in memory, to join the two ends of a conversation in a test."""

from __future__ import annotations

import asyncio


class Pipe:
    """One end of a stream in memory; closing either end ends both."""

    def __init__(self) -> None:
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._other = self

    @classmethod
    def pair(cls) -> tuple[Pipe, Pipe]:
        """Return both ends of a new stream."""
        left, right = cls(), cls()
        left._other, right._other = right, left
        return left, right

    async def read(self) -> bytes:
        """Return what the other end wrote; nothing when it was closed."""
        return await self._inbox.get()

    async def write(self, data: bytes) -> None:
        """Hand bytes to the other end."""
        self._other._inbox.put_nowait(data)

    async def close(self) -> None:
        """End both directions."""
        self._inbox.put_nowait(b"")
        self._other._inbox.put_nowait(b"")
