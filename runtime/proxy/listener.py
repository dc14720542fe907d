"""The TCP port under HTTPS: who is let in, handshakes with a deadline, a certificate that can be changed.

The sockets are accepted here and not by asyncio's server so that connections count from their first byte, and so that
each takes the TLS context of its moment: those that are open keep theirs.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable

from runtime.core.errors import Unavailable
from runtime.proxy.limits import WebLimits
from runtime.transport.admission import source_of

logger = logging.getLogger(__name__)

BACKLOG = 128
PAUSE_SECONDS = 0.5
"""How long no connection is accepted when the process is out of file descriptors."""


class Listener:
    """Accepts connections and hands them, decrypted, to protocols. `context()` is asked for each connection."""

    def __init__(self, context: Callable[[], ssl.SSLContext], limits: WebLimits) -> None:
        self._context = context
        self._limits = limits
        self._sources: Counter[str] = Counter()
        self._connections: set[asyncio.Task[None]] = set()
        self._paused: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None

    async def bind(self, host: str, port: int) -> tuple[str, int]:
        """Take the address and return what was bound; nobody is accepted yet. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, *_, address = found[0]
            self._socket = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {host} port {port}: {error.strerror or error}",
                hint="Is another process using the port, and is the address one of this machine?",
            ) from error
        self._socket.setblocking(False)
        bound = self._socket.getsockname()
        return bound[0], bound[1]

    def accept(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Accept connections from now on, each for a protocol of its own. Needs `bind`."""
        if self._socket is None:
            raise RuntimeError("bind comes before accept")
        self._paused = None
        # A reader and no task: one that is cancelled between an accept and its next step would lose the connection.
        asyncio.get_running_loop().add_reader(self._socket, self._accept, self._socket, protocol)

    def close(self) -> None:
        """Accept no more connections; those that are open go on. Safe to call twice."""
        if self._paused is not None:
            self._paused.cancel()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    async def abort(self) -> None:
        """End all connections that are left, after `close`."""
        await asyncio.sleep(0)  # so that each has begun, and owns its socket
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    def _accept(self, listening: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        try:
            accepted, address = listening.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return
        except OSError as error:
            logger.warning("cannot accept connections: %s", error)
            loop = asyncio.get_running_loop()
            loop.remove_reader(listening)
            self._paused = loop.call_later(PAUSE_SECONDS, self.accept, protocol)
            return
        accepted.setblocking(False)
        source = source_of(address[0])
        if refusal := self._refusal(source):
            logger.warning("refused %s: %s", address[0], refusal)
            accepted.close()
            return
        self._sources[source] += 1
        connection = asyncio.create_task(self._serve(accepted, address[0], source, protocol()))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    def _refusal(self, source: str) -> str:
        if self._sources.total() >= self._limits.max_connections:
            return f"max_connections ({self._limits.max_connections}) reached"
        if self._sources[source] >= self._limits.connections_per_source:
            return f"{self._limits.connections_per_source} connections from there already"
        return ""

    async def _serve(self, accepted: socket.socket, peer: str, source: str, protocol: asyncio.Protocol) -> None:
        """Carry one connection from handshake to end."""
        loop = asyncio.get_running_loop()
        observed = _Observed(protocol, loop, self._limits.read_seconds)
        transport: asyncio.BaseTransport | None = None
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: observed,
                accepted,
                ssl=self._context(),
                ssl_handshake_timeout=self._limits.handshake_seconds,
                ssl_shutdown_timeout=self._limits.handshake_seconds,
            )
            await observed.closed
        except OSError as error:  # ssl.SSLError and TimeoutError too
            logger.debug("no handshake with %s: %s", peer, error)
        finally:
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]
            # Only one that is not over: before Python 3.11.4 asyncio cannot abort a TLS transport that has ended.
            if isinstance(transport, asyncio.WriteTransport) and not observed.over:
                transport.abort()


class _Observed(asyncio.Protocol):
    """Passes everything on to another protocol, tells when the connection is over, and ends one that does not read."""

    def __init__(self, protocol: asyncio.Protocol, loop: asyncio.AbstractEventLoop, unread_seconds: float) -> None:
        self.closed: asyncio.Future[None] = loop.create_future()
        self.over = False
        """Whether the transport has ended; `closed` may also have been cancelled by who waited for it."""
        self._protocol = protocol
        self._loop = loop
        self._unread_seconds = unread_seconds
        self._transport: asyncio.BaseTransport | None = None
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._protocol.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._waiting = self._loop.call_later(self._unread_seconds, self._give_up)
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._stop_waiting()
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self._stop_waiting()
        self._protocol.connection_lost(exc)
        if not self.closed.done():
            self.closed.set_result(None)

    def _give_up(self) -> None:
        if isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
