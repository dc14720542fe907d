"""Other auth servers of the cluster, asked for what only they have: recordings on their disks."""

from __future__ import annotations

from collections.abc import Callable

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.recording_messages import RecordingRead

ANSWER_SECONDS = 10.0
"""How long another auth server may take; whoever asked us waits somewhat longer."""


class Peers:
    """The conversations with other auth servers, each begun when it is first needed."""

    def __init__(self, connect: Callable[[str], AuthClient]) -> None:
        """Take what makes a client of the auth server at host:port, as an auth server itself."""
        self._connect = connect
        self._clients: dict[str, AuthClient] = {}

    async def read_recording(self, server: str, wanted: RecordingRead) -> bytes:
        """Return bytes of a recording that is there. Raises Unavailable, NotFound, AccessDenied."""
        client = self._clients.get(server)
        if client is None:
            client = self._clients[server] = self._connect(server)
        return (await client.call(methods.RECORDING_READ, wanted, timeout=ANSWER_SECONDS)).data

    async def close(self) -> None:
        """End all conversations."""
        for client in self._clients.values():
            await client.close()
