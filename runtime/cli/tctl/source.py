"""Recordings as tctl reads them: from auth, a piece at a time, however long they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from runtime.cli.tctl.connection import with_auth

if TYPE_CHECKING:
    import asyncio
    from uuid import UUID

    from runtime.api.client import AuthClient
    from runtime.audit.reading import File, Source

T = TypeVar("T")


def reading(sid: UUID, use: Callable[[Source], T]) -> T:
    """Return what `use` makes of a recording. It runs in a thread of its own, for reading blocks.

    Raises what `use` raises, and NotFound, AccessDenied, Unavailable where the recording cannot be read.
    """
    import asyncio

    async def work(auth: AuthClient) -> T:
        source = _AuthSource(auth, sid, asyncio.get_running_loop())
        try:
            return await asyncio.to_thread(use, source)
        finally:
            source.close()

    return with_auth(work)


class _AuthSource:
    """A recording that auth gives, for a thread beside the loop in which auth is called."""

    def __init__(self, auth: AuthClient, sid: UUID, loop: asyncio.AbstractEventLoop) -> None:
        self._auth = auth
        self._sid = sid
        self._loop = loop
        self._closed = False

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Ask for bytes of a file."""
        import asyncio

        from runtime.api import methods
        from runtime.api.recording_messages import MAX_RECORDING_BYTES, RecordingRead
        from runtime.core.errors import Unavailable

        if self._closed:  # the loop ends, and would not answer any more
            raise Unavailable("reading the recording was broken off")
        wanted = RecordingRead(sid=self._sid, part=part, offset=offset, size=min(size, MAX_RECORDING_BYTES))
        call = self._auth.call(methods.RECORDING_READ, wanted)
        return asyncio.run_coroutine_threadsafe(call, self._loop).result().data

    def close(self) -> None:
        """Let whoever still reads learn that it is over."""
        self._closed = True
