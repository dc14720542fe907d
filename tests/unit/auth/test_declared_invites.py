"""Invites in users' records: found, used once, withdrawn, and of no use to another person of the same name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pyotp
import pytest
from pydantic import SecretStr

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.people_messages import InviteRequest, LoginReply, LoginRequest, SignupForm, SignupQuery, SignupRequest
from runtime.api.token_messages import TokenValue
from runtime.auth.changes import changes
from runtime.auth.credentials import Credentials, CredentialStore
from runtime.auth.declared import Declared
from runtime.auth.invites import Invites
from runtime.auth.janitor import Janitor
from runtime.core import keys
from runtime.core.errors import AccessDenied, InvalidInput, NotFound
from runtime.core.resources import Origin, SignupInvite, User, decode, encode, key_of
from runtime.core.resources.token import digest_of
from runtime.pki.verify import verify_user
from tests.unit.auth.world import ADMIN, KEY, PROXY, World

TOKEN = "00112233445566778899aabbccddeeff"
OTHER, THIRD = TOKEN[::-1], TOKEN[1:] + TOKEN[:1]
PASSWORD = SecretStr("correct horse battery")
HOUR = timedelta(hours=1)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield an auth service that has a user joe of Kubernetes, invited with TOKEN."""
    world = World()
    await world.start()
    await declare(world)
    yield world
    await world.stop()


async def declare(world: World, token: str = TOKEN, *, renewed: bool = False) -> None:
    """Write the record of user joe as the operator does; with `renewed` over the one that is there."""
    now = world.clock.now()
    invite = SignupInvite(digest=digest_of(token), issued=now, expires=now + HOUR)
    new = User.model_validate({"metadata": {"name": "joe", "namespace": "team"}, "spec": {"logins": ["joe"]}})
    before = await record(world) if renewed else None
    await world.backend.put(key_of(new), encode(new.with_origin(Origin.KUBERNETES).as_kept(before).with_invite(invite)))


async def record(world: World) -> User:
    """Return the record of user joe."""
    return decode(User, (await world.backend.get(keys.resource("User", "joe"))).value)


async def show(world: World, token: str = TOKEN) -> SignupForm:
    """Look at the page of the link."""
    query = SignupQuery(token=SecretStr(token), address="192.0.2.1")
    return await world.call(PROXY, methods.SIGNUP_SHOW, query)


async def sign_up(world: World, token: str = TOKEN) -> pyotp.TOTP:
    """Complete the link's form, and return what the phone shows from the next code on."""
    phone = pyotp.parse_uri((await show(world, token)).otp_uri)
    assert isinstance(phone, pyotp.TOTP)
    code = SecretStr(phone.at(world.clock.now()))
    request = SignupRequest(token=SecretStr(token), password=PASSWORD, otp=code, address="192.0.2.1")
    assert (await world.call(PROXY, methods.SIGNUP_COMPLETE, request)).user == "joe"
    world.clock.advance(timedelta(seconds=30))
    return phone


async def log_in(world: World, phone: pyotp.TOTP) -> LoginReply:
    """Log in as joe."""
    code = SecretStr(phone.at(world.clock.now()))
    request = LoginRequest(user="joe", password=PASSWORD, otp=code, public_key=KEY, address="192.0.2.1")
    return await world.call(PROXY, methods.LOGIN, request)


async def test_who_is_invited_by_a_record_signs_up_once(world: World) -> None:
    """The page shows one seed however often it is opened; its use stands in the record, and is the only one."""
    assert (await show(world)).otp_uri == (await show(world)).otp_uri
    phone = await sign_up(world)
    invite = (await record(world)).metadata.invite
    assert invite is not None
    assert invite.consumed == world.clock.now() - timedelta(seconds=30)
    entered = await log_in(world, phone)
    identity = verify_user(entered.certificate.encode(), world.authorities.trust, world.clock.now())
    assert (identity.user, identity.person) == ("joe", (await record(world)).metadata.id)
    with pytest.raises(AccessDenied, match="expired, was used, or never was"):
        await show(world)
    assert (await record(world)).metadata.origin is Origin.KUBERNETES


async def test_the_token_is_written_nowhere(world: World) -> None:
    """Neither key nor value in the backend, nor the log, has it; and a digest is no token."""
    await sign_up(world)
    for space in ("resources/", "secrets/"):
        for item in (await world.backend.range(space)).items:
            assert TOKEN not in item.key
            assert TOKEN.encode() not in item.value
    assert TOKEN not in repr(world.audit.events)
    await declare(world, OTHER, renewed=True)
    with pytest.raises(AccessDenied):
        await show(world, digest_of(OTHER))


async def test_a_link_ends(world: World) -> None:
    """After its time it opens nothing, looked at before or not."""
    await show(world)
    world.clock.advance(HOUR)
    with pytest.raises(AccessDenied):
        await show(world)


async def test_a_renewed_invite_ends_all_that_was(world: World) -> None:
    """The old link, the password and the second factor are void with the record's write; the new link works."""
    phone = await sign_up(world)
    await declare(world, OTHER, renewed=True)
    with pytest.raises(AccessDenied):
        await log_in(world, phone)
    with pytest.raises(AccessDenied):
        await show(world)
    assert (await log_in(world, await sign_up(world, OTHER))).user == "joe"


async def test_a_user_that_is_declared_anew_is_another_person(world: World) -> None:
    """Though no auth service saw that it was gone, neither password nor invites of the first count for the second."""
    phone = await sign_up(world)
    reset = InviteRequest(name="joe", ttl=HOUR)
    await world.backend.delete(keys.resource("User", "joe"))
    await declare(world, OTHER)
    with pytest.raises(AccessDenied, match="wrong user name"):
        await log_in(world, phone)
    assert [user.status for user in (await world.call(ADMIN, methods.USERS_LIST, Nothing())).users] == ["invited"]

    invited = await world.call(ADMIN, methods.USERS_RESET, reset)
    await world.backend.delete(keys.resource("User", "joe"))
    await declare(world, THIRD)
    with pytest.raises(AccessDenied):
        await show(world, invited.token)
    assert (await log_in(world, await sign_up(world, THIRD))).user == "joe"


async def test_the_link_of_a_deleted_user(world: World) -> None:
    """It opens nothing, also where its page was open."""
    await show(world)
    await world.backend.delete(keys.resource("User", "joe"))
    with pytest.raises(AccessDenied):
        await show(world)


async def test_of_two_who_use_one_link_at_once_one_gets_in(world: World) -> None:
    """And the record says that it was used."""
    phone = pyotp.parse_uri((await show(world)).otp_uri)
    assert isinstance(phone, pyotp.TOTP)
    request = SignupRequest(
        token=SecretStr(TOKEN), password=PASSWORD, otp=SecretStr(phone.at(world.clock.now())), address="192.0.2.1"
    )
    results = await asyncio.gather(
        *(world.call(PROXY, methods.SIGNUP_COMPLETE, request) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["AccessDenied", "Signup"]


async def test_an_administrator_takes_an_invite_back(world: World) -> None:
    """By `tctl users reset`, which invites anew, and by `tctl tokens rm`; the record has none then."""
    entries = (await world.call(ADMIN, methods.TOKENS_LIST, Nothing())).tokens
    assert [(entry.name, entry.token, entry.roles) for entry in entries if not entry.static] == [
        ("joe", "", ("signup",))
    ]
    await world.call(ADMIN, methods.USERS_RESET, InviteRequest(name="joe", ttl=HOUR))
    assert (await record(world)).metadata.invite is None
    with pytest.raises(AccessDenied):
        await show(world)
    await declare(world, OTHER, renewed=True)
    await world.call(ADMIN, methods.TOKENS_DELETE, TokenValue(token=SecretStr(OTHER)))
    assert (await record(world)).metadata.invite is None


async def test_what_was_used_stays_used(world: World) -> None:
    """A reset leaves in the record that, and when, the invite was used."""
    await sign_up(world)
    before = (await record(world)).metadata.invite
    await world.call(ADMIN, methods.USERS_RESET, InviteRequest(name="joe", ttl=HOUR))
    assert (await record(world)).metadata.invite == before
    with pytest.raises(NotFound):
        await Invites(world.backend, world.clock).declared.use_up("joe", digest_of(TOKEN))


async def test_only_who_has_not_signed_up_is_invited(world: World) -> None:
    """What tctl does for a new user takes nobody's password away."""
    request = InviteRequest(name="joe", ttl=HOUR)
    first = await world.call(ADMIN, methods.USERS_INVITE, request)
    second = await world.call(ADMIN, methods.USERS_INVITE, request)
    with pytest.raises(AccessDenied):
        await show(world, first.token)
    await sign_up(world, second.token)
    with pytest.raises(InvalidInput, match="user joe has signed up already"):
        await world.call(ADMIN, methods.USERS_INVITE, request)
    with pytest.raises(NotFound):
        await world.call(ADMIN, methods.USERS_INVITE, InviteRequest(name="eve", ttl=HOUR))


async def test_what_the_log_says_of_an_invite(world: World) -> None:
    """That there is another one, and neither its digest nor that it was used, which a sign-up says."""
    before = await record(world)
    assert changes(None, before)[-1] == "invite: none -> a new one"
    await sign_up(world)
    used = await record(world)
    assert changes(before, used) == []
    await declare(world, OTHER, renewed=True)
    assert changes(used, await record(world)) == ["invite: the old one -> a new one"]
    assert "user.signup" in world.audit.kinds()


@asynccontextmanager
async def cleaning(world: World) -> AsyncIterator[None]:
    """Let a janitor run."""
    invites = Invites(world.backend, world.clock)
    task = asyncio.create_task(Janitor(Declared(world.backend), CredentialStore(world.backend), invites).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(world: World, *, consumed: bool = False, without: str = "") -> None:
    """Wait until the record says that the invite was used, or a secret is gone."""
    async with asyncio.timeout(10):
        while True:
            invite = (await record(world)).metadata.invite
            held = [item.key for item in (await world.backend.range("secrets/")).items]
            if (not consumed or (invite and invite.consumed)) and (not without or without not in held):
                return
            await asyncio.sleep(0.01)


async def test_a_sign_up_that_was_cut_short_is_completed(world: World) -> None:
    """After a kill between its two writes the link is used, and the next start says so in the record."""
    store = CredentialStore(world.backend)
    await show(world)
    await store.replace("joe", await store.get("joe"), Credentials(password="hash", invite=digest_of(TOKEN)))
    with pytest.raises(AccessDenied, match="was used just now"):
        await show(world)
    async with cleaning(world):
        await until(world, consumed=True)


async def test_what_was_left_behind_is_deleted(world: World) -> None:
    """The credentials of who was invited anew, and those of who was there before, while auth ran or not."""
    await sign_up(world)
    left = "secrets/credentials/joe"
    async with cleaning(world):
        await asyncio.sleep(0)
        await declare(world, OTHER, renewed=True)
        await until(world, without=left)
    await sign_up(world, OTHER)
    await world.backend.delete(keys.resource("User", "joe"))
    await declare(world)
    async with cleaning(world):
        await until(world, without=left)
