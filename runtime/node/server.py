"""What one connection to a node may do: each channel is authorised anew, by what holds at that moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime.audit.events import EventType
from runtime.core.access import Grant
from runtime.core.errors import AccessDenied
from runtime.core.joining import JOIN_LOGIN
from runtime.node import events
from runtime.node.agent import SessionAgent
from runtime.node.forwarding import Forwarding
from runtime.node.opening import Opening
from runtime.node.sessions import Node, Session
from runtime.pki.identity import UserIdentity
from runtime.transport.capture import Proved
from runtime.transport.forwarding import ForwardingHandler
from runtime.transport.sessions import session_channel

MAX_JOINED = 10
"""Sessions that one connection joins where it may do nothing else: OpenSSH's MaxSessions."""


class NodeConnection(ForwardingHandler):
    """One logged-in person on one node: sessions, and what is forwarded."""

    def __init__(
        self, node: Node, proved: Proved[UserIdentity], connection: Any, *, left: Callable[[NodeConnection], None]
    ) -> None:
        """Take asyncssh's connection, which only runtime.transport looks into; `left` is called once at its end."""
        forwarding = Forwarding(
            proved.identity,
            proved.login,
            access=node.access,
            sockets=node.spawner,
            audit=node.audit,
            fields=events.who(node.host_id, proved),
        )
        super().__init__(connection, forwarding)
        self._node = node
        self._proved = proved
        self._left = left
        self._base = node.access.base_of(proved.identity)
        self._channels: dict[Opening, Session | None] = {}
        """Session channels, each with its session if it has one of its own."""

    def session_requested(self) -> Any:
        """Open a session. Raises AccessDenied."""
        most = MAX_JOINED if self._proved.login == JOIN_LOGIN else self._authorise().max_sessions
        if len(self._channels) >= most:
            raise self._rejected(
                AccessDenied(
                    f"{most} sessions are open on this connection, as many as your roles allow",
                    hint="Close one, or connect once more.",
                )
            )
        opening = Opening(
            self._node,
            self._proved,
            agent=SessionAgent(self.agent_requested),
            began=lambda session: self._channels.update({opening: session}),
            left=self._left_channel,
        )
        self._channels[opening] = None
        return session_channel(self._connection, opening)

    @property
    def sessions(self) -> list[Session]:
        """The sessions that are open, but for those of others that are joined."""
        return [session for session in self._channels.values() if session is not None]

    def why_over(self) -> str:
        """Return why the person may not stay: trust in the cluster of a guest has ended. Else ""."""
        return self._node.access.end_of(self._proved.identity, self._base)

    def dismiss(self, why: str) -> None:
        """End the sessions, each with the reason; the connection is to be hung up afterwards."""
        self._node.audit.emit(
            EventType.GUEST_DISMISSED,
            **events.who(self._node.host_id, self._proved),
            cluster=self._proved.identity.cluster,
            reason=why,
            sessions=len(self.sessions),
        )
        for session in self.sessions:
            session.end(f"the session ends: {why}")

    def hang_up(self) -> None:
        """End the connection, and with it what it forwards and the sessions of others that it has joined."""
        self._connection.close()

    def cut(self) -> None:
        """End it without waiting for a client that does not read. Safe for one that has ended."""
        self._connection.abort()

    def _left_channel(self, opening: Opening) -> None:
        self._channels.pop(opening, None)

    def closed(self) -> None:
        """Let go of what is not a channel yet, and be forgotten."""
        super().closed()
        self._left(self)

    def _authorise(self) -> Grant:
        try:
            return self._node.access.authorise(self._proved.identity, self._proved.login)
        except AccessDenied as error:
            raise self._rejected(error) from None

    def _rejected(self, error: AccessDenied) -> AccessDenied:
        self._node.audit.emit(
            EventType.SESSION_REJECTED, **events.who(self._node.host_id, self._proved), error=str(error)
        )
        return error
