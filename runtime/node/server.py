"""What one connection to a node may do: each channel is authorised anew, by what holds at that moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runtime.audit.events import EventType
from runtime.core.access import Grant
from runtime.core.errors import AccessDenied
from runtime.node import events
from runtime.node.agent import SessionAgent
from runtime.node.forwarding import Forwarding
from runtime.node.sessions import Node, Session
from runtime.pki.identity import UserIdentity
from runtime.transport.capture import Proved
from runtime.transport.forwarding import ForwardingHandler
from runtime.transport.sessions import session_channel


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
        self.sessions: set[Session] = set()

    def session_requested(self) -> Any:
        """Open a session. Raises AccessDenied."""
        grant = self._authorise()
        if len(self.sessions) >= grant.max_sessions:
            raise self._rejected(
                AccessDenied(
                    f"{len(self.sessions)} sessions are open on this connection, as many as your roles allow",
                    hint="Close one, or connect once more.",
                )
            )
        session = Session(
            self._node, self._proved, agent=SessionAgent(self.agent_requested), left=self.sessions.discard
        )
        self.sessions.add(session)
        return session_channel(self._connection, session)

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
