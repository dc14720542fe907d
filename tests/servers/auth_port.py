"""An auth service in this process on a port of its own, and identities from it for whoever is beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.api.client import AuthClient
from runtime.audit.log import EventLog
from runtime.auth.server import AuthOptions, AuthService, open_authorities
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import CallerKind
from runtime.core.clock import Clock, SystemClock
from runtime.pki.keys import generate_key
from runtime.service.identity import DataDir, StoredIdentity, identities_of
from runtime.service.member import AuthServers, auth_client

CLOCK = SystemClock()
OPTIONS = AuthOptions(address="127.0.0.1", port=0, cluster_name="main")


class AuthPort:
    """An auth service whose state is in memory and whose audit log is in a folder; `service` once it listens."""

    service: AuthService

    def __init__(
        self,
        folder: Path,
        options: AuthOptions = OPTIONS,
        *,
        backend: MemoryBackend | None = None,
        clock: Clock = CLOCK,
    ) -> None:
        self.folder = folder
        self.options = options
        self.clock = clock
        self.backend = backend or MemoryBackend(clock=clock)
        self.log = EventLog(folder / "log", clock)
        self.address = ""
        self._clients: list[AuthClient] = []

    async def listen(self) -> None:
        """Make the authorities, and listen on a free port."""
        self.service = AuthService(
            self.options,
            backend=self.backend,
            authorities=await open_authorities(self.backend, self.options, self.clock),
            clock=self.clock,
            audit=self.log,
            auth_servers=lambda: (self.address,),
        )
        host, port = await self.service.start(**host_of(self.identity(CallerKind.AUTH)))
        self.address = f"{host}:{port}"

    async def end(self) -> None:
        """End the service, and what called it."""
        for client in self._clients:
            await client.close()
        await self.service.stop()
        await self.service.local.close()
        await self.backend.close()
        self.log.close()

    def identity(self, role: CallerKind, name: str = "localhost", advertised: tuple[str, ...] = ()) -> StoredIdentity:
        """Return an identity that auth makes for a role beside it."""
        key = generate_key()
        membership = self.service.members.local(role, name, advertised, key.public.line)
        return identities_of(membership, key.to_openssh(), self.service.issuer.cluster)[role]

    def client(self, identity: StoredIdentity) -> AuthClient:
        """Return a client with that identity, which ends with the service."""
        client = auth_client(lambda: identity, AuthServers(DataDir(self.folder), [self.address]), self.clock)
        self._clients.append(client)
        return client

    def events(self) -> list[dict[str, Any]]:
        """Return all that is in the audit log."""
        lines = [line for file in sorted((self.folder / "log").iterdir()) for line in file.read_text().splitlines()]
        return [json.loads(line) for line in lines]


def host_of(identity: StoredIdentity) -> dict[str, bytes]:
    """Return what a listener takes of an identity."""
    return {
        "host_key": identity.key.get_secret_value().encode(),
        "host_certificate": identity.host_certificate.encode(),
    }
