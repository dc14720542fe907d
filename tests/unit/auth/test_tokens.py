"""Join tokens, on the memory backend with a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from runtime.auth.tokens import JoinToken, JoinTokens
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied, AlreadyExists, InvalidInput, NotFound

STATIC = JoinToken(token="xxxxxx", roles=("proxy", "node"), static=True)


class World:
    """Tokens on a memory backend, one of them static."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.backend = MemoryBackend(clock=self.clock)
        self.tokens = JoinTokens(self.backend, self.clock, [STATIC])


async def test_a_token_works_until_it_expires() -> None:
    """It may be used again and again within its time (manual, "Short-lived Tokens"), and not after."""
    world = World()
    token = await world.tokens.create(("node",), timedelta(minutes=5))
    assert len(token.token) == 32
    for _ in range(3):
        assert await world.tokens.redeem(token.token, ["node"]) == token
    world.clock.advance(timedelta(minutes=5))
    with pytest.raises(AccessDenied, match="not valid"):
        await world.tokens.redeem(token.token, ["node"])
    assert await world.tokens.list() == [STATIC]


@pytest.mark.parametrize("value", ["", "xxxxx", "xxxxxxx", "\udcff", "no such token at all"])
async def test_a_guess_is_refused(value: str) -> None:
    """A value that is no token is refused, and not repeated in the error."""
    with pytest.raises(AccessDenied) as caught:
        await World().tokens.redeem(value, ["node"])
    assert not value or value not in str(caught.value)


async def test_a_token_for_another_role_says_so() -> None:
    """Who holds a good token is told what it is good for; nothing is used up."""
    world = World()
    token = await world.tokens.create(("node",), timedelta(minutes=5), max_uses=1)
    with pytest.raises(AccessDenied, match="join as proxy, only as node"):
        await world.tokens.redeem(token.token, ["node", "proxy"])
    await world.tokens.redeem(token.token, ["node"])


async def test_a_limited_token_is_used_up_by_exactly_that_many() -> None:
    """Of fifty members that join at once with a token for three, three get in."""
    world = World()
    token = await world.tokens.create(("node",), timedelta(minutes=5), max_uses=3)
    results = await asyncio.gather(
        *(world.tokens.redeem(token.token, ["node"]) for _ in range(50)), return_exceptions=True
    )
    assert sum(isinstance(result, JoinToken) for result in results) == 3
    assert sum(isinstance(result, AccessDenied) for result in results) == 47


async def test_a_revoked_token_is_refused() -> None:
    """A token that was deleted works no more, and deleting it twice says so."""
    world = World()
    token = await world.tokens.create(("node",), timedelta(minutes=5))
    await world.tokens.revoke(token.token)
    with pytest.raises(AccessDenied):
        await world.tokens.redeem(token.token, ["node"])
    with pytest.raises(NotFound):
        await world.tokens.revoke(token.token)


async def test_a_static_token_cannot_be_revoked_and_says_why() -> None:
    """It stands in teleport.yaml (manual, "Revoking Invitations"); it still works."""
    world = World()
    with pytest.raises(InvalidInput, match="static token") as caught:
        await world.tokens.revoke("xxxxxx")
    assert "auth_service.tokens" in caught.value.hint
    assert await world.tokens.redeem("xxxxxx", ["node", "proxy"]) == STATIC


@pytest.mark.parametrize("seconds", [0, 59, 30 * 3600 + 1])
async def test_a_lifetime_outside_the_limits_is_refused(seconds: int) -> None:
    """A token lives for a minute to thirty hours."""
    with pytest.raises(InvalidInput, match="cannot live"):
        await World().tokens.create(("node",), timedelta(seconds=seconds))


@pytest.mark.parametrize("value", ["short", "tab\tis not printable", "nøt only ASCII at all"])
async def test_a_value_that_is_easy_to_guess_or_to_mistype_is_refused(value: str) -> None:
    """A value that a person picks has a least length and printable characters."""
    with pytest.raises(InvalidInput, match="a token needs"):
        await World().tokens.create(("node",), timedelta(minutes=5), value=value)


async def test_a_value_cannot_be_taken_twice() -> None:
    """A second token of one value would change the first behind its holder's back."""
    world = World()
    await world.tokens.create(("node",), timedelta(minutes=5), value="a" * 32)
    with pytest.raises(AlreadyExists):
        await world.tokens.create(("proxy",), timedelta(minutes=5), value="a" * 32)


async def test_no_token_shows_in_a_key_or_a_repr() -> None:
    """A token is stored under its hash."""
    world = World()
    token = await world.tokens.create(("node",), timedelta(minutes=5))
    (item,) = (await world.backend.range("secrets/")).items
    assert token.token not in item.key + repr(token)
