"""What others write to the storage is told to the audit log: once, in order, whoever watches, and whoever is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from runtime.audit.events import EventType
from runtime.audit.log import Field
from runtime.auth.chronicle import CLAIM, REMEMBERED, TOLD, Chronicle
from runtime.auth.declared import Declared
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.keys import resource
from runtime.core.resources import Origin, Resource, encode, load_documents
from tests.unit.auth.recorder import Recorder

SECOND = timedelta(seconds=1)
CREATED = ['metadata.origin: none -> "kubernetes"', 'spec.logins: none -> ["joe"]']
DELETED = ['metadata.origin: "kubernetes" -> none', 'spec.logins: ["joe"] -> none']


class Killed(Exception):
    """Stands for the end of a process."""


class Deaf(Recorder):
    """The log of a process that is killed before its first event is there."""

    def emit(self, event: EventType, **fields: Field) -> None:
        """End."""
        raise Killed


class World:
    """A storage, and auth servers with a log each."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.backend = MemoryBackend(clock=self.clock)
        self.declared = Declared(self.backend)
        self.logs: list[Recorder] = []
        self.markers = 0

    def server(self, log: Recorder | None = None) -> Chronicle:
        """Return another auth server."""
        self.logs.append(log or Recorder())
        return Chronicle(self.backend, self.declared, self.logs[-1], self.clock.now)

    @asynccontextmanager
    async def running(self, count: int = 1) -> AsyncIterator[None]:
        """Let so many auth servers watch."""
        tasks = [asyncio.create_task(self.server().run()) for _ in range(count)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def write(self, logins: str, *, origin: Origin = Origin.KUBERNETES) -> None:
        """Write joe to the storage, past the API; a second passes before, as before each change here."""
        self.clock.advance(SECOND)
        await self.declared.write(user(logins).with_origin(origin), revision=0, overwrite=True)

    async def remove(self) -> None:
        """Delete joe from the storage."""
        self.clock.advance(SECOND)
        await self.declared.remove("User", "joe", Origin.KUBERNETES)

    @property
    def told(self) -> list[tuple[str, list[str]]]:
        """What all logs have, by the order of the ids: type and changes."""
        found = {str(fields["uid"]): (str(event), fields) for event, fields in self.events if fields["name"] == "joe"}
        return [(event, list(fields["changes"])) for _, (event, fields) in sorted(found.items())]  # type: ignore[arg-type]

    @property
    def events(self) -> list[tuple[EventType, dict[str, Field]]]:
        """What the logs have, with what is there twice."""
        return [each for log in self.logs for each in log.events]

    async def settle(self) -> None:
        """Wait until what is in the storage was looked at: zoe, who comes after it, is told of."""
        self.markers += 1
        self.clock.advance(SECOND)
        zoe = user(f"z{self.markers}", "zoe").with_origin(Origin.KUBERNETES)
        await self.declared.write(zoe, revision=0, overwrite=True)
        await self.until(lambda: f'"z{self.markers}"' in str(self.events))

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for a condition."""
        async with asyncio.timeout(10):
            while not true():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)


def user(logins: str, name: str = "joe") -> Resource:
    """Return a user."""
    text = f"{{apiVersion: teleport.internal/v1, kind: User, metadata: {{name: {name}}}, spec: {{logins: [{logins}]}}}}"
    (found,) = load_documents(text, source="test")
    return found


@pytest.fixture
def world() -> World:
    """Return a world."""
    return World()


@pytest.mark.parametrize("count", [1, 3])
async def test_what_the_operator_does(world: World, count: int) -> None:
    """Created, changed, deleted and created anew: each is told once, by one of the auth servers, with what changed."""
    async with world.running(count):
        await world.write("joe")
        await world.until(lambda: len(world.told) == 1)
        await world.write("joe, root")
        await world.until(lambda: len(world.told) == 2)
        await world.write("joe")
        await world.until(lambda: len(world.told) == 3)
        await world.remove()
        await world.until(lambda: len(world.told) == 4)
        await world.write("joe")
        await world.until(lambda: len(world.told) == 5)
    assert world.told == [
        ("resource.written", CREATED),
        ("resource.written", ['spec.logins: ["joe"] -> ["joe","root"]']),
        ("resource.written", ['spec.logins: ["joe","root"] -> ["joe"]']),
        ("resource.removed", DELETED),
        ("resource.written", CREATED),
    ]
    assert len(world.events) == 5
    assert {(each["kind"], each["name"], each["by"]) for _, each in world.events} == {("User", "joe", "kubernetes")}


async def test_what_the_api_has_told(world: World) -> None:
    """By tctl: it is not told again; that the operator takes the resource over, is, with what that changed."""
    async with world.running():
        await world.write("joe", origin=Origin.TCTL)
        await world.write("joe, root", origin=Origin.TCTL)
        await world.settle()
        adopting = user("joe, root, ann").with_origin(Origin.KUBERNETES)
        item = await world.backend.get(resource("User", "joe"))
        await world.backend.compare_and_swap(item.key, encode(adopting), revision=item.revision)
        await world.until(lambda: len(world.told) == 1)
    assert world.told == [
        (
            "resource.written",
            ['metadata.origin: "tctl" -> "kubernetes"', 'spec.logins: ["joe","root"] -> ["joe","root","ann"]'],
        )
    ]


async def test_while_no_auth_server_ran(world: World) -> None:
    """It is told at the next start, and not at the one after."""
    async with world.running():
        await world.write("joe")
        await world.until(lambda: len(world.told) == 1)
    await world.write("joe, root")
    await world.write("root")
    for _ in range(2):
        async with world.running():
            await world.settle()
    await world.remove()
    for _ in range(2):
        async with world.running():
            await world.settle()
    assert [changes for _, changes in world.told][1:] == [
        ['spec.logins: ["joe"] -> ["root"]'],
        ['metadata.origin: "kubernetes" -> none', 'spec.logins: ["root"] -> none'],
    ]
    assert len(world.events) == 3 + world.markers
    world.clock.advance(REMEMBERED + timedelta(seconds=1))
    assert [item.key for item in (await world.backend.range(TOLD)).items] == [f"{TOLD}User/zoe"]


async def test_a_teller_that_is_killed(world: World) -> None:
    """It had claimed the change: another start tells it once it has had its time, with its id."""
    await world.write("joe")
    with pytest.raises(Killed):
        await world.server(Deaf()).follow("User")
    async with world.running():
        await world.settle()
        assert world.told == []
        await world.write("root")
        await world.settle()
        assert len(world.told) == 1
    world.clock.advance(CLAIM)
    async with world.running():
        await world.settle()
    assert [changes for _, changes in world.told] == [CREATED, ['spec.logins: ["joe"] -> ["root"]']]
    world.clock.advance(CLAIM)
    async with world.running():
        await world.settle()
    assert len(world.events) == 2 + world.markers


async def test_a_server_that_is_behind(world: World) -> None:
    """What it hears late, others have told: it brings nothing back."""
    await world.write("joe")
    old = await world.declared.document("User", "joe")
    async with world.running():
        await world.until(lambda: len(world.told) == 1)
        await world.write("joe, root")
        await world.until(lambda: len(world.told) == 2)
        behind = world.server()
        await behind._look("User", "joe", None)  # it was deleted once, and is there again
        assert len(world.told) == 2
        await world.remove()
        await world.until(lambda: len(world.told) == 3)
    await behind._put("User", old)
    await behind._look("User", "joe", None)
    assert len(world.told) == 3


async def test_what_cannot_be_read(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A document of a newer version, or a damaged record, keeps no other change out."""
    await world.backend.put(resource("User", "eve"), b"nonsense")
    await world.backend.put(f"{TOLD}User/joe", b"nonsense")
    async with world.running():
        await world.write("joe")
        await world.until(lambda: len(world.told) == 1)
    assert world.told == [("resource.written", CREATED)]
    assert "a change is not told: the stored User is not JSON" in caplog.text
    assert "audit/told/User/joe in the storage cannot be read" in caplog.text
