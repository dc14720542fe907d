"""The cluster's public record, as auth keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import UUID

import pytest

from runtime.auth.presence import PresenceStore
from runtime.auth.publishing import Publisher
from runtime.backend.base import Item
from runtime.core.callers import Caller, CallerKind
from runtime.core.cluster_facts import ClusterFacts, ProxyAddresses
from runtime.core.errors import InvalidResource, NotFound
from runtime.core.keys import CLUSTER_FACTS
from runtime.core.resources import decode
from tests.unit.auth.world import PROXY, World

PIN = "SHA256:abc"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield an auth service that follows nothing by itself."""
    world = World()
    await world.start()
    yield world
    await world.stop()


def publisher(world: World) -> Publisher:
    """Return one more auth server's publisher."""
    store = PresenceStore(world.backend, world.clock)
    follow = world.service.authorities.follow
    return Publisher(world.backend, store, cluster="main", ca_pins=lambda: (PIN,), changes=follow)


async def publish(world: World) -> Item:
    """Publish what there is, and return the record."""
    store = PresenceStore(world.backend, world.clock)
    await publisher(world).publish(await store.list(CallerKind.PROXY))
    return await world.backend.get(CLUSTER_FACTS)


async def test_the_record_says_how_the_cluster_is_known_and_reached(world: World) -> None:
    """Its pin from the first start on, its proxies as they announce themselves, the last ones when they are gone."""
    assert decode(ClusterFacts, (await publish(world)).value) == ClusterFacts(name="main", ca_pins=(PIN,))
    await world.beat(PROXY, "proxy", "192.0.2.80:3023", web="proxy.example.com:443")
    there = await publish(world)
    facts = decode(ClusterFacts, there.value)
    assert facts.proxies == (ProxyAddresses(web="proxy.example.com:443", ssh="192.0.2.80:3023"),)
    assert facts.web == "proxy.example.com:443"
    assert await publish(world) == there  # nothing new, nothing written
    await PresenceStore(world.backend, world.clock).leave(PROXY)
    assert await publish(world) == there


async def test_servers_agree(world: World) -> None:
    """The order of the proxies is not that of their ids, and what two say at once is one record."""
    other = Caller(CallerKind.PROXY, str(UUID(int=1)), "192.0.2.81")
    await world.beat(PROXY, "a", "192.0.2.80:3023", web="a.example.com:443")
    await world.beat(other, "b", "192.0.2.81:3023", web="b.example.com:443")
    store = PresenceStore(world.backend, world.clock)
    proxies = await store.list(CallerKind.PROXY)
    await asyncio.gather(publisher(world).publish(proxies), publisher(world).publish(reversed(proxies)))
    facts = decode(ClusterFacts, (await world.backend.get(CLUSTER_FACTS)).value)
    assert [proxy.web for proxy in facts.proxies] == ["a.example.com:443", "b.example.com:443"]


async def test_what_is_no_address_is_left_out(world: World) -> None:
    """A link is made of it."""
    await world.beat(PROXY, "proxy", "192.0.2.80:3023", web="example.com/ is mine:1")
    assert decode(ClusterFacts, (await publish(world)).value).proxies == ()


async def test_it_is_kept_current(world: World) -> None:
    """A proxy that comes later is in the record without anybody asking."""
    task = asyncio.create_task(publisher(world).run())
    try:
        async with asyncio.timeout(10), aclosing(world.backend.watch("public/")) as events:
            while True:
                try:
                    await world.backend.get(CLUSTER_FACTS)
                    break
                except NotFound:
                    await anext(events)
            await world.beat(PROXY, "proxy", "192.0.2.80:3023", web="proxy.example.com:443")
            while not decode(ClusterFacts, (await world.backend.get(CLUSTER_FACTS)).value).web:
                await anext(events)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_newer_versions_record_stays(world: World) -> None:
    """It is not written over."""
    await world.backend.put(CLUSTER_FACTS, b"[]")
    with pytest.raises(InvalidResource):
        await publisher(world).publish([])
    assert (await world.backend.get(CLUSTER_FACTS)).value == b"[]"
