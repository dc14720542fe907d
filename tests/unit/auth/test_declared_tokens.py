"""Tokens that documents declare: whom they let in, and until when. Over auth's own wire, with a clock to be moved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from pydantic import SecretStr

from runtime.api import methods
from runtime.api.member_messages import Membership
from runtime.api.messages import Nothing
from runtime.api.resource_messages import ResourceDocument, ResourceQuery, ResourceRef
from runtime.api.token_messages import TokenValue
from runtime.core.callers import Caller, CallerKind
from runtime.core.errors import AccessDenied, CompareFailed, InvalidInput, TeleportError
from runtime.core.resources import Origin, Token, decode, encode, key_of
from runtime.core.resources.token import digest_of
from tests.unit.auth.world import ADMIN, PROXY, World

VALUE = "1f0e2d3c4b5a69788796a5b4c3d2e1f0"
KEY = "resources/Token/web"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield an auth service without a port."""
    world = World()
    await world.start()
    yield world
    await world.stop()


async def declare(world: World, *, value: str | None = VALUE, revision: int = 0, **spec: object) -> ResourceDocument:
    """Write the document of token web as tctl does."""
    document = {"apiVersion": "teleport.internal/v1", "kind": "Token", "metadata": {"name": "web"}}
    request = ResourceDocument(
        document=json.dumps({**document, "spec": {"roles": ["node"], **spec}}),
        revision=revision,
        value=None if value is None else SecretStr(value),
    )
    return await world.call(ADMIN, methods.RESOURCES_WRITE, request)


async def stored(world: World) -> Token:
    """Return the token as the storage has it."""
    return decode(Token, (await world.backend.get(KEY)).value)


async def refused(world: World, value: str = VALUE) -> str:
    """Return what a newcomer is told who is not let in."""
    with pytest.raises(AccessDenied) as caught:
        await world.join(value)
    return str(caught.value)


async def test_a_declared_token_lets_in(world: World) -> None:
    """With the labels that its document imposes, for as long as it says, and no longer."""
    answer = await declare(world, ttl="5m", labels={"env": "prod"})
    assert answer.value is None
    assert (await world.join(VALUE)).labels == {"env": "prod"}
    world.clock.advance(timedelta(minutes=5) - timedelta(seconds=1))
    await world.join(VALUE)
    world.clock.advance(timedelta(seconds=1))
    assert "not valid" in await refused(world)


async def test_a_value_is_made_and_told_once(world: World) -> None:
    """Without a Secret: the answer to who declared it has it, and nothing else ever does."""
    answer = await declare(world, value=None)
    assert answer.value is not None
    value = answer.value.get_secret_value()
    await world.join(value)
    again = await declare(world, value=None, revision=answer.revision, ttl="1h")
    assert again.value is None
    await world.join(value)
    for space in ("resources/", "secrets/"):
        assert not [item for item in (await world.backend.range(space)).items if value.encode() in item.value]
    assert value not in repr(answer)


async def test_uses_are_counted_and_survive_an_edit(world: World) -> None:
    """Of twenty at once three get in; a document that allows four lets one more in."""
    answer = await declare(world, maxUses=3)
    newcomers = (world.join(VALUE, f"n{number}", address=f"198.51.100.{number}") for number in range(20))
    ended = await asyncio.gather(*newcomers, return_exceptions=True)
    assert sum(isinstance(each, Membership) for each in ended) == 3
    assert sum(isinstance(each, AccessDenied) for each in ended) == 17
    with pytest.raises(CompareFailed):
        await declare(world, revision=answer.revision, maxUses=4)
    revision = (await world.backend.get(KEY)).revision
    await declare(world, revision=revision, maxUses=4)
    await world.join(VALUE)
    assert "not valid" in await refused(world)


async def test_an_edit_counts_for_the_next_newcomer(world: World) -> None:
    """Roles and labels are those of the document as it is then."""
    answer = await declare(world)
    await declare(world, revision=answer.revision, roles=["proxy"], labels={"env": "test"})
    assert "only as proxy" in await refused(world)
    assert (await world.join(VALUE, roles=(CallerKind.PROXY,))).labels == {"env": "test"}


async def test_a_new_value_ends_the_old_one(world: World) -> None:
    """And begins a new life."""
    answer = await declare(world, ttl="5m", maxUses=1)
    await world.join(VALUE)
    world.clock.advance(timedelta(minutes=4))
    revision = (await world.backend.get(KEY)).revision
    assert revision > answer.revision
    await declare(world, value=VALUE[::-1], revision=revision, ttl="5m", maxUses=1)
    assert "not valid" in await refused(world)
    world.clock.advance(timedelta(minutes=4))
    await world.join(VALUE[::-1])


async def test_a_deleted_token_lets_nobody_in(world: World) -> None:
    """With its document goes all that was kept of it: declared again, it counts from nothing."""
    await declare(world, maxUses=1)
    await world.call(ADMIN, methods.RESOURCES_REMOVE, ResourceRef(kind="Token", name="web"))
    assert "not valid" in await refused(world)
    await declare(world, maxUses=1)
    await world.join(VALUE)


async def test_a_document_without_a_value_lets_nobody_in(world: World) -> None:
    """One that an earlier version stored has none; the next one to write it gets one."""
    token = Token.model_validate({"metadata": {"name": "web"}, "spec": {"roles": ["node"]}}).with_origin(Origin.TCTL)
    item = await world.backend.create(key_of(token), encode(token))
    for guess in ("", "None", digest_of(VALUE), "web"):
        assert "not valid" in await refused(world, guess)
    assert (await declare(world, value=None, revision=item.revision)).value is not None


async def test_what_is_kept_of_a_value_is_not_the_value(world: World) -> None:
    """Who reads the storage cannot join with what is in it."""
    await declare(world)
    issued = (await stored(world)).metadata.issued
    assert issued is not None
    assert issued.digest == digest_of(VALUE)
    assert "not valid" in await refused(world, issued.digest)


async def test_the_list_has_its_name(world: World) -> None:
    """Not its value; and only while somebody can join with it."""
    await declare(world, ttl="5m")
    listed = (await world.call(ADMIN, methods.TOKENS_LIST, Nothing())).tokens
    assert [(each.name, each.token, each.roles) for each in listed if not each.static] == [("web", "", ("node",))]
    world.clock.advance(timedelta(minutes=5))
    assert not [each for each in (await world.call(ADMIN, methods.TOKENS_LIST, Nothing())).tokens if not each.static]


async def test_it_is_revoked_where_it_is_declared(world: World) -> None:
    """The command tctl tokens del names the document; a value that is none is not found."""
    await declare(world)
    with pytest.raises(InvalidInput, match="declared by a document: Token web") as caught:
        await world.call(ADMIN, methods.TOKENS_DELETE, TokenValue(token=SecretStr(VALUE)))
    assert "tctl rm token/web" in caught.value.hint
    await world.join(VALUE)


@pytest.mark.parametrize("value", ["", "short", "sixteen\tand more of it", "ünsäglich lang und nicht ASCII"])
async def test_a_value_that_is_easy_to_guess_is_refused(world: World, value: str) -> None:
    """Nothing is written, and the error does not repeat it."""
    with pytest.raises(InvalidInput, match="a token needs 16") as caught:
        await declare(world, value=value)
    assert not value or value not in str(caught.value)
    assert (await world.backend.range("resources/")).items == ()


async def test_no_document_brings_its_own_count(world: World) -> None:
    """What is kept of a value is the cluster's alone."""
    issued = {"digest": digest_of(VALUE), "since": "2026-01-01T12:00:00Z", "uses": 0}
    document = {
        "apiVersion": "teleport.internal/v1",
        "kind": "Token",
        "metadata": {"name": "web", "issued": issued},
        "spec": {"roles": ["node"]},
    }
    with pytest.raises(InvalidInput, match="is kept by the cluster"):
        await world.call(ADMIN, methods.RESOURCES_WRITE, ResourceDocument(document=json.dumps(document)))


@pytest.mark.parametrize("caller", [PROXY, Caller(CallerKind.NODE, PROXY.name, "192.0.2.3")])
async def test_members_follow_no_tokens(world: World, caller: Caller) -> None:
    """They have no use for them, and could try at leisure which value a weak one has."""
    await declare(world)
    with pytest.raises(TeleportError, match="for administrators only"):
        await world.raw(caller, methods.RESOURCES_WATCH.name, ResourceQuery(kind="Token"))


async def test_what_cannot_be_read_is_no_token(world: World) -> None:
    """One bad document keeps nobody else out."""
    await declare(world)
    await world.backend.put("resources/Token/a", b"nonsense")
    await world.join(VALUE)
    await world.call(ADMIN, methods.TOKENS_LIST, Nothing())


async def test_a_deletion_of_another_revision_is_refused(world: World) -> None:
    """Who deletes says which one it saw."""
    answer = await declare(world)
    stale = ResourceRef(kind="Token", name="web", revision=answer.revision - 1)
    with pytest.raises(CompareFailed):
        await world.call(ADMIN, methods.RESOURCES_REMOVE, stale)
    await world.join(VALUE)
    seen = ResourceRef(kind="Token", name="web", revision=answer.revision)
    await world.call(ADMIN, methods.RESOURCES_REMOVE, seen)
    assert (await world.backend.range("resources/")).items == ()
