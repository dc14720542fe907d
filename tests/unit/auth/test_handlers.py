"""The methods of auth that people and administrators use, from message to message."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pyotp
import pytest
from pydantic import SecretStr

from runtime.api import methods
from runtime.api.member_messages import PresenceQuery
from runtime.api.messages import Name, Nothing
from runtime.api.people_messages import (
    Invite,
    InviteRequest,
    LoginRequest,
    SignupForm,
    SignupQuery,
    SignupRequest,
    UserEntry,
    UserRequest,
)
from runtime.api.resource_messages import ResourceDocument, ResourceQuery, ResourceRef
from runtime.api.token_messages import TokenRequest, TokenValue
from runtime.audit.events import EventType
from runtime.core.callers import Caller, CallerKind
from runtime.core.errors import AccessDenied, AlreadyExists, CompareFailed, InvalidInput, NotFound, TeleportError
from runtime.core.resources import Origin, User, decode, dump, load_documents
from runtime.core.resources.stored import encode, key_of
from runtime.pki.certificate import read_certificate
from tests.unit.auth.world import ADMIN, HOUR, KEY, PROXY, STATIC, World, error_of

PASSWORD = "correct horse battery"
HOME = "192.0.2.1"
STEP = timedelta(seconds=30)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield an auth service without a port."""
    world = World()
    await world.start()
    yield world
    await world.stop()


async def invite(world: World, name: str = "joe", *logins: str, **more: object) -> Invite:
    """Add a user."""
    request = UserRequest.model_validate({"name": name, "logins": logins, **more})
    return await world.call(ADMIN, methods.USERS_CREATE, request)


async def show(world: World, token: str) -> SignupForm:
    """Return what the page of a sign-up link shows."""
    return await world.call(PROXY, methods.SIGNUP_SHOW, SignupQuery(token=SecretStr(token), address=HOME))


async def sign_up(world: World, token: str) -> pyotp.TOTP:
    """Complete an invite; return the person's app, a step after the code that was used."""
    totp = pyotp.parse_uri((await show(world, token)).otp_uri)
    assert isinstance(totp, pyotp.TOTP)
    typed = {"token": token, "password": PASSWORD, "otp": totp.at(world.clock.now()), "address": HOME}
    await world.call(PROXY, methods.SIGNUP_COMPLETE, SignupRequest.model_validate(typed))
    world.clock.advance(STEP)
    return totp


def login(world: World, totp: pyotp.TOTP, **changes: object) -> LoginRequest:
    """Return what joe types."""
    typed = {"user": "joe", "password": PASSWORD, "otp": totp.at(world.clock.now()), "public_key": KEY, "address": HOME}
    return LoginRequest.model_validate({**typed, **changes})


async def users(world: World) -> dict[str, UserEntry]:
    """Return all users by name."""
    return {user.name: user for user in (await world.call(ADMIN, methods.USERS_LIST, Nothing())).users}


async def create(world: World, text: str, origin: Origin | None = None) -> None:
    """Write documents as tctl does, or with another origin as others do."""
    for resource in load_documents(text, source="test"):
        if origin is None:
            document = json.dumps(json.loads(encode(resource)))
            await world.call(ADMIN, methods.RESOURCES_WRITE, ResourceDocument(document=document))
        else:
            await world.backend.put(key_of(resource), encode(resource.with_origin(origin)))


ROLES = """
{apiVersion: teleport.internal/v1, kind: Role, metadata: {name: dev}, spec: {allow: {logins: [dev, app]}}}
---
{apiVersion: teleport.internal/v1, kind: Role, metadata: {name: safe}, spec: {deny: {logins: [root]}}}
---
{apiVersion: teleport.internal/v1, kind: User, metadata: {name: ann}, spec: {logins: [root, ann], roles: [dev, safe]}}
---
{apiVersion: teleport.internal/v1, kind: User, metadata: {name: eve}, spec: {logins: [eve], roles: [gone]}}
"""


# --- the cluster -------------------------------------------------------------------------------------------------


async def test_every_method_is_served(world: World) -> None:
    """No method of the table is without its handler."""
    assert world.service._dispatcher.missing() == frozenset()


REFUSED = [
    (name, kind) for name, method in methods.METHODS.items() for kind in CallerKind if kind not in method.callers
]


@pytest.mark.parametrize(("method", "kind"), REFUSED)
async def test_who_may_not_call_what(world: World, method: str, kind: CallerKind) -> None:
    """A caller whom the table does not name is refused, whatever it sends, and the attempt is in the log."""
    with pytest.raises(AccessDenied, match=f"{kind} may not call {method}"):
        await world.raw(Caller(kind, PROXY.name, HOME), method, Nothing())
    (event,) = world.audit.of(EventType.CALL_REFUSED)
    assert (event["method"], event["addr.remote"]) == (method, HOME)


async def test_what_is_no_method_is_audited(world: World) -> None:
    """Whoever tries names is told no more than that there is none, and shows up in the log."""
    with pytest.raises(NotFound, match="there is no method"):
        await world.raw(Caller(CallerKind.NOBODY, "", HOME), "authorities.private" + "x" * 1000, Nothing())
    (event,) = world.audit.of(EventType.CALL_REFUSED)
    assert len(str(event["method"])) == 80


async def test_anybody_learns_what_is_public(world: World) -> None:
    """Cluster, version, time and second factor; and the public keys of both authorities, nothing private."""
    nobody = Caller(CallerKind.NOBODY, "", HOME)
    pong = await world.call(nobody, methods.PING, Nothing())
    assert (pong.cluster, pong.time, pong.second_factor) == ("main", world.clock.now(), "otp")
    listed = await world.call(nobody, methods.AUTHORITIES, Nothing())
    assert [(each.cluster, each.type, len(each.keys)) for each in listed.authorities] == [
        ("main", "user", 1),
        ("main", "host", 1),
    ]
    assert "PRIVATE" not in listed.model_dump_json()


async def test_a_heartbeat_is_told_where_auth_is(world: World) -> None:
    """That list is what a member keeps in authservers.json."""
    assert (await world.beat(PROXY, "edge")).auth_servers == ("192.0.2.1:3025",)
    await world.call(PROXY, methods.LEAVE, Nothing())
    listed = await world.call(ADMIN, methods.PRESENCE, PresenceQuery(kind=CallerKind.PROXY))
    assert listed.members == ()


# --- logging in --------------------------------------------------------------------------------------------------


async def test_a_login_gives_a_certificate(world: World) -> None:
    """For the key that was sent, with the user's logins, for as long as was asked."""
    totp = await sign_up(world, (await invite(world, "joe", "joe", "root")).token)
    reply = await world.call(PROXY, methods.LOGIN, login(world, totp, ttl=3600))
    certificate = read_certificate(reply.certificate.encode())
    assert certificate.principals == ("joe", "root", "join:teleport.internal")
    assert (reply.user, reply.cluster, reply.expires) == ("joe", "main", world.clock.now() + HOUR)
    assert len(reply.authorities) == 2


@pytest.mark.parametrize(
    "changes",
    [{"public_key": "ssh-ed25519 AAAA"}, {"public_key": ""}, {"ttl": 59}, {"ttl": 0}, {"ttl": -3600}],
)
async def test_what_cannot_be_certified_uses_no_code_up(world: World, changes: dict[str, Any]) -> None:
    """A bad key or lifetime is told before anything is judged: the same code works right afterwards."""
    totp = await sign_up(world, (await invite(world)).token)
    with pytest.raises(InvalidInput):
        await world.call(PROXY, methods.LOGIN, login(world, totp, **changes))
    await world.call(PROXY, methods.LOGIN, login(world, totp))


@pytest.mark.parametrize("user", ["", "eve", "J\x1boe", "joe/../ann", "/", "a" * 1024, "joe\x00", "\u202ejoe", "日本"])
async def test_whatever_is_typed_as_a_name_is_wrong_in_the_same_words(world: World, user: str) -> None:
    """A name that can be nobody's is refused like any unknown one, and audited."""
    totp = await sign_up(world, (await invite(world)).token)
    error = await error_of(world, PROXY, methods.LOGIN, login(world, totp, user=user))
    assert isinstance(error, AccessDenied)
    assert str(error) == "wrong user name, password or one-time password"
    assert world.audit.of(EventType.AUTH)[-1]["user"] == user


async def test_a_deleted_user_does_not_log_in(world: World) -> None:
    """Who was deleted by the operator, which cannot touch credentials, is refused at once."""
    totp = await sign_up(world, (await invite(world)).token)
    await world.backend.delete("resources/User/joe")
    with pytest.raises(AccessDenied, match="wrong user name, password or one-time password"):
        await world.call(PROXY, methods.LOGIN, login(world, totp))


async def test_a_user_without_a_role_that_it_should_have(world: World) -> None:
    """A missing role may be the one that denies: no certificate."""
    totp = await sign_up(world, (await invite(world)).token)
    document = await world.call(ADMIN, methods.RESOURCES_GET, ResourceRef(kind="User", name="joe"))
    joe = decode(User, document.document.encode())
    joe = joe.model_copy(update={"spec": joe.spec.model_copy(update={"roles": ("gone",)})})
    await world.call(ADMIN, methods.RESOURCES_WRITE, ResourceDocument(document=dump(joe), revision=document.revision))
    with pytest.raises(AccessDenied, match="has the role gone, which does not exist"):
        await world.call(PROXY, methods.LOGIN, login(world, totp))


# --- users -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ttl", [-3600, 0, 59, 30 * 3600 + 1, 10**9])
async def test_an_invite_has_a_bounded_life(world: World, ttl: int) -> None:
    """One that is refused leaves no user behind."""
    with pytest.raises(InvalidInput, match="an invite cannot hold for"):
        await invite(world, ttl=ttl)
    assert await users(world) == {}


@pytest.mark.parametrize("name", ["", "Joe", "a b", "a,b", "a/b", "..", "joe\n", "user:joe", "jöe", "x" * 129])
async def test_a_name_that_is_none(world: World, name: str) -> None:
    """Neither a user nor an invite comes of it."""
    with pytest.raises(InvalidInput, match="expected a name"):
        await invite(world, name, "joe")
    assert (await world.backend.range("resources/")).items == ()
    assert (await world.backend.range("secrets/")).items == ()


async def test_a_second_user_of_a_name(world: World) -> None:
    """It is refused, and the first keeps its invite."""
    first = await invite(world)
    with pytest.raises(AlreadyExists, match="user joe exists already"):
        await invite(world, "joe", "root")
    assert (await show(world, first.token)).user == "joe"
    assert (await users(world))["joe"].logins == ("joe",)


async def test_a_new_user_has_nothing_of_an_old_one(world: World) -> None:
    """Credentials that outlived their user, by whatever accident, do not open its name's next account."""
    totp = await sign_up(world, (await invite(world)).token)
    await world.backend.delete("resources/User/joe")
    await invite(world)
    assert (await users(world))["joe"].status == "invited"
    error = await error_of(world, PROXY, methods.LOGIN, login(world, totp))
    assert str(error) == "wrong user name, password or one-time password"


async def test_an_invite_ends_with_its_user(world: World) -> None:
    """Whoever deletes the user: the link is no longer good, and makes no credentials for a name without a user."""
    for delete in ("tctl", "operator"):
        invited = await invite(world)
        if delete == "tctl":
            await world.call(ADMIN, methods.USERS_DELETE, Name(name="joe"))
        else:
            await world.backend.delete("resources/User/joe")
        with pytest.raises(AccessDenied, match="this sign-up link has expired"):
            await show(world, invited.token)
        typed = {"token": invited.token, "password": PASSWORD, "otp": "000000", "address": HOME}
        with pytest.raises(AccessDenied, match="this sign-up link has expired"):
            await world.call(PROXY, methods.SIGNUP_COMPLETE, SignupRequest.model_validate(typed))
        assert (await world.backend.range("secrets/credentials/")).items == ()


async def test_reset_takes_the_password_away_and_is_audited(world: World) -> None:
    """The old password is gone before the new link is known; both are in the log with who did it."""
    totp = await sign_up(world, (await invite(world)).token)
    anew = await world.call(ADMIN, methods.USERS_RESET, InviteRequest(name="joe"))
    error = await error_of(world, PROXY, methods.LOGIN, login(world, totp))
    assert isinstance(error, AccessDenied)
    assert world.audit.of(EventType.USER_RESET) == [{"user": "joe", "by": str(ADMIN)}]
    await sign_up(world, anew.token)


async def test_users_are_listed_with_what_they_may(world: World) -> None:
    """Own logins first, then those of roles, without what is denied; nothing for a user whose role is missing."""
    await create(world, ROLES)
    await invite(world, "joe", "root", "joe")
    listed = await users(world)
    assert listed["ann"].logins == ("ann", "app", "dev")
    assert listed["ann"].roles == ("user:ann", "dev", "safe")
    assert listed["eve"].logins == ()
    assert listed["joe"].logins == ("root", "joe")
    assert {user.status for user in listed.values()} == {"invited"}


async def test_only_who_signed_up_is_locked(world: World) -> None:
    """Guessing at a name that has no password yet does not make it look locked; it is unlocked by deleting it too."""
    totp = await sign_up(world, (await invite(world)).token)
    await invite(world, "ann")
    for number in range(10):
        wrong = login(world, totp, user=("joe", "ann")[number % 2], password="wrong", address=f"203.0.113.{number}")
        await error_of(world, PROXY, methods.LOGIN, wrong)
    assert {name: user.status for name, user in (await users(world)).items()} == {"joe": "locked", "ann": "invited"}
    await world.call(ADMIN, methods.USERS_DELETE, Name(name="joe"))
    await sign_up(world, (await invite(world)).token)
    assert (await users(world))["joe"].status == "active"


# --- tokens ------------------------------------------------------------------------------------------------------


async def test_tokens_are_revoked_wherever_they_are(world: World) -> None:
    """A join token and an invite by the same method; a static one says why not; an unknown one that it is not there."""
    token, invited = await world.token(labels={"env": "prod"}, max_uses=2), await invite(world)

    async def delete(value: str) -> None:
        await world.call(ADMIN, methods.TOKENS_DELETE, TokenValue(token=SecretStr(value)))

    await delete(token)
    await delete(invited.token)
    with pytest.raises(InvalidInput, match="static token"):
        await delete(STATIC.token)
    for gone in (token, invited.token, "", "\x00"):
        with pytest.raises(NotFound, match="there is no such token"):
            await delete(gone)
    left = (await world.call(ADMIN, methods.TOKENS_LIST, Nothing())).tokens
    assert [entry.token for entry in left] == [STATIC.token]
    (created,) = world.audit.of(EventType.TOKEN_CREATED)
    deleted, withdrawn = world.audit.of(EventType.TOKEN_DELETED)
    assert created == deleted
    assert (created["roles"], created["labels"], created["uses_left"]) == (["node"], ["env=prod"], 2)
    assert (withdrawn["roles"], withdrawn["user"], withdrawn["by"]) == (["signup"], invited.user, str(ADMIN))


async def test_no_token_is_in_the_log(world: World) -> None:
    """The log has that tokens were made and for what, and never one in full."""
    values = [await world.token("node", "proxy"), (await invite(world)).token]
    written = str(world.audit.events)
    assert "'roles': ['node', 'proxy']" in written
    assert not any(value in written for value in values)


@pytest.mark.parametrize(
    "labels", [{"a b": "c"}, {"a": "\x1b"}, {"": "x"}, {"a": "b\nc"}, {f"l{number}": "" for number in range(65)}]
)
async def test_labels_that_are_none(world: World, labels: dict[str, str]) -> None:
    """A token imposes what a document could impose, and nothing that moves a terminal."""
    request = TokenRequest(roles=("node",), labels=labels)
    with pytest.raises(InvalidInput, match="label"):
        await world.call(ADMIN, methods.TOKENS_CREATE, request)


# --- resources ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ("", InvalidInput),
        ("[]", InvalidInput),
        (ROLES, InvalidInput),
        ("{kind: Secret}", InvalidInput),
        ("{apiVersion: teleport.internal/v1, kind: Role, metadata: {name: 'user:joe'}, spec: {}}", InvalidInput),
        ("{apiVersion: teleport.internal/v1, kind: Role, metadata: {name: x, origin: config}, spec: {}}", InvalidInput),
    ],
)
async def test_a_document_that_cannot_be_written(world: World, document: str, error: type[TeleportError]) -> None:
    """Exactly one resource, as a person may write it; else nothing is written."""
    with pytest.raises(error):
        await world.call(ADMIN, methods.RESOURCES_WRITE, ResourceDocument(document=document))
    assert (await world.backend.range("resources/")).items == ()


@pytest.mark.parametrize("origin", [Origin.KUBERNETES, Origin.CONFIG])
async def test_what_others_declare_stays(world: World, origin: Origin) -> None:
    """An administrator's methods change and delete what tctl declared; another's is named as such."""
    joe = "{apiVersion: teleport.internal/v1, kind: User, metadata: {name: joe}, spec: {logins: [joe]}}"
    await create(world, joe, origin)
    for attempt in (
        world.call(ADMIN, methods.USERS_DELETE, Name(name="joe")),
        world.call(ADMIN, methods.RESOURCES_REMOVE, ResourceRef(kind="User", name="joe")),
        world.call(ADMIN, methods.RESOURCES_WRITE, ResourceDocument(document=joe, overwrite=True)),
    ):
        with pytest.raises(CompareFailed, match=f"declared by {origin}"):
            await attempt
    with pytest.raises(AlreadyExists):
        await invite(world)
    (user,) = load_documents(joe, source="test")
    stored = await world.call(ADMIN, methods.RESOURCES_GET, ResourceRef(kind="User", name="joe"))
    assert stored.document.encode() == encode(user.with_origin(origin))
    assert isinstance(user, User)


@pytest.mark.parametrize("kind", ["user", "Usr", "", "../authority", "User/joe"])
async def test_a_kind_that_is_none(world: World, kind: str) -> None:
    """There is no way from kinds to the authorities' keys or to secrets."""
    for attempt in (
        world.call(ADMIN, methods.RESOURCES_GET, ResourceRef(kind=kind, name="x")),
        world.call(ADMIN, methods.RESOURCES_LIST, ResourceQuery(kind=kind)),
        world.call(ADMIN, methods.RESOURCES_REMOVE, ResourceRef(kind=kind, name="x")),
    ):
        with pytest.raises(InvalidInput, match="there is no kind"):
            await attempt


async def test_resources_are_audited(world: World) -> None:
    """Who wrote or removed which resource, and what changed of it, is in the log; what was refused is not."""
    role = "{apiVersion: teleport.internal/v1, kind: Role, metadata: {name: dev}, spec: {allow: {logins: [LOGIN]}}}"
    for login, overwrite in (("dev", False), ("root", True)):
        document = ResourceDocument(document=role.replace("LOGIN", login), overwrite=overwrite)
        await world.call(ADMIN, methods.RESOURCES_WRITE, document)
    with pytest.raises(AlreadyExists):
        await world.call(ADMIN, methods.RESOURCES_WRITE, ResourceDocument(document=role.replace("LOGIN", "eve")))
    await world.call(ADMIN, methods.RESOURCES_REMOVE, ResourceRef(kind="Role", name="dev"))
    who = {"kind": "Role", "name": "dev", "by": str(ADMIN)}
    created, updated, removed = world.audit.of(EventType.RESOURCE_WRITTEN, EventType.RESOURCE_REMOVED)
    origin = 'metadata.origin: none -> "tctl"'
    assert created == {**who, "changes": [origin, 'spec.allow.logins: none -> ["dev"]']}
    assert updated == {**who, "changes": ['spec.allow.logins: ["dev"] -> ["root"]']}
    assert removed == {**who, "changes": ['metadata.origin: "tctl" -> none', 'spec.allow.logins: ["root"] -> none']}
    request = UserRequest(name="joe", logins=("joe",))
    await world.call(ADMIN, methods.USERS_CREATE, request)
    await world.call(ADMIN, methods.USERS_DELETE, Name(name="joe"))
    assert world.audit.of(EventType.RESOURCE_WRITTEN)[-1] == {
        "kind": "User",
        "name": "joe",
        "by": str(ADMIN),
        "changes": [origin, 'spec.logins: none -> ["joe"]'],
    }
    (deleted,) = world.audit.of(EventType.USER_DELETED)
    assert (deleted["user"], deleted["by"]) == ("joe", str(ADMIN))
    assert 'spec.logins: ["joe"] -> none' in str(deleted["changes"])
