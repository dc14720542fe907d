"""SSH subsystems as plain byte streams, on both ends (RFC 4254 §6.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncssh
from asyncssh.stream import SSHServerStreamSession

from runtime.core.errors import AccessDenied, Unavailable
from runtime.transport.client import ClientConnection

READ_BYTES = 64 * 1024


class SubsystemStream:
    """One channel as a stream of bytes. A lost connection is an OSError, as for a socket."""

    def __init__(self, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        """Return the next bytes; none at the end. Raises OSError."""
        try:
            return await self._reader.read(READ_BYTES)
        except asyncssh.Error as error:
            raise ConnectionResetError(str(error)) from error

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the peer's window is full. Raises OSError."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except asyncssh.Error as error:
            raise ConnectionResetError(str(error)) from error

    async def close(self) -> None:
        """Close the channel; with it the connection, where it was opened for this channel alone."""
        self._writer.close()
        await self._writer.channel.wait_closed()


class OwnedStream(SubsystemStream):
    """A stream on a connection that was opened for it, and closes with it."""

    def __init__(
        self,
        connection: ClientConnection,
        reader: asyncssh.SSHReader[bytes],
        writer: asyncssh.SSHWriter[bytes],
    ) -> None:
        super().__init__(reader, writer)
        self._connection = connection

    async def close(self) -> None:
        """Close the channel and the connection."""
        self._writer.close()
        self._connection.close()
        await self._connection.wait_closed()


async def open_subsystem(connection: ClientConnection, name: str) -> OwnedStream:
    """Open a subsystem on a connection that has no other use. Raises AccessDenied, Unavailable."""
    try:
        writer, reader, _ = await connection.open_session(subsystem=name, encoding=None)
    except asyncssh.ChannelOpenError as error:
        connection.abort()
        raise AccessDenied(f"the server does not offer the subsystem {name}: {error.reason}") from error
    except (asyncssh.Error, OSError) as error:
        connection.abort()
        raise Unavailable(f"the subsystem {name} could not be opened: {error}") from error
    return OwnedStream(connection, reader, writer)


class SubsystemSession(SSHServerStreamSession[bytes]):
    """A server's session that is one subsystem and refuses a shell, a command, a terminal and every other subsystem."""

    def __init__(self, name: str, serve: Callable[[SubsystemStream], Awaitable[None]]) -> None:
        async def session(
            reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes], _: asyncssh.SSHWriter[bytes]
        ) -> None:
            try:
                await serve(SubsystemStream(reader, writer))
            except asyncio.CancelledError:
                writer.channel.abort()
                raise

        super().__init__(session)
        self._name = name

    def pty_requested(self, term_type: str, term_size: Any, term_modes: Any) -> bool:
        """Refuse a terminal."""
        return False

    def shell_requested(self) -> bool:
        """Refuse a shell."""
        return False

    def exec_requested(self, command: str) -> bool:
        """Refuse a command."""
        return False

    def subsystem_requested(self, subsystem: str) -> bool:
        """Accept the one subsystem."""
        return subsystem == self._name
