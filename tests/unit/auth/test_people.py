"""Signing up and logging in, on the memory backend with a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from runtime.api.cluster_messages import SecondFactor
from runtime.auth.attempts import LOCKED_FOR, MAX_FAILURES, Attempts, LockedOut, source
from runtime.auth.credentials import CredentialStore
from runtime.auth.declared import Declared
from runtime.auth.invites import Invites
from runtime.auth.passwords import Passwords
from runtime.auth.people import People
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied, InvalidInput, NotFound
from runtime.core.resources import key_of, load_documents
from tests.unit.auth.recorder import Recorder

HOME, AWAY = "192.0.2.1", "198.51.100.7"
PASSWORD = "correct horse battery"
USER = "{{apiVersion: teleport.internal/v1, kind: User, metadata: {{name: {0}}}, spec: {{logins: [{0}]}}}}"


class World:
    """People on a memory backend."""

    def __init__(self, second_factor: SecondFactor = "otp") -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, 12, tzinfo=UTC))
        self.backend = MemoryBackend(clock=self.clock)
        self.audit = Recorder()
        self.invites = Invites(self.backend, self.clock)
        self.credentials = CredentialStore(self.backend)
        self.attempts = Attempts(self.backend, self.clock)
        self.passwords = Passwords(memory_kib=64)
        self.people = People(
            clock=self.clock,
            second_factor=second_factor,
            passwords=self.passwords,
            credentials=self.credentials,
            invites=self.invites,
            attempts=self.attempts,
            audit=self.audit,
        )
        self.seed = ""

    async def declare(self, *users: str) -> None:
        """Declare users, as somebody else than those of these names who were there before."""
        for user in users:
            (document,) = load_documents(USER.format(user), source="test")
            with suppress(NotFound):
                await self.backend.delete(key_of(document))
            await Declared(self.backend).create(document)

    def code(self, ahead: timedelta = timedelta()) -> str:
        """Return what the person's app shows."""
        return pyotp.TOTP(self.seed).at(self.clock.now() + ahead)

    async def sign_up(self, user: str = "joe") -> None:
        """Invite a user and complete the sign-up; its code is then used."""
        invite = await self.invites.mint(user, timedelta(hours=1))
        self.seed = invite.otp.seed
        await self.people.sign_up(invite.token, PASSWORD, self.code(), HOME)
        self.clock.advance(timedelta(seconds=60))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield people with one-time passwords."""
    world = World()
    await world.declare("joe", "ann")
    yield world
    world.passwords.close()


async def test_who_signed_up_logs_in(world: World) -> None:
    """Password and code of the sign-up are those of the login, and both are audited."""
    await world.sign_up()
    await world.people.log_in("joe", PASSWORD, world.code(), HOME)
    assert world.audit.kinds() == ["user.signup", "auth"]
    assert world.audit.events[-1][1] == {"user": "joe", "success": "true", "addr.remote": HOME}


@pytest.mark.parametrize(
    ("user", "password", "code"),
    [("joe", "wrong password", None), ("joe", PASSWORD, "000000"), ("eve", PASSWORD, None), ("joe", PASSWORD, "")],
)
async def test_what_was_wrong_is_not_told(world: World, user: str, password: str, code: str | None) -> None:
    """Unknown user, wrong password and wrong code end in the same words, and in the audit log."""
    await world.sign_up()
    with pytest.raises(AccessDenied, match=r"^wrong user name, password or one-time password$"):
        await world.people.log_in(user, password, world.code() if code is None else code, HOME)
    event, fields = world.audit.events[-1]
    assert (event, fields["success"], fields["user"]) == ("auth", "false", user)


async def test_a_code_works_once_even_for_two_at_the_same_time(world: World) -> None:
    """Of two logins with one code, at once or one after the other, one succeeds."""
    await world.sign_up()
    code = world.code()
    results = await asyncio.gather(
        *(world.people.log_in("joe", PASSWORD, code, address) for address in (HOME, AWAY)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["AccessDenied", "str"]
    with pytest.raises(AccessDenied):
        await world.people.log_in("joe", PASSWORD, code, HOME)


async def test_the_code_of_the_sign_up_does_not_log_in(world: World) -> None:
    """The code typed at sign-up is used up by it."""
    invite = await world.invites.mint("joe", timedelta(hours=1))
    world.seed = invite.otp.seed
    await world.people.sign_up(invite.token, PASSWORD, world.code(), HOME)
    with pytest.raises(AccessDenied):
        await world.people.log_in("joe", PASSWORD, world.code(), HOME)


@pytest.mark.parametrize(("minutes", "right"), [(-1, False), (-0.5, True), (0, True), (0.5, True), (1, False)])
async def test_a_clock_may_be_one_step_off(world: World, minutes: float, right: bool) -> None:
    """A phone that is half a minute off works, one that is a minute off does not (RFC 6238 §5.2)."""
    await world.sign_up()
    world.clock.advance(timedelta(minutes=5))
    code = world.code(timedelta(minutes=minutes))
    if right:
        await world.people.log_in("joe", PASSWORD, code, HOME)
    else:
        with pytest.raises(AccessDenied):
            await world.people.log_in("joe", PASSWORD, code, HOME)


async def test_five_failures_lock_the_user_and_the_right_answer_is_refused(world: World) -> None:
    """After five wrong answers from anywhere the right one is refused for half an hour, then taken."""
    await world.sign_up()
    for number in range(MAX_FAILURES):
        with pytest.raises(AccessDenied, match="wrong"):
            await world.people.log_in("joe", "wrong", world.code(), f"203.0.113.{number}")
    assert world.audit.kinds()[-1] == "user.locked"
    with pytest.raises(LockedOut, match="until 12:31 UTC"):
        await world.people.log_in("joe", PASSWORD, world.code(), HOME)
    world.clock.advance(LOCKED_FOR - timedelta(seconds=1))
    with pytest.raises(LockedOut):
        await world.people.log_in("joe", PASSWORD, world.code(), HOME)
    world.clock.advance(timedelta(seconds=1))
    await world.people.log_in("joe", PASSWORD, world.code(), HOME)


async def test_a_source_that_guesses_names_is_locked(world: World) -> None:
    """Five wrong answers from one address for five users lock the address and none of the users."""
    await world.sign_up()
    for number in range(MAX_FAILURES):
        with pytest.raises(AccessDenied, match="wrong"):
            await world.people.log_in(f"user{number}", "wrong", "", AWAY)
    with pytest.raises(LockedOut):
        await world.people.log_in("joe", PASSWORD, world.code(), AWAY)
    world.clock.advance(timedelta(seconds=30))
    await world.people.log_in("joe", PASSWORD, world.code(), HOME)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::1", True),
        ("", "192.0.2.1", False),
    ],
)
def test_a_source_is_what_one_machine_can_have(one: str, other: str, same: bool) -> None:
    """An IPv4 address is a source of its own; of IPv6 the /64 is, for one machine has all of it."""
    assert (source(one) == source(other)) is same


async def test_guesses_at_once_are_counted_before_they_are_judged(world: World) -> None:
    """Of fifty guesses in parallel five are judged, the others refused; then the user is locked."""
    await world.sign_up()
    results = await asyncio.gather(
        *(world.people.log_in("joe", "wrong", "", f"203.0.113.{n}") for n in range(50)), return_exceptions=True
    )
    assert [str(result) for result in results].count("wrong user name, password or one-time password") == MAX_FAILURES
    with pytest.raises(LockedOut):
        await world.people.log_in("joe", PASSWORD, world.code(), HOME)


async def test_an_office_logs_in_at_once(world: World) -> None:
    """Twenty people with one address log in at the same moment: nobody has failed, so nobody is locked."""
    codes = {}
    for number in range(20):
        await world.declare(f"user{number}")
        await world.sign_up(f"user{number}")
        codes[f"user{number}"] = world.seed
    await asyncio.gather(
        *(
            world.people.log_in(user, PASSWORD, pyotp.TOTP(seed).at(world.clock.now()), HOME)
            for user, seed in codes.items()
        )
    )


async def test_a_right_answer_forgives_wrong_ones(world: World) -> None:
    """Four mistakes, a login, four mistakes: nobody is locked."""
    await world.sign_up()
    for _ in range(2):
        for _ in range(MAX_FAILURES - 1):
            with pytest.raises(AccessDenied, match="wrong"):
                await world.people.log_in("joe", "wrong", world.code(), HOME)
        await world.people.log_in("joe", PASSWORD, world.code(), HOME)
        world.clock.advance(timedelta(seconds=60))


async def test_an_invite_works_once(world: World) -> None:
    """A used link says so, to two at once as well, and changes nothing."""
    invite = await world.invites.mint("joe", timedelta(hours=1))
    world.seed = invite.otp.seed
    results = await asyncio.gather(
        *(world.people.sign_up(invite.token, PASSWORD + str(n), world.code(), HOME) for n in range(2)),
        return_exceptions=True,
    )
    assert sum(result == "joe" for result in results) == 1
    with pytest.raises(AccessDenied, match=r"expired, was used"):
        await world.people.sign_up(invite.token, "another password", world.code(), HOME)


async def test_an_invite_whose_use_was_cut_short_is_used(world: World) -> None:
    """When auth dies between writing the credentials and deleting the invite, the link does not work again."""
    invite = await world.invites.mint("joe", timedelta(hours=1))
    world.seed = invite.otp.seed
    stolen = invite.model_dump_json().encode()
    await world.people.sign_up(invite.token, PASSWORD, world.code(), HOME)
    await world.backend.create(f"secrets/invite/{invite.id}", stolen, expires=invite.expires)
    with pytest.raises(AccessDenied, match="used just now"):
        await world.people.show_invite(invite.token, HOME)
    with pytest.raises(AccessDenied, match="used just now"):
        await world.people.sign_up(invite.token, "another password", world.code(), HOME)


@pytest.mark.parametrize(("password", "code"), [("short", None), (PASSWORD, "123456"), ("x" * 513, None)])
async def test_a_mistake_at_sign_up_can_be_mended(world: World, password: str, code: str | None) -> None:
    """A bad password or code is told, uses nothing up, and the next try succeeds."""
    invite = await world.invites.mint("joe", timedelta(hours=1))
    world.seed = invite.otp.seed
    with pytest.raises(InvalidInput):
        await world.people.sign_up(invite.token, password, code or world.code(), HOME)
    assert await world.people.sign_up(invite.token, PASSWORD, world.code(), HOME) == "joe"


async def test_an_expired_invite_is_refused(world: World) -> None:
    """The link ends with its hour."""
    invite = await world.invites.mint("joe", timedelta(hours=1))
    world.clock.advance(timedelta(hours=1))
    with pytest.raises(AccessDenied, match="expired") as caught:
        await world.people.show_invite(invite.token, HOME)
    assert "tctl users reset" in caught.value.hint
    assert invite.token not in str(caught.value)


async def test_a_new_invite_replaces_the_old(world: World) -> None:
    """Only the newest link of a user works, and it shows the same code when it is loaded twice."""
    old = await world.invites.mint("joe", timedelta(hours=1))
    new = await world.invites.mint("joe", timedelta(hours=1))
    with pytest.raises(AccessDenied):
        await world.people.show_invite(old.token, HOME)
    assert await world.people.show_invite(new.token, HOME) == await world.people.show_invite(new.token, HOME)


async def test_passwords_by_counting_log_in_one_by_one(world: World) -> None:
    """With HOTP each code works once and in order; codes that were made and not used are skipped, up to ten."""
    invite = await world.invites.mint("joe", timedelta(hours=1), "hotp")
    codes = pyotp.HOTP(invite.otp.seed)
    await world.people.sign_up(invite.token, PASSWORD, codes.at(0), HOME)
    for wrong in (0, 12):
        with pytest.raises(AccessDenied, match="wrong"):
            await world.people.log_in("joe", PASSWORD, codes.at(wrong), HOME)
    for right in (1, 2, 13):
        await world.people.log_in("joe", PASSWORD, codes.at(right), HOME)
    with pytest.raises(AccessDenied, match="wrong"):
        await world.people.log_in("joe", PASSWORD, codes.at(2), HOME)


async def test_without_a_second_factor_the_password_is_enough() -> None:
    """second_factor: off asks for no code, and still refuses a wrong password."""
    world = World("off")
    await world.declare("joe", "ann")
    invite = await world.invites.mint("joe", timedelta(hours=1))
    await world.people.sign_up(invite.token, PASSWORD, "", HOME)
    await world.people.log_in("joe", PASSWORD, "", HOME)
    with pytest.raises(AccessDenied):
        await world.people.log_in("joe", "wrong", "", HOME)
    world.passwords.close()


async def test_no_secret_shows_in_the_backends_keys_or_in_reprs(world: World) -> None:
    """Neither a token nor a seed is part of a key or of anything that is logged by accident."""
    await world.sign_up()
    invite = await world.invites.mint("ann", timedelta(hours=1))
    keys = [item.key for item in (await world.backend.range("secrets/")).items]
    assert keys
    assert not any(invite.token in key for key in keys)
    assert invite.token not in repr(invite)
    assert invite.otp.seed not in repr(invite.otp) + str(invite)
    stored = await world.credentials.get("joe")
    assert "argon2" not in repr(stored)
