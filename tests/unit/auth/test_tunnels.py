"""What proxies tell of their tunnels, on the memory backend with a clock that is moved by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from runtime.api import methods
from runtime.api.tunnel_messages import TunnelEntry
from runtime.auth.tunnels import TTL, TunnelStore
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import Caller, CallerKind
from runtime.core.clock import ManualClock

IDS = [str(UUID(int=number, version=4)) for number in range(2)]
LEAF = TunnelEntry(cluster="leaf", side="root", online=True, peer="q1", since=datetime(2026, 1, 1, tzinfo=UTC))
MAIN = TunnelEntry(cluster="main", side="leaf", online=False, addr="m:3024", error="it refuses the connection")


class World:
    """An empty store."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.backend = MemoryBackend(clock=self.clock)
        self.store = TunnelStore(self.backend, self.clock)

    async def report(self, number: int, *tunnels: TunnelEntry) -> None:
        """Tell as one of two proxies."""
        await self.store.report(Caller(CallerKind.PROXY, IDS[number], "10.0.0.1"), tunnels)

    async def listed(self) -> dict[str, tuple[TunnelEntry, ...]]:
        """Return what is known, by proxy."""
        return {str(each.proxy_id): each.tunnels for each in await self.store.list()}


@pytest.fixture
def world() -> World:
    """Return a new one."""
    return World()


async def test_each_proxy_tells_of_its_own(world: World) -> None:
    """What it tells stands in place of what it told; another's is not touched."""
    await world.report(0, LEAF)
    await world.report(1, MAIN, LEAF)
    assert await world.listed() == {IDS[0]: (LEAF,), IDS[1]: (MAIN, LEAF)}
    await world.report(1)
    assert await world.listed() == {IDS[0]: (LEAF,), IDS[1]: ()}


async def test_a_proxy_that_is_not_heard_is_forgotten(world: World) -> None:
    """Its word holds for a minute."""
    await world.report(0, LEAF)
    world.clock.advance(TTL - timedelta(seconds=1))
    await world.report(1, MAIN)
    world.clock.advance(timedelta(seconds=2))
    assert await world.listed() == {IDS[1]: (MAIN,)}


async def test_a_record_that_cannot_be_read_is_left_out(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The others are told of, and the log names it."""
    await world.report(0, LEAF)
    await world.backend.put(f"presence/tunnel/{IDS[1]}", b'{"tunnels": 7}')
    await world.backend.put("presence/tunnel/nobody", b'{"tunnels": []}')
    assert await world.listed() == {IDS[0]: (LEAF,)}
    assert caplog.text.count("of a proxy's tunnels cannot be read") == 2


def test_only_proxies_tell() -> None:
    """Nodes and users tell of no tunnels; who is a member, or administers, may ask."""
    assert methods.TUNNELS_REPORT.callers == {CallerKind.PROXY}
    assert CallerKind.USER not in methods.TUNNELS_LIST.callers
    assert CallerKind.NOBODY not in methods.TUNNELS_LIST.callers
