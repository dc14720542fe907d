"""A session channel until it is known what it is for: a session of its own, or one that runs and is joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runtime.core.joining import JOIN_LOGIN, MODE_VARIABLE, SESSION_VARIABLE
from runtime.node.agent import SessionAgent
from runtime.node.environment import ClientVariables
from runtime.node.joining import Joining
from runtime.node.sessions import Node, Session
from runtime.pki.identity import UserIdentity
from runtime.transport.capture import Proved
from runtime.transport.sessions import SessionChannel, SessionHandler, SessionRequest

MAX_VALUE_BYTES = 64
"""Of the two variables that say what to join and how."""


@dataclass(eq=False)
class Opening(SessionHandler):
    """Takes what comes before the shell or command, and hands the channel over then.

    `began` is told of a session of its own, `left` called once when the channel is gone.
    """

    node: Node
    proved: Proved[UserIdentity]
    agent: SessionAgent
    began: Callable[[Session], None]
    left: Callable[[Opening], None]

    def __post_init__(self) -> None:
        self._variables = ClientVariables()
        self._joining: dict[bytes, str] = {}
        self._channel: SessionChannel

    def opened(self, channel: SessionChannel) -> None:
        """Keep the channel."""
        self._channel = channel

    def variable(self, name: bytes, value: bytes) -> bool:
        """Take what names a session to join, or a variable of the allow-list."""
        if name in {SESSION_VARIABLE.encode(), MODE_VARIABLE.encode()}:
            # Too long a value cannot be right, and its beginning says why.
            self._joining[name] = value[:MAX_VALUE_BYTES].decode("ascii", "backslashreplace")
            return True
        return self._variables.take(name, value)

    def terminal_permitted(self) -> bool:
        """Tell what the certificate says."""
        return self.proved.identity.permit_pty

    async def agent_requested(self) -> bool:
        """Make a socket that leads to the client's agent, if that is allowed."""
        return await self.agent.request()

    def requested(self, request: SessionRequest) -> bool:
        """Hand over to what is asked for. As JOIN_LOGIN nothing is but a session to join."""
        made: SessionHandler
        if self._joining or self.proved.login == JOIN_LOGIN:
            self.agent.close()
            made = Joining(
                self.node,
                self.proved,
                self._channel,
                sid=self._joining.get(SESSION_VARIABLE.encode(), ""),
                mode=self._joining.get(MODE_VARIABLE.encode(), ""),
                left=lambda: self.left(self),
            )
        else:
            made = session = Session(
                self.node,
                self.proved,
                self._channel,
                variables=self._variables,
                agent=self.agent,
                left=lambda: self.left(self),
            )
            self.began(session)
        self._channel.hand_over(made)
        return made.requested(request)

    def closed(self) -> None:
        """Let go of it: nothing was asked for."""
        self.agent.close()
        self.left(self)
