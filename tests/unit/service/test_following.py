"""Users and roles as a node or proxy knows them: followed from a real auth service, and kept for when it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.member_messages import Heartbeat, Presence
from runtime.api.resource_messages import ResourceDocument, ResourceEvent
from runtime.api.session import Stream
from runtime.audit.log import EventLog
from runtime.auth.declared import Declared
from runtime.auth.server import AuthOptions, AuthService, open_authorities
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.errors import AccessDenied, Unavailable
from runtime.core.keys import resource
from runtime.core.resources import Origin, Resource, Role, encode
from runtime.service import following
from runtime.service.directory import Directory
from runtime.service.following import Following
from runtime.service.identity import DataDir
from tests.unit.core.declared import role, user

CLOCK = SystemClock()
NODE = "0b9d3a3c-4b52-4b0f-9a0e-6f1f6f0f7c11"
FILE = "access.json"


class World:
    """An auth service without a port."""

    def __init__(self, folder: Path) -> None:
        self.backend = MemoryBackend(clock=CLOCK)
        self.log = EventLog(folder / "log", CLOCK)
        self.folder = folder
        self.declared = Declared(self.backend)

    async def start(self) -> None:
        """Make the service."""
        options = AuthOptions(address="127.0.0.1", port=0, cluster_name="main")
        self.service = AuthService(
            options,
            backend=self.backend,
            authorities=await open_authorities(self.backend, options, CLOCK),
            clock=CLOCK,
            audit=self.log,
            auth_servers=tuple,
        )

    @asynccontextmanager
    async def client(self, kind: CallerKind = CallerKind.NODE) -> AsyncIterator[AuthClient]:
        """Yield a client that calls as a member."""
        client = self.service.local.client(lambda: (kind, NODE))
        try:
            yield client
        finally:
            await client.close()

    async def declare(self, resource: Resource) -> None:
        """Write a resource."""
        await self.declared.write(resource.with_origin(Origin.TCTL), revision=0, overwrite=True)

    def events(self) -> str:
        """Return the event log."""
        return "".join(path.read_text() for path in (self.folder / "log").glob("*.log"))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Yield the world, and end its service."""
    world = World(tmp_path)
    await world.start()
    yield world
    await world.service.stop()
    world.log.close()


@asynccontextmanager
async def running(service: Following | Directory) -> AsyncIterator[None]:
    """Let it run beside the body."""
    task = asyncio.create_task(service.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition, ten seconds at most."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


async def away(_: str) -> Stream:
    """Stand for auth servers that do not answer."""
    raise Unavailable("nobody is there")


async def test_changes_are_followed(world: World) -> None:
    """A user that comes is there, one that changes has changed, one that is deleted gets nowhere."""
    await world.declare(user("{logins: [joe]}"))
    async with world.client() as auth:
        known = Following(auth, DataDir(world.folder), FILE)
        async with running(known):
            await known.ready(10)
            assert known.user("joe").spec.logins == ("joe",)
            await world.declare(role("dev", "{allow: {logins: [dev]}}")["dev"])
            await until(lambda: "dev" in known.roles)
            await world.declare(user("{logins: [root]}"))
            await until(lambda: known.user("joe").spec.logins == ("root",))
            await world.declared.remove("User", "joe", Origin.TCTL)
            await until(lambda: "joe" not in known.users)
            with pytest.raises(AccessDenied, match="there is no user joe"):
                known.user("joe")


async def test_what_was_known_is_there_after_a_start_without_auth(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is kept in data_dir, readable by nobody else; and what auth says later wins over it."""
    monkeypatch.setattr(following, "KEEP_SECONDS", 0.0)
    await world.declare(user("{logins: [joe]}"))
    await world.declare(role("dev", "{allow: {logins: [dev]}}")["dev"])
    async with world.client() as auth:
        known = Following(auth, DataDir(world.folder), FILE)
        async with running(known):
            await until((world.folder / FILE).exists)
    assert (world.folder / FILE).stat().st_mode & 0o777 == 0o600
    alone = AuthClient(away, lambda: ["127.0.0.1:1"])
    again = Following(alone, DataDir(world.folder), FILE)
    async with running(again):
        await again.ready(0.05)
    await alone.close()
    assert again.user("joe").spec.logins == ("joe",)
    assert set(again.roles) == {"dev"}
    assert "those of the last time" in caplog.text
    await world.declared.remove("User", "joe", Origin.TCTL)
    async with world.client() as auth:
        later = Following(auth, DataDir(world.folder), FILE)
        await later.ready(0.05)
        assert "joe" in later.users
        async with running(later):
            await until(lambda: "joe" not in later.users)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"User": 1}', '{"User": [1, "{}"], "Role": ["nonsense"]}'])
async def test_a_file_that_cannot_be_used_lets_nobody_in(world: World, content: str) -> None:
    """Whatever is in it, the service starts, and knows nobody."""
    (world.folder / FILE).write_text(content)
    alone = AuthClient(away, lambda: ["127.0.0.1:1"])
    known = Following(alone, DataDir(world.folder), FILE)
    await known.ready(0.05)
    assert not known.users
    assert not known.roles


async def test_what_cannot_be_read_is_as_good_as_none(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A role of a newer version, which may deny more than is understood, is not the old one and not half of one."""
    known = following.Followed(Role)
    dev = role("dev", "{allow: {logins: [dev]}}")["dev"].with_origin(Origin.TCTL)
    text = encode(dev).decode()
    known.take(ResourceEvent(put=ResourceDocument(document=text)))
    assert set(known.by_name) == {"dev"}
    known.take(ResourceEvent(put=ResourceDocument(document=text.replace('"logins"', '"logins": 5, "x"'))))
    assert not known.by_name
    assert "stored Role 'dev' cannot be read" in caplog.text
    known.take(ResourceEvent(put=ResourceDocument(document="nonsense")))
    assert not known.by_name


async def test_one_user_that_cannot_be_read_keeps_no_other_out(world: World) -> None:
    """The snapshot holds both; one is known."""
    await world.declare(user("{logins: [joe]}"))
    await world.backend.put(resource("User", "eve"), b"nonsense")
    async with world.client() as auth:
        known = Following(auth, DataDir(world.folder), FILE)
        async with running(known):
            await known.ready(10)
            assert set(known.users) == {"joe"}


async def test_the_list_of_nodes_goes_on_while_auth_is_away(world: World) -> None:
    """Who is in it may still be there. Without any list there is an error."""
    presence = Presence.model_validate({"id": NODE, "kind": "node", "name": "luna", "addr": "127.0.0.1:3022"})
    async with world.client() as auth:
        await auth.call(methods.HEARTBEAT, Heartbeat(presence=presence))
        directory = Directory(auth)
        assert [node.name for node in await directory.nodes()] == ["luna"]
        auth._dial = away
        await auth.close()
        directory._asked = -100.0
        assert [node.name for node in await directory.nodes()] == ["luna"]
    alone = AuthClient(away, lambda: ["127.0.0.1:1"])
    with pytest.raises(Unavailable):
        await Directory(alone).nodes()
    await alone.close()
