"""What belongs to a deleted user is deleted, on the memory backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta

from runtime.auth.credentials import Credentials, CredentialStore
from runtime.auth.declared import Declared
from runtime.auth.invites import Invites
from runtime.auth.janitor import Janitor
from runtime.backend.memory import MemoryBackend
from runtime.core import keys
from runtime.core.clock import ManualClock
from runtime.core.resources import Origin, load_documents

JOE = """
apiVersion: teleport.internal/v1
kind: User
metadata: {name: joe}
spec: {logins: [joe]}
"""


class World:
    """A user joe, declared by Kubernetes, with credentials and an open invite."""

    def __init__(self) -> None:
        clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.backend = MemoryBackend(clock=clock)
        self.declared = Declared(self.backend)
        self.credentials = CredentialStore(self.backend)
        self.invites = Invites(self.backend, clock)
        self.janitor = Janitor(self.declared, self.credentials, self.invites)

    async def make_joe(self) -> None:
        """Declare joe and let him sign up."""
        (joe,) = load_documents(JOE, source="test")
        await self.declared.create(joe.with_origin(Origin.KUBERNETES))
        await self.credentials.replace("joe", await self.credentials.get("joe"), Credentials(password="hash"))
        await self.invites.mint("joe", timedelta(hours=1))

    async def secrets(self) -> list[str]:
        """Return the keys of all secrets there are."""
        return [item.key for item in (await self.backend.range("secrets/")).items]

    async def gone(self) -> None:
        """Wait until there are no secrets any more."""
        async with asyncio.timeout(5), aclosing(self.backend.watch("secrets/")) as events:
            async for _ in events:
                if not await self.secrets():
                    return


@asynccontextmanager
async def cleaning(world: World) -> AsyncIterator[None]:
    """Let the janitor run."""
    task = asyncio.create_task(world.janitor.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_secrets_go_with_the_user() -> None:
    """When the operator deletes a user, its credentials and its invite go too."""
    world = World()
    await world.make_joe()
    async with cleaning(world):
        await world.backend.delete(keys.resource("User", "joe"))
        await world.gone()


async def test_what_happened_meanwhile_is_caught_up() -> None:
    """A user that was deleted while no auth service ran leaves nothing behind once one starts."""
    world = World()
    await world.make_joe()
    await world.backend.delete(keys.resource("User", "joe"))
    async with cleaning(world):
        await world.gone()


async def test_a_user_that_is_there_keeps_everything() -> None:
    """Neither a start nor a second look touches the secrets of a user that exists."""
    world = World()
    await world.make_joe()
    before = await world.secrets()
    await world.janitor.clean("joe")
    await world.janitor.clean("nobody")
    assert await world.secrets() == before
    assert len(before) == 2
