"""The API without a socket: for the roles that run in auth's own process, whom no limit of the port keeps out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runtime.api.client import AuthClient
from runtime.api.pipe import Pipe
from runtime.api.session import Session
from runtime.auth.dispatch import Dispatcher
from runtime.core.callers import Caller, CallerKind

ADDRESS = "127.0.0.1"
"""Where such a caller is."""


class LocalCallers:
    """Conversations with auth within its process. They pass the same authorising function as any other."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._sessions: set[asyncio.Task[None]] = set()

    def client(self, who: Callable[[], tuple[CallerKind, str]]) -> AuthClient:
        """Return a client that calls as that kind and name of caller, asked for at each new conversation."""

        async def dial(_: str) -> Pipe:
            ours, theirs = Pipe.pair()
            caller = Caller(*who(), ADDRESS)
            session = Session(theirs, self._dispatcher.serve(caller), peer=str(caller))
            task = asyncio.create_task(session.run())
            self._sessions.add(task)
            task.add_done_callback(self._sessions.discard)
            return ours

        return AuthClient(dial, lambda: ("this process",))

    async def close(self) -> None:
        """End all conversations."""
        for task in list(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)
