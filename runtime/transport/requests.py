"""Channels that a client opens on a connection that it keeps: for a short answer, or to be joined to another one."""

from __future__ import annotations

import asyncio

import asyncssh

from runtime.core.errors import InvalidInput, Unavailable
from runtime.transport.client import ClientConnection
from runtime.transport.splice import FarChannel


async def ask(connection: ClientConnection, subsystem: str, *, most: int) -> bytes:
    """Return all that a subsystem says before it ends, `most` bytes at most. Raises Unavailable, InvalidInput.

    Who gives up waiting leaves no channel open.
    """
    answer = _Answer(most)
    try:
        await _open(connection, subsystem, answer)
        await answer.over.wait()
    finally:
        answer.abort()
    if answer.too_long:
        raise InvalidInput(f"an answer of more than {most} bytes")
    if answer.error is not None:
        raise Unavailable(f"the connection broke: {answer.error}") from answer.error
    return bytes(answer.data)


async def open_far(connection: ClientConnection, subsystem: str, far: FarChannel) -> None:
    """Open a subsystem whose channel is to be joined to another. Raises Unavailable."""
    await _open(connection, subsystem, far)


async def _open(connection: ClientConnection, subsystem: str, session: _Answer | FarChannel) -> None:
    opening = asyncio.ensure_future(
        connection.create_session(lambda: session, subsystem=subsystem, encoding=None, request_pty=False)
    )
    try:
        # Not cancelled itself: a channel that the other side opens after that would stay open for ever.
        await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(lambda done: done.cancelled() or done.exception() or session.abort())
        raise
    except (asyncssh.Error, OSError) as error:
        raise Unavailable(f"no channel could be opened: {error}") from error


class _Answer(asyncssh.SSHClientSession[bytes]):
    """The session of a short answer."""

    def __init__(self, most: int) -> None:
        self.data = bytearray()
        self.over = asyncio.Event()
        self.too_long = False
        self.error: Exception | None = None
        self._most = most
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is not None:
            return
        if len(self.data) + len(data) > self._most:
            self.too_long = True
            self.abort()
        else:
            self.data += data

    def eof_received(self) -> bool:
        self.over.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.is_set():
            self.error = exc
        self.over.set()

    def abort(self) -> None:
        """Close at once."""
        if self._channel is not None:
            self._channel.abort()
