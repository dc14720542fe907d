"""Reverse tunnels while either cluster gets another authority: old ones carry on, and new ones stand beside them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runtime.core.resources.authority import AuthorityType
from runtime.pki.succession import standing
from runtime.pki.trust import Trust
from runtime.tunnel import protocol
from runtime.tunnel.leaf import Root
from tests.integration.test_tunnel import people_port
from tests.servers.tunnels import Hosts, LeafProxy, RootProxy, running, until


class Rotation:
    """A root and a leaf with a tunnel, and the authorities that one of them had and gets."""

    def __init__(self) -> None:
        self.main, self.new_main = Hosts("main"), Hosts("main")
        self.far, self.new_far = Hosts("leaf"), Hosts("leaf")
        self.root, self.leaf = RootProxy(self.main, self.far), LeafProxy(self.far)

    def leaf_believes(self, *hosts: Hosts) -> None:
        """Have the leaf believe the root by these."""
        trust = Trust(each.key for each in hosts)
        keys = tuple(each.key.key.line for each in hosts)
        self.leaf.agent.keep({"main": Root("main", self.root.address, keys, trust)})

    def root_believes(self, *hosts: Hosts) -> None:
        """Have the root believe the leaf by these."""
        self.root.trust = Trust(each.key for each in hosts)
        self.root.registry.refresh()

    async def root_proves(self, hosts: Hosts) -> None:
        """Have the root's proxy log in with a certificate by that authority."""
        renewed = hosts.member(host_id=self.root.member.id)
        await self.root.registry.renew(login=renewed.login, key=renewed.key, certificate=renewed.member_certificate)

    def leaf_proves(self, hosts: Hosts) -> None:
        """Have the leaf's proxy show a host certificate by that authority."""
        self.leaf.member = hosts.member(host_id=self.leaf.member.id)
        self.leaf.agent.renewed()

    @property
    def tunnels(self) -> list[Any]:
        """The tunnels that the root would use."""
        return self.root.registry.tunnels("leaf")

    async def replaced(self, old: Any) -> None:
        """Wait until there is one tunnel, another than the old one."""
        await until(lambda: len(self.tunnels) == 1 and self.tunnels[0] is not old, "a new tunnel")
        await until(lambda: self.leaf.online == [self.root.member.id], "the leaf knows")


@pytest.fixture
async def rotation() -> AsyncIterator[Rotation]:
    """Yield the two, with a tunnel."""
    made = Rotation()
    async with running(made.root, made.leaf):
        made.leaf_believes(made.main)
        await made.root.online("leaf")
        await until(lambda: made.leaf.online == [made.root.member.id], "the leaf knows")
        yield made


@asynccontextmanager
async def somebody_on(rotation: Rotation) -> AsyncIterator[Any]:
    """Yield what tells whether somebody who is on a tunnel is still served."""
    async with people_port(rotation.root) as connection, asyncio.timeout(60):
        writer, reader, _ = await connection.open_session(subsystem="echo", encoding=None)

        async def is_served() -> bool:
            writer.write(b"here")
            return bool(await reader.read(4) == b"here")

        assert await is_served()
        yield is_served


async def test_a_root_that_logs_in_by_another_authority(rotation: Rotation) -> None:
    """It says so; the leaf, which believes both, has a new tunnel, and who is on the old one stays, to the very end."""
    (old,) = rotation.tunnels
    async with somebody_on(rotation) as is_served:
        rotation.leaf_believes(rotation.main, rotation.new_main)
        await rotation.root_proves(rotation.new_main)
        await rotation.replaced(old)
        assert old.draining
        rotation.leaf_believes(rotation.new_main)
        assert await is_served()
        async with somebody_on(rotation) as another:
            assert await another()
        assert await is_served()
    await until(lambda: len(list(rotation.root.registry.status())) == 1, "the old one is gone")
    assert rotation.root.events[-1].up, "which is no loss"


async def test_a_leaf_that_does_not_believe_it_yet(rotation: Rotation) -> None:
    """The tunnel that stands goes on; as soon as the leaf believes the new authority there is a new one."""
    (old,) = rotation.tunnels
    await rotation.root_proves(rotation.new_main)
    async with somebody_on(rotation) as is_served:
        (keeper, _) = next(iter(rotation.leaf.agent._keepers.values()))
        await until(
            lambda: keeper.line is not None and keeper.line.signer == rotation.new_main.key.key.fingerprint, "told"
        )
        assert rotation.tunnels == [old]
        rotation.leaf_believes(rotation.main, rotation.new_main)
        await rotation.replaced(old)
        assert await is_served()


async def test_a_key_that_goes_before_there_is_a_new_tunnel(rotation: Rotation) -> None:
    """A root of an earlier release says nothing of its authority: the leaf sees for itself, and nobody is cut off."""
    (old,) = rotation.tunnels
    async with somebody_on(rotation) as is_served:
        rotation.leaf_believes(rotation.main, rotation.new_main)
        renewed = rotation.new_main.member(host_id=rotation.root.member.id)
        listener = rotation.root.registry._listener
        assert listener is not None
        await listener.prove_with(login=renewed.login, key=renewed.key, certificate=renewed.member_certificate)
        rotation.leaf_believes(rotation.new_main)
        await rotation.replaced(old)
        assert await is_served()


async def test_a_leaf_that_shows_another_authority(rotation: Rotation) -> None:
    """The root believes both, then the new one alone: who is on the old tunnel stays, and nobody new comes on it."""
    (old,) = rotation.tunnels
    async with somebody_on(rotation) as is_served:
        rotation.root_believes(rotation.far, rotation.new_far)
        assert rotation.tunnels == [old]
        rotation.leaf_proves(rotation.new_far)
        await rotation.replaced(old)
        assert old.draining
        rotation.root_believes(rotation.new_far)
        assert await is_served()
    await until(lambda: len(list(rotation.root.registry.status())) == 1, "the old one is gone")


async def test_a_leafs_key_that_goes_before_there_is_a_new_tunnel(rotation: Rotation) -> None:
    """Nobody new comes on the old one, which is let go once nobody is on it."""
    (old,) = rotation.tunnels
    async with somebody_on(rotation) as is_served:
        rotation.root_believes(rotation.far, rotation.new_far)
        rotation.root_believes(rotation.new_far)
        assert rotation.tunnels == []
        assert await is_served()
        rotation.leaf_proves(rotation.new_far)
        await rotation.replaced(old)
        assert await is_served()


@pytest.mark.parametrize("side", ["root", "leaf"])
async def test_other_keys_end_it_at_once(rotation: Rotation, side: str) -> None:
    """Where nothing leads from the old keys to the new ones there is no rotation: nobody is left on it, on either."""
    async with people_port(rotation.root) as connection, asyncio.timeout(60):
        writer, reader, _ = await connection.open_session(subsystem="echo", encoding=None)
        writer.write(b"here")
        assert await reader.readexactly(4) == b"here"
        if side == "root":
            rotation.root_believes(rotation.new_far)
        else:
            rotation.leaf_believes(rotation.new_main)
        assert await reader.read() == b""
    await until(lambda: not rotation.tunnels, "it is gone")


async def test_what_authorities_say_crosses_both_ways() -> None:
    """With hello and its answer: at the beginning, and again at a change."""
    heard: list[tuple[str, tuple[str, ...]]] = []
    made = Rotation()
    key = made.main.signer.key
    said = {
        number: (standing("main", AuthorityType.HOST, keys=[key.public], signers=[key], serial=number).text,)
        for number in (1, 2)
    }
    now = {"main": said[1], "leaf": ("what the leaf says",)}
    async with running(made.root, made.leaf):
        made.root.registry._successions = lambda: now["main"]
        made.root.registry._heard = lambda cluster, texts: heard.append((cluster, texts))
        made.leaf.agent._successions = lambda: now["leaf"]
        made.leaf.agent.heard = lambda cluster, texts: heard.append((cluster, texts))
        made.leaf_believes(made.main)
        await until(lambda: ("main", said[1]) in heard and ("leaf", ("what the leaf says",)) in heard, "both are heard")
        now["main"] = said[2]
        made.root.registry.refresh()
        await until(lambda: ("main", said[2]) in heard, "the root's news is heard")
        now["leaf"] = ("more",)
        made.leaf.agent.renewed()
        await until(lambda: ("leaf", ("more",)) in heard, "the leaf's news is heard")


class _AtOnce(random.Random):
    """Has no patience."""

    def uniform(self, a: float, b: float) -> float:
        """Return the least."""
        return a


async def test_a_root_that_says_what_is_not_so(rotation: Rotation) -> None:
    """An authority by which it then does not log in is heeded once: the leaf does not go on dialling."""
    (old,) = rotation.tunnels
    rotation.leaf.agent.rng = _AtOnce()
    (keeper, _) = next(iter(rotation.leaf.agent._keepers.values()))
    rotation.leaf_believes(rotation.main, rotation.new_main)
    rotation.root.registry._signer = rotation.new_main.key.key.fingerprint
    rotation.root.registry.refresh()
    await rotation.replaced(old)
    await until(lambda: keeper.line is not None and keeper.line.is_outdated, "it says so again")
    line = keeper.line
    keeper.reconsider()
    for _ in range(5):  # in which a timer that is due now has fired
        await asyncio.sleep(0)
    assert keeper.line is line
    assert not keeper.renewing.is_set()


def test_an_earlier_release_is_understood() -> None:
    """Neither side has to know of any of this: a hello and an answer without it are as good as before."""
    end = protocol.LeafEnd(root="main", proxy="p")
    hello = end.receive('hello {"version": 1, "cluster": "main", "proxy": "p"}')
    assert isinstance(hello, protocol.Hello)
    assert (hello.signer, hello.successions) == ("", ())
    welcome = protocol.RootEnd(leaf="leaf", proxy="q").greeted_with(
        b'{"result": {"version": 1, "cluster": "leaf", "proxy": "q"}}'
    )
    assert welcome.successions == ()
