"""An auth service that stops: what was asked before is answered, what is followed ends, nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.api import messages as m
from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.audit.log import EventLog
from runtime.auth.server import AuthOptions, AuthService, open_authorities
from runtime.backend.base import Item
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.errors import Unavailable
from runtime.pki.keys import generate_key
from runtime.service.identity import DataDir, StoredIdentity, identities_of
from runtime.service.member import AuthServers, auth_client

CLOCK = SystemClock()


class SlowBackend(MemoryBackend):
    """A storage that reads no user before it may."""

    def __init__(self) -> None:
        super().__init__(clock=CLOCK)
        self.asked = asyncio.Event()
        self.may = asyncio.Event()

    async def get(self, key: str) -> Item:
        """Wait, for a user."""
        if key.startswith("resources/User/"):
            self.asked.set()
            await self.may.wait()
        return await super().get(key)


class Auth:
    """A running service on that storage, and an administrator's client."""

    service: AuthService
    client: AuthClient
    backend: SlowBackend


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncIterator[Auth]:
    """Yield the service; the test stops it."""
    auth, log = Auth(), EventLog(tmp_path / "log", CLOCK)
    auth.backend = SlowBackend()
    options = AuthOptions(address="127.0.0.1", port=0, cluster_name="main")
    authorities = await open_authorities(auth.backend, options, CLOCK)
    auth.service = AuthService(
        options, backend=auth.backend, authorities=authorities, clock=CLOCK, audit=log, auth_servers=tuple
    )

    def identity(role: CallerKind) -> StoredIdentity:
        key = generate_key()
        membership = auth.service.members.local(role, "localhost", (), key.public.line)
        return identities_of(membership, key.to_openssh(), "main")[role]

    own, administrator = identity(CallerKind.AUTH), identity(CallerKind.ADMIN)
    host, port = await auth.service.start(
        host_key=own.key.get_secret_value().encode(), host_certificate=own.host_certificate.encode()
    )
    auth.client = auth_client(lambda: administrator, AuthServers(DataDir(tmp_path), [f"{host}:{port}"]), CLOCK)
    yield auth
    await auth.client.close()
    await auth.service.stop()
    await auth.backend.close()
    log.close()


async def test_what_was_asked_is_answered(auth: Auth) -> None:
    """A call under way when the service stops gets its answer; a new connection is refused meanwhile."""
    asking = asyncio.create_task(auth.client.call(methods.RESOURCES_GET, m.ResourceRef(kind="User", name="joe")))
    await asyncio.wait_for(auth.backend.asked.wait(), 10)
    stopping = asyncio.create_task(auth.service.stop(grace=30))
    await asyncio.sleep(0)
    assert not asking.done()
    auth.backend.may.set()
    with pytest.raises(Exception, match="there is no user joe"):
        await asyncio.wait_for(asking, 10)
    await asyncio.wait_for(stopping, 10)


async def test_grace_ends(auth: Auth) -> None:
    """A call that takes longer than the grace is cut off, and its caller told."""
    asking = asyncio.create_task(auth.client.call(methods.RESOURCES_GET, m.ResourceRef(kind="User", name="joe")))
    await asyncio.wait_for(auth.backend.asked.wait(), 10)
    await asyncio.wait_for(auth.service.stop(grace=0.05), 10)
    with pytest.raises(Unavailable, match="lost the connection"):
        await asyncio.wait_for(asking, 10)


async def test_who_follows_does_not_delay(auth: Auth) -> None:
    """A watch, which never ends, is not waited for."""
    watching = auth.client.watch("User")
    assert (await anext(watching)).snapshot == ()
    await asyncio.wait_for(auth.service.stop(grace=60), 10)
    await watching.aclose()
