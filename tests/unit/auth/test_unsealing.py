"""Credentials that the operator sealed move into auth's own part of the store, on the memory backend."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime

import pytest

from runtime.audit.events import EventType
from runtime.auth.attempts import Attempts
from runtime.auth.credentials import CredentialStore
from runtime.auth.invites import Invites
from runtime.auth.passwords import Passwords
from runtime.auth.people import People
from runtime.auth.unsealing import Unsealing, sealing_key
from runtime.backend.memory import MemoryBackend
from runtime.core import keys
from runtime.core.clock import ManualClock
from runtime.core.resources import SealedCredentials, User, decode, encode, key_of
from runtime.pki.sealing import SealingKey, seal
from tests.unit.auth.recorder import Recorder

NOW = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
PASSWORD, OTHER = "correct horse battery", "staple, not a horse"
SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


class World:
    """Auth's part, and users that the operator writes."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.backend = MemoryBackend(clock=self.clock)
        self.audit = Recorder()
        self.passwords = Passwords(memory_kib=64)
        self.people = People(
            clock=self.clock,
            second_factor="otp",
            passwords=self.passwords,
            credentials=CredentialStore(self.backend),
            invites=Invites(self.backend, self.clock),
            attempts=Attempts(self.backend, self.clock),
            audit=self.audit,
        )
        self.tasks: list[asyncio.Task[None]] = []

    def follow(self) -> None:
        """Run one auth server's unsealing."""
        unsealing = Unsealing(self.backend, self.people, self.audit, self.clock)
        self.tasks.append(asyncio.create_task(unsealing.run()))

    async def declare(self, name: str, source: str, content: object, *, about: str = "") -> None:
        """Write a user as the operator does, with what a Secret holds."""
        public = (await sealing_key(self.backend)).public
        box = seal(public, json.dumps(content).encode(), about=about or f"User/{name}")
        data = {"metadata": {"name": name}, "spec": {"logins": ["a"], "credentialsSecretRef": {"name": "s"}}}
        user = User.model_validate(data).with_credentials(SealedCredentials(source=source, box=box))
        await self.backend.put(key_of(user), encode(user))

    async def credentials(self, name: str) -> SealedCredentials:
        """Return what the record of a user says of its credentials."""
        user = decode(User, (await self.backend.get(keys.resource("User", name))).value)
        assert user.metadata.credentials is not None
        return user.metadata.credentials

    async def settled(self, name: str) -> SealedCredentials:
        """Wait until the box is gone from a user's record."""
        async with asyncio.timeout(10):
            while (found := await self.credentials(name)).box is not None:  # noqa: ASYNC110 (it is not told)
                await asyncio.sleep(0.005)
        return found

    def told(self) -> list[str]:
        """Return whose credentials were set, as the audit log has it."""
        return [str(each["user"]) for each in self.audit.of(EventType.USER_CREDENTIALS)]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Have one; what runs is ended."""
    made = World()
    yield made
    for task in made.tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    made.passwords.close()
    await made.backend.close()


async def test_what_a_secret_holds_becomes_the_users(world: World) -> None:
    """Also what was sealed while no auth server ran. The box goes, once and for all, and nothing of it stays there."""
    await world.declare("early", "1/1", {"password": PASSWORD, "otpSecret": SEED})
    world.follow()
    assert (await world.settled("early")).taken == NOW
    await world.declare("late", "1/2", {"password": PASSWORD, "otpSecret": SEED})
    assert await world.settled("late") == SealedCredentials(source="1/2", taken=NOW)
    for name in ("early", "late"):
        assert await world.people.holds(name, PASSWORD, SEED)
    assert world.told() == ["early", "late"]
    resources = b"".join([item.value for item in (await world.backend.range("resources/")).items])
    assert SEED.encode() not in resources


async def test_another_version_of_the_secret(world: World) -> None:
    """Another password replaces the old one; the same one again, in another version, changes nothing and is no news."""
    world.follow()
    for source, password in (("1/1", PASSWORD), ("1/2", OTHER), ("1/3", OTHER)):
        await world.declare("bot", source, {"password": password, "otpSecret": SEED})
        assert (await world.settled("bot")).source == source
    assert await world.people.holds("bot", OTHER, SEED)
    assert world.told() == ["bot", "bot"]


@pytest.mark.parametrize(
    ("content", "about", "said"),
    [
        ({"password": "short", "otpSecret": SEED}, "", "fewer than"),
        ({"password": PASSWORD}, "", "asks for one-time passwords. Put their seed into the key otpSecret"),
        ({"password": PASSWORD, "otpSecret": "JBSWY3DP"}, "", "fewer than 128 bits"),
        ({"otpSecret": SEED}, "", "is not a password with the seed"),
        ([], "", "is not a password with the seed"),
        ({"password": PASSWORD, "otpSecret": SEED}, "User/root", "does not open"),
    ],
    ids=["short", "no seed", "short seed", "no password", "a list", "another user's"],
)
async def test_what_is_refused(world: World, content: object, about: str, said: str) -> None:
    """The record says why, without a value; who can log in, can go on to."""
    world.follow()
    await world.declare("bot", "1/1", {"password": OTHER, "otpSecret": SEED})
    await world.settled("bot")
    await world.declare("bot", "1/2", content, about=about)
    found = await world.settled("bot")
    assert found.taken is None
    assert said in found.problem
    assert PASSWORD not in found.problem
    assert await world.people.holds("bot", OTHER, SEED)
    assert world.told() == ["bot"]


async def test_two_auth_servers(world: World) -> None:
    """Whoever is first, the user has the credentials once, and both go on."""
    world.follow()
    world.follow()
    for number in range(5):
        await world.declare(f"bot-{number}", "1/1", {"password": PASSWORD, "otpSecret": SEED})
    for number in range(5):
        assert (await world.settled(f"bot-{number}")).taken is not None
        assert await world.people.holds(f"bot-{number}", PASSWORD, SEED)
    assert not any(task.done() for task in world.tasks)


async def test_the_key_is_made_once(world: World) -> None:
    """Of servers that start at once one makes it; the public half is there for others to read, and is put right."""
    found = await asyncio.gather(*(sealing_key(world.backend) for _ in range(5)))
    assert len({each.private for each in found}) == 1
    item = await world.backend.get("public/sealing-key")
    assert base64.b64decode(item.value) == found[0].public
    await sealing_key(world.backend)
    assert (await world.backend.get("public/sealing-key")).revision == item.revision
    await world.backend.put("public/sealing-key", base64.b64encode(SealingKey.new().public))
    await sealing_key(world.backend)
    assert (await world.backend.get("public/sealing-key")).value == item.value


async def test_what_others_write_is_left_alone(world: World) -> None:
    """Users without a Secret, and what this version cannot read."""
    await world.backend.put("resources/User/new", b"{}")
    user = User.model_validate({"metadata": {"name": "joe"}, "spec": {"logins": ["a"]}})
    await world.backend.put(key_of(user), encode(user))
    world.follow()
    await world.declare("bot", "1/1", {"password": PASSWORD, "otpSecret": SEED})
    await world.settled("bot")
    assert (await world.backend.get("resources/User/new")).value == b"{}"
    assert (await world.backend.get(key_of(user))).value == encode(user)
