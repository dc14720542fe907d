"""Where connections come in: a TCP port, who may connect (`admission`), and the line of those whose turn it is not yet.

What becomes of a connection whose turn has come is the subclass's: a server's (`server`), or, where it is the other
side that serves, a client's (`reverse`).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Self, cast

from runtime.core.errors import AccessDenied, Unavailable
from runtime.transport.admission import Admission, Visit
from runtime.transport.guards import Guards, OnRefused, Peer
from runtime.transport.limits import Limits

logger = logging.getLogger(__name__)

_OVERDUE_AGAIN = 0.1
"""Seconds after which it is looked again at whether an overdue login has made room."""


class _Arrival(asyncio.Protocol):
    """A connection up to its turn to log in: not a byte is read, and nothing is built, for one that is in line."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._visit: Visit | None = None
        self._transport: asyncio.Transport
        self._peer: Peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        address = transport.get_extra_info("peername")
        self._peer = Peer(str(address[0]), int(address[1])) if address else Peer("", 0)
        try:
            self._visit = self._door.admission.arrive(self._peer.host, self._on_turn)
        except AccessDenied as error:
            self._on_turn(error)
            return
        if self._visit.begun:
            self._on_turn(None)
        else:
            self._transport.pause_reading()
            self._door.waits(self._transport)

    def _on_turn(self, refusal: AccessDenied | None) -> None:
        if refusal is None and self._visit is not None:
            if not self._transport.is_closing():  # as when the listener closes
                self._door.begins(self._visit, self._transport)
        else:
            self._door.refused(self._peer, str(refusal))
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._visit is not None:
            self._door.admission.leave(self._visit)
        self._door.waits_no_more(self._transport)


class Door:
    """One port and its connections; closed at the end of an `async with`."""

    def __init__(self, *, limits: Limits, admission: Admission, on_refused: OnRefused | None) -> None:
        self.admission = admission
        self._limits = limits
        self._on_refused = on_refused
        self._server: asyncio.Server
        self._connections: dict[Guards, Visit] = {}
        self._waiting: set[asyncio.Transport] = set()
        self._overdue_timer: asyncio.TimerHandle | None = None

    @property
    def address(self) -> Peer:
        """The address that it listens on."""
        host, port = self._server.sockets[0].getsockname()[:2]
        return Peer(host, port)

    async def open(self, address: str, port: int) -> None:
        """Start to listen. Raises Unavailable when the address cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Arrival(self), address, port, backlog=1024)
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {address} port {port}: {error.strerror or error}",
                hint="Is another process using the port, and is the address one of this machine?",
            ) from error

    def begins(self, visit: Visit, transport: asyncio.Transport) -> None:
        """Let a connection log in."""
        raise NotImplementedError

    def refused(self, peer: Peer, reason: str) -> None:
        """Log a connection that was turned away, and report it."""
        logger.warning("refused %s port %d: %s", *peer, reason)
        if self._on_refused:
            self._on_refused(peer, reason)

    def waits(self, transport: asyncio.Transport) -> None:
        """Keep a connection that waits in line, for when the listener closes."""
        self._waiting.add(transport)
        self._watch_line()

    def waits_no_more(self, transport: asyncio.Transport) -> None:
        """Forget a connection that waited in line."""
        self._waiting.discard(transport)

    def hand_over(self, connection: Guards, visit: Visit, transport: asyncio.Transport) -> None:
        """Make an SSH connection of one that was waiting."""
        self.waits_no_more(transport)
        self._connections[connection] = visit
        transport.set_protocol(connection)
        connection.connection_made(transport)
        transport.resume_reading()

    def _watch_line(self) -> None:
        """Look again when somebody will have taken too long for those in line."""
        seconds = self.admission.next_overdue()
        if seconds is not None and self._overdue_timer is None:
            loop = asyncio.get_running_loop()
            self._overdue_timer = loop.call_later(max(seconds, _OVERDUE_AGAIN), self._end_overdue)

    def _end_overdue(self) -> None:
        self._overdue_timer = None
        overdue = set(self.admission.overdue())
        for connection, visit in list(self._connections.items()):
            if visit in overdue:
                connection.drop(f"no login within {self._limits.startups.patience:g} s, while others wait in line")
        self._watch_line()

    def close(self) -> None:
        """Accept no more connections; those that are open go on, but for those in line."""
        self._server.close()
        if self._overdue_timer is not None:
            self._overdue_timer.cancel()
        for transport in list(self._waiting):
            transport.abort()

    def end(self) -> None:
        """End all open connections, each once what was written to it has been sent."""
        for connection in list(self._connections):
            connection.close()

    def abort(self) -> None:
        """End all open connections at once."""
        for connection in list(self._connections):
            connection.abort()

    async def wait_closed(self) -> None:
        """Wait until every connection has ended, after `close`."""
        while self._connections:
            await asyncio.gather(*(connection.wait_closed() for connection in list(self._connections)))
        await self._server.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()
        self.abort()
        await self.wait_closed()
