"""Heartbeats, on the memory backend with a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from runtime.api.member_messages import Presence
from runtime.auth.presence import MAX_TTL, MIN_TTL, PresenceStore
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import Caller, CallerKind
from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied, InvalidInput

IDS = [UUID(int=number, version=4) for number in range(3)]
TTL = timedelta(seconds=60)


class World:
    """An empty store."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.store = PresenceStore(MemoryBackend(clock=self.clock), self.clock)

    async def beat(
        self,
        number: int,
        name: str,
        kind: CallerKind = CallerKind.NODE,
        *,
        labels: dict[str, str] | None = None,
        imposed: dict[str, str] | None = None,
        ttl: timedelta = TTL,
    ) -> None:
        """Send a heartbeat of one of three members."""
        presence = Presence(id=IDS[number], kind=kind, name=name, addr="192.0.2.1:3022", labels=labels or {})
        await self.store.heartbeat(caller(number, kind), presence, ttl, imposed or {})

    async def names(self, kind: CallerKind = CallerKind.NODE) -> list[str]:
        """Return the names of those who are there."""
        return [entry.presence.name for entry in await self.store.list(kind)]


def caller(number: int, kind: CallerKind = CallerKind.NODE) -> Caller:
    """Return a member as auth sees it."""
    return Caller(kind, str(IDS[number]), "192.0.2.1")


async def test_who_is_heard_is_listed_until_it_is_silent() -> None:
    """A heartbeat holds for its time, the next one for longer, and silence ends it."""
    world = World()
    await world.beat(0, "db")
    (entry,) = await world.store.list(CallerKind.NODE)
    assert entry.expires == world.clock.now() + TTL
    world.clock.advance(TTL - timedelta(seconds=1))
    await world.beat(0, "db")
    world.clock.advance(TTL - timedelta(seconds=1))
    assert await world.names() == ["db"]
    world.clock.advance(timedelta(seconds=1))
    assert await world.names() == []


async def test_who_leaves_is_gone_at_once() -> None:
    """A member that stops on purpose is not waited for; leaving twice, or never having been there, is no error."""
    world = World()
    await world.beat(0, "db")
    await world.beat(1, "web")
    await world.store.leave(caller(0))
    await world.store.leave(caller(0))
    assert await world.names() == ["web"]


async def test_members_are_listed_by_kind_and_name() -> None:
    """One machine may be a node and a proxy under one id; each is listed with its kind, and names in order."""
    world = World()
    await world.beat(2, "a", CallerKind.PROXY)
    await world.beat(0, "b")
    await world.beat(1, "b")
    await world.beat(2, "a")
    listed = [(entry.presence.name, entry.presence.id) for entry in await world.store.list(CallerKind.NODE)]
    assert listed == [("a", IDS[2]), ("b", IDS[0]), ("b", IDS[1])]
    assert await world.names(CallerKind.PROXY) == ["a"]
    assert await world.names(CallerKind.AUTH) == []


@pytest.mark.parametrize("speaker", [caller(1), caller(0, CallerKind.PROXY), caller(0, CallerKind.AUTH)])
async def test_nobody_speaks_for_another(speaker: Caller) -> None:
    """A member says that it is alive, under its own id and kind, and nobody else is."""
    world = World()
    presence = Presence(id=IDS[0], kind=CallerKind.NODE, name="db", addr="192.0.2.1:3022")
    with pytest.raises(AccessDenied, match="sent a heartbeat of node"):
        await world.store.heartbeat(speaker, presence, TTL, {})
    assert await world.names() == []


@pytest.mark.parametrize(
    "ttl", [timedelta(), -TTL, MIN_TTL - timedelta(milliseconds=1), MAX_TTL + timedelta(seconds=1)]
)
async def test_a_heartbeat_holds_for_a_bounded_time(ttl: timedelta) -> None:
    """Nobody stays listed for days after it is gone."""
    world = World()
    with pytest.raises(InvalidInput, match="cannot hold for"):
        await world.beat(0, "db", ttl=ttl)
    assert await world.names() == []


async def test_imposed_labels_override_what_a_node_says() -> None:
    """What its token imposed wins, whichever comes first, and the rest of what it says stays."""
    world = World()
    await world.beat(0, "db", labels={"env": "dev", "os": "debian"}, imposed={"env": "prod"})
    (entry,) = await world.store.list(CallerKind.NODE)
    assert entry.presence.labels == {"env": "prod", "os": "debian"}


async def test_members_of_a_kind_are_followed() -> None:
    """They are told now, and again as one comes or leaves; others do not matter."""
    world = World()
    await world.beat(0, "one", CallerKind.AUTH)
    async with asyncio.timeout(10), aclosing(world.store.follow(CallerKind.AUTH)) as followed:

        async def names() -> list[str]:
            return [entry.presence.name for entry in await anext(followed)]

        assert await names() == ["one"]
        await world.beat(1, "node")
        await world.beat(1, "two", CallerKind.AUTH)
        assert await names() == ["one", "two"]
        await world.store.leave(caller(0, CallerKind.AUTH))
        assert await names() == ["two"]
