"""What a node forwards, for whom: ports, Unix sockets, agents. One decision for each, asked again each time.

    ports and Unix sockets, both ways    Grant.port_forwarding and the certificate's permit-port-forwarding
    the agent                            Grant.forward_agent and the certificate's permit-agent-forwarding
    X11                                  never

A connection to a port is made by the node: where a packet goes does not depend on who sends it. All else is made by a
process of the user's, so that it can reach, and leave behind, what the user can.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from runtime.audit.events import EventType
from runtime.audit.log import Audit, Field
from runtime.core.access import Grant
from runtime.core.errors import AccessDenied, InvalidInput, TeleportError
from runtime.node.dialing import dial
from runtime.pki.identity import UserIdentity

logger = logging.getLogger(__name__)

_V4, _V6 = "127.0.0.1", "::1"
MAX_LOGGED_DESTINATION = 512
"""Characters of a destination that the audit log keeps; it is the client's text."""


class Access(Protocol):
    """Says what a person may do at this moment (runtime.node.authority)."""

    def authorise(self, identity: UserIdentity, login: str) -> Grant:
        """Return what the person may do as `login`. Raises AccessDenied."""
        ...


class UnixListening(Protocol):
    """A listening Unix socket, its path, and how to be rid of both."""

    socket: socket.socket
    path: str

    def close(self) -> None:
        """Close it and remove its file. Does not wait."""
        ...


class Sockets(Protocol):
    """Opens non-blocking sockets as a user (runtime.node.spawner). Each raises a TeleportError that says why not."""

    async def listen_tcp(self, login: str, host: str, port: int) -> socket.socket:
        """Listen on a port, 0 for any."""
        ...

    async def listen_unix(self, login: str, path: str | None) -> UnixListening:
        """Listen at a path; None for one in a new folder that only this user can enter."""
        ...

    async def connect_unix(self, login: str, path: str) -> socket.socket:
        """Connect to the socket at a path."""
        ...


@dataclass(slots=True)
class Listening:
    """What a forward listens on (runtime.transport.forwarding.Listening)."""

    sockets: tuple[socket.socket, ...]
    path: str
    admit: Callable[[], None]
    _remove: Callable[[], None] | None = None

    def close(self) -> None:
        """Close the sockets, and remove a Unix socket's file."""
        for sock in self.sockets:
            sock.close()
        if self._remove is not None:
            self._remove()


def loopback(host: str) -> tuple[str, ...]:
    """Return the addresses to listen on for what a client calls `host`: always this machine's own.

    As sshd with `GatewayPorts no`, its default: 127.0.0.1 and ::1 as they are; anything else, `*` and the addresses of
    the machine's networks included, means both. What one person forwards is not offered to the network in the node's
    name.
    """
    return (host,) if host in (_V4, _V6) else (_V4, _V6)


class Forwarding:
    """What one connection of one person forwards (runtime.transport.forwarding.ForwardingRules)."""

    def __init__(
        self,
        identity: UserIdentity,
        login: str,
        *,
        access: Access,
        sockets: Sockets,
        audit: Audit,
        fields: Mapping[str, Field],
    ) -> None:
        """`fields` are what each audit event of the connection has: user, login, addresses."""
        self._identity = identity
        self._login = login
        self._access = access
        self._sockets = sockets
        self._audit = audit
        self._fields = fields

    async def connect_tcp(self, host: str, port: int) -> socket.socket:
        """Connect to whatever was asked for: that is what the right to forward ports is. Raises TeleportError."""
        with self._audited("local", f"{host}:{port}"):
            self._check_ports()
            return await dial(host, port)

    async def connect_unix(self, path: str) -> socket.socket:
        """Connect as the user. Raises TeleportError."""
        with self._audited("local", path):
            self._check_ports()
            return await self._sockets.connect_unix(self._login, path)

    async def listen_tcp(self, host: str, port: int) -> Listening:
        """Listen as the user: a port below 1024 is root's. Raises TeleportError."""
        first, *others = loopback(host)
        with self._audited("remote", f"{first}:{port}") as event:
            self._check_ports()
            if not 0 <= port < 65536:
                raise InvalidInput(f"{port} is not a TCP port")
            sockets = [await self._sockets.listen_tcp(self._login, first, port)]
            port = int(sockets[0].getsockname()[1])
            event["destination"] = f"{first}:{port}"
            if others:
                sockets += await self._also(others[0], port, sockets[0])
            return Listening(tuple(sockets), "", self._admits("remote", event["destination"], self._check_ports))

    async def _also(self, host: str, port: int, first: socket.socket) -> list[socket.socket]:
        """Listen at a second address, if it can be had: a machine without IPv6 has none."""
        try:
            return [await self._sockets.listen_tcp(self._login, host, port)]
        except TeleportError as error:  # sshd too is content with one of them
            logger.info("a forwarded port is on one address only: %s", error)
            return []
        except BaseException:
            first.close()
            raise

    async def listen_unix(self, path: str) -> Listening:
        """Listen as the user, where there is nothing yet. Raises TeleportError."""
        with self._audited("remote", path):
            self._check_ports()
            return await self._listen_unix("remote", path, self._check_ports)

    async def listen_agent(self) -> Listening:
        """Listen as the user, in a folder that nobody else can enter. Raises TeleportError."""
        with self._audited("agent", "") as event:
            self._check_agent()
            listening = await self._listen_unix("agent", None, self._check_agent)
            event["destination"] = listening.path
            return listening

    async def _listen_unix(self, direction: str, path: str | None, check: Callable[[], None]) -> Listening:
        made = await self._sockets.listen_unix(self._login, path)
        return Listening((made.socket,), made.path, self._admits(direction, made.path, check), made.close)

    def _check_ports(self) -> None:
        grant = self._access.authorise(self._identity, self._login)
        user = self._identity.user
        if not grant.port_forwarding:
            raise AccessDenied(
                f"port forwarding is not allowed by the roles of user {user}",
                hint="An administrator can allow it by portForwarding in the roles' options.",
            )
        if not self._identity.permit_port_forwarding:
            raise AccessDenied(
                f"port forwarding is not permitted by the certificate of user {user}",
                hint="Where the roles allow it now, log in again: tsh login.",
            )

    def _check_agent(self) -> None:
        grant = self._access.authorise(self._identity, self._login)
        user = self._identity.user
        if not grant.forward_agent:
            raise AccessDenied(
                f"agent forwarding is not allowed by the roles of user {user}",
                hint="An administrator can allow it by forwardAgent in the roles' options.",
            )
        if not self._identity.permit_agent_forwarding:
            raise AccessDenied(
                f"agent forwarding is not permitted by the certificate of user {user}",
                hint="Where the roles allow it now, log in again: tsh login.",
            )

    def _admits(self, direction: str, destination: str, check: Callable[[], None]) -> Callable[[], None]:
        """Return what is asked at each connection to a listener. Only a right that is gone meanwhile is audited."""

        def admit() -> None:
            try:
                check()
            except AccessDenied as error:
                self._emit(direction, destination, str(error))
                raise

        return admit

    @contextmanager
    def _audited(self, direction: str, destination: str) -> Iterator[dict[str, str]]:
        """Audit what is done inside, with the destination that it leaves in the event."""
        event = {"destination": destination}
        try:
            yield event
        except TeleportError as error:
            self._emit(direction, event["destination"], str(error))
            raise
        except asyncio.CancelledError:
            self._emit(direction, event["destination"], "the client left before it was done")
            raise
        self._emit(direction, event["destination"], None)

    def _emit(self, direction: str, destination: str, error: str | None) -> None:
        outcome = {"success": "true"} if error is None else {"success": "false", "error": error}
        if error is not None:
            logger.info("user %s, login %s: %s", self._identity.user, self._login, error)
        self._audit.emit(
            EventType.PORT_FORWARD,
            **self._fields,
            direction=direction,
            destination=destination[:MAX_LOGGED_DESTINATION],
            **outcome,
        )
