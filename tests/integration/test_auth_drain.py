"""An auth service that stops: what was asked before is answered, what is followed ends, nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.resource_messages import ResourceRef
from runtime.backend.base import Item
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import CallerKind
from runtime.core.errors import Unavailable
from tests.servers.auth_port import CLOCK, AuthPort


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


class Auth(AuthPort):
    """A service on that storage, and an administrator's client."""

    def __init__(self, folder: Path) -> None:
        self.slow = SlowBackend()
        super().__init__(folder, backend=self.slow)

    async def listen(self) -> None:
        """Listen, and know the administrator."""
        await super().listen()
        self.admin = self.client(self.identity(CallerKind.ADMIN))


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncIterator[Auth]:
    """Yield the service; the test stops it."""
    auth = Auth(tmp_path)
    await auth.listen()
    yield auth
    await auth.end()


async def test_what_was_asked_is_answered(auth: Auth) -> None:
    """A call under way when the service stops gets its answer; a new connection is refused meanwhile."""
    asking = asyncio.create_task(auth.admin.call(methods.RESOURCES_GET, ResourceRef(kind="User", name="joe")))
    await asyncio.wait_for(auth.slow.asked.wait(), 10)
    stopping = asyncio.create_task(auth.service.stop(grace=30))
    await asyncio.sleep(0)
    assert not asking.done()
    auth.slow.may.set()
    with pytest.raises(Exception, match="there is no user joe"):
        await asyncio.wait_for(asking, 10)
    await asyncio.wait_for(stopping, 10)


async def test_grace_ends(auth: Auth) -> None:
    """A call that takes longer than the grace is cut off, and its caller told."""
    asking = asyncio.create_task(auth.admin.call(methods.RESOURCES_GET, ResourceRef(kind="User", name="joe")))
    await asyncio.wait_for(auth.slow.asked.wait(), 10)
    await asyncio.wait_for(auth.service.stop(grace=0.05), 10)
    with pytest.raises(Unavailable, match="lost the connection"):
        await asyncio.wait_for(asking, 10)


async def test_who_follows_does_not_delay(auth: Auth) -> None:
    """A watch, which never ends, is not waited for."""
    watching = auth.admin.watch("User")
    assert (await anext(watching)).snapshot == ()
    await asyncio.wait_for(auth.service.stop(grace=60), 10)
    await watching.aclose()
