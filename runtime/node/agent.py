"""The agent of one session: a socket through which the session's programs reach the agent of whoever logged in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol


class AgentSocket(Protocol):
    """A Unix socket that leads to the client's agent."""

    path: str

    def close(self) -> None:
        """Remove it. Does not wait."""
        ...


class SessionAgent:
    """Made with its session and closed with it; there is no socket until the client asks for one."""

    def __init__(self, listen: Callable[[], Awaitable[AgentSocket | None]]) -> None:
        """`listen` makes the socket, or gives None where that is not allowed (ForwardingHandler.agent_requested)."""
        self._listen = listen
        self._asked = False
        self._closed = False
        self._socket: AgentSocket | None = None

    @property
    def path(self) -> str | None:
        """What SSH_AUTH_SOCK is to be in the session; None where there is no agent."""
        return self._socket.path if self._socket is not None else None

    async def request(self) -> bool:
        """Make the socket, and tell whether there is one. A second request is refused, as sshd does."""
        if self._asked or self._closed:
            return False
        self._asked = True
        made = await self._listen()
        if made is not None and self._closed:  # the session ended in the meantime
            made.close()
            return False
        self._socket = made
        return made is not None

    def close(self) -> None:
        """Remove the socket with the session. Safe to call twice, and while `request` is under way."""
        self._closed = True
        if self._socket is not None:
            self._socket.close()
            self._socket = None
