"""What happens between two steps of a login or a sign-up: an administrator acts, the server is busy, somebody stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from runtime.auth.attempts import MAX_FAILURES, Attempts
from runtime.auth.credentials import Credentials, CredentialStore, Stored
from runtime.auth.declared import Declared
from runtime.auth.invites import Invites
from runtime.auth.passwords import Passwords
from runtime.auth.people import People
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied, InvalidInput, Unavailable
from runtime.core.resources import load_documents
from tests.unit.auth.recorder import Recorder

HOME = "192.0.2.1"
PASSWORD = "correct horse battery"
JOE = "{apiVersion: teleport.internal/v1, kind: User, metadata: {name: joe}, spec: {logins: [joe]}}"


class BusyPasswords(Passwords):
    """Passwords that are too busy, or never done, when a test says so."""

    busy = False
    stuck: asyncio.Event | None = None

    async def verify(self, stored: str | None, password: str) -> bool:
        """Verify, unless this is a bad moment."""
        if self.busy:
            raise Unavailable("too many people are logging in at once")
        if self.stuck is not None:
            self.stuck.set()
            await asyncio.Event().wait()
        return await super().verify(stored, password)


class RevokingStore(CredentialStore):
    """Credentials beside which an administrator revokes the invite at the worst moment."""

    def __init__(self, backend: MemoryBackend, invites: Invites) -> None:
        super().__init__(backend)
        self._invites = invites
        self.revoke = False

    async def replace(self, user: str, old: Stored, new: Credentials) -> Stored:
        """Write, and have the invite revoked before anybody knows."""
        written = await super().replace(user, old, new)
        if self.revoke:
            await self._invites.revoke_of(user)
        return written


class World:
    """People whose passwords are busy and whose invites vanish."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, 12, tzinfo=UTC))
        self.backend = backend = MemoryBackend(clock=self.clock)
        self.audit = Recorder()
        self.invites = Invites(backend, self.clock)
        self.credentials = RevokingStore(backend, self.invites)
        self.attempts = Attempts(backend, self.clock)
        self.passwords = BusyPasswords(memory_kib=64)
        self.people = People(
            clock=self.clock,
            second_factor="otp",
            passwords=self.passwords,
            credentials=self.credentials,
            invites=self.invites,
            attempts=self.attempts,
            audit=self.audit,
        )
        self.seed = ""

    def code(self) -> str:
        """Return what joe's app shows."""
        return pyotp.TOTP(self.seed).at(self.clock.now())

    async def invite(self) -> str:
        """Invite joe and return the token."""
        invite = await self.invites.mint("joe", timedelta(hours=1))
        self.seed = invite.otp.seed
        return invite.token

    async def sign_up(self) -> None:
        """Invite joe, who signs up; his app then shows a new code."""
        await self.people.sign_up(await self.invite(), PASSWORD, self.code(), HOME)
        self.clock.advance(timedelta(seconds=30))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield people."""
    world = World()
    (joe,) = load_documents(JOE, source="test")
    await Declared(world.backend).create(joe)
    yield world
    world.passwords.close()


async def test_what_nobody_judged_is_no_failure(world: World) -> None:
    """However often the server was too busy, the user is not locked for it, and the code is still good."""
    await world.sign_up()
    world.passwords.busy = True
    for _ in range(2 * MAX_FAILURES):
        with pytest.raises(Unavailable, match="too many people"):
            await world.people.log_in("joe", PASSWORD, world.code(), HOME)
    world.passwords.busy = False
    await world.people.log_in("joe", PASSWORD, world.code(), HOME)


async def test_who_hangs_up_is_not_counted(world: World) -> None:
    """A login whose connection was lost before it was judged leaves nothing pending."""
    await world.sign_up()
    for _ in range(2 * MAX_FAILURES):
        world.passwords.stuck = asyncio.Event()
        waiting = asyncio.create_task(world.people.log_in("joe", PASSWORD, world.code(), HOME))
        await world.passwords.stuck.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    world.passwords.stuck = None
    await world.people.log_in("joe", PASSWORD, world.code(), HOME)


async def test_a_failure_between_busy_moments_still_counts(world: World) -> None:
    """Only what was not judged is taken back: five wrong answers lock, whatever was between them."""
    await world.sign_up()
    for number in range(MAX_FAILURES):
        world.passwords.busy = True
        with pytest.raises(Unavailable):
            await world.people.log_in("joe", "wrong", "", HOME)
        world.passwords.busy = False
        with pytest.raises(AccessDenied, match="wrong user name"):
            await world.people.log_in("joe", "wrong", "", f"203.0.113.{number}")
    with pytest.raises(AccessDenied, match="locked"):
        await world.people.log_in("joe", PASSWORD, world.code(), HOME)


async def test_an_invite_that_is_revoked_meanwhile_makes_nobody(world: World) -> None:
    """A sign-up that an administrator's reset or delete overtakes is taken back: the password is not set."""
    token = await world.invite()
    world.credentials.revoke = True
    with pytest.raises(AccessDenied, match="this sign-up link has expired"):
        await world.people.sign_up(token, PASSWORD, world.code(), HOME)
    assert (await world.credentials.get("joe")).credentials is None
    assert [fields["success"] for _, fields in world.audit.events if "success" in fields] == ["false"]
    world.credentials.revoke = False
    await world.sign_up()
    await world.people.log_in("joe", PASSWORD, world.code(), HOME)


async def test_a_sign_up_again_keeps_the_old_password_until_it_is_done(world: World) -> None:
    """A mistake in a second sign-up leaves the first one's password as it is."""
    await world.sign_up()
    seed = world.seed
    token = await world.invite()
    with pytest.raises(InvalidInput):
        await world.people.sign_up(token, PASSWORD + "2", "000000", HOME)
    world.seed = seed
    await world.people.log_in("joe", PASSWORD, world.code(), HOME)
