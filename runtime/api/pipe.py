"""A conversation without a socket: a byte stream in memory, for callers within auth's process and for tests."""

from __future__ import annotations

import asyncio
from typing import Self


class Pipe:
    """One end of a byte stream in memory; closing either end ends both. It is a `runtime.api.session.Stream`."""

    def __init__(self) -> None:
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._other: Pipe = self

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return both ends of a new stream."""
        ours, theirs = cls(), cls()
        ours._other, theirs._other = theirs, ours
        return ours, theirs

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
