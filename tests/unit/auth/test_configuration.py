"""Which configuration holds, teleport.yaml's or the storage's, and what becomes of the resources of an earlier file."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from runtime.auth.configuration import KEY, Configuration, follow, publish, settle
from runtime.auth.declared import Declared
from runtime.auth.tokens import JoinToken
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import CorruptState
from runtime.core.resources import Origin, Resource, Role, load_documents

OLD = Configuration(second_factor="otp", static_tokens=(JoinToken(token="old", roles=("node",), static=True),))
NEW = Configuration(second_factor="off", static_tokens=(JoinToken(token="new", roles=("node",), static=True),))


@pytest.fixture
def backend() -> MemoryBackend:
    """Return an empty storage."""
    return MemoryBackend(clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))


async def test_the_file_holds(backend: MemoryBackend) -> None:
    """Without dynamic_config each start has what its file says, and puts it into the storage once."""
    assert await settle(backend, OLD, dynamic=False) == OLD
    assert await settle(backend, NEW, dynamic=False) == NEW
    revision = (await backend.get(KEY)).revision
    assert await settle(backend, NEW, dynamic=False) == NEW
    assert (await backend.get(KEY)).revision == revision


async def test_the_storage_holds(backend: MemoryBackend, caplog: pytest.LogCaptureFixture) -> None:
    """With dynamic_config the first file counts, a later one does not, and the log says so without a token."""
    assert await settle(backend, OLD, dynamic=True) == OLD
    assert "the storage counts" not in caplog.text
    assert await settle(backend, NEW, dynamic=True) == OLD
    assert "the storage counts" in caplog.text
    assert "new" not in caplog.text.replace("anew", "")


async def test_of_two_that_start_at_once_one_counts(backend: MemoryBackend) -> None:
    """Two auth servers with different files agree on one."""
    first, second = await asyncio.gather(settle(backend, OLD, dynamic=True), settle(backend, NEW, dynamic=True))
    assert first == second


async def test_what_cannot_be_read_is_left(backend: MemoryBackend) -> None:
    """A broken record stops a start that relies on it, and is not overwritten; one that does not replaces it."""
    await backend.put(KEY, b"{")
    with pytest.raises(CorruptState, match="cannot be read"):
        await settle(backend, OLD, dynamic=True)
    assert (await backend.get(KEY)).value == b"{"
    assert await settle(backend, OLD, dynamic=False) == OLD


async def test_changes_are_followed(backend: MemoryBackend) -> None:
    """What another server publishes is applied; a broken or deleted record changes nothing."""
    await settle(backend, OLD, dynamic=True)
    applied: asyncio.Queue[Configuration] = asyncio.Queue()
    following = asyncio.create_task(follow(backend, applied.put_nowait))
    assert await asyncio.wait_for(applied.get(), 10) == OLD
    await backend.put(KEY, b"{")
    await backend.delete(KEY)
    await settle(backend, NEW, dynamic=False)
    assert await asyncio.wait_for(applied.get(), 10) == NEW
    following.cancel()
    await asyncio.wait([following])


def role(name: str, login: str) -> Resource:
    """Return a role as a file has it."""
    (resource,) = load_documents(
        f"{{apiVersion: teleport.internal/v1, kind: Role, metadata: {{name: {name}}}, "
        f"spec: {{allow: {{logins: [{login}]}}}}}}",
        source="the test",
    )
    return resource


async def test_resources_of_the_file_are_replaced(backend: MemoryBackend, caplog: pytest.LogCaptureFixture) -> None:
    """Those of an earlier file change or go; those of tctl stay, also where the file names one alike."""
    declared = Declared(backend)
    await declared.create(role("made", "tctl").with_origin(Origin.TCTL))
    await publish(declared, [role("kept", "one"), role("gone", "one")])
    await publish(declared, [role("kept", "two"), role("made", "file")])
    roles = {each.name: (each.metadata.origin, each.spec.allow.logins) for each in await declared.all(Role)}
    assert roles == {"kept": (Origin.CONFIG, ("two",)), "made": (Origin.TCTL, ("tctl",))}
    assert "role made is declared by tctl, not by config" in caplog.text
