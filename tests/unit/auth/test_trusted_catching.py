"""Which roots a leaf asks over HTTPS what their authorities say: those without a tunnel, and not too often."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import cast

from runtime.api.succession_messages import Successions
from runtime.api.trust_messages import TrustedClusters, TrustedPeer
from runtime.api.tunnel_messages import ProxyTunnels, TunnelEntry
from runtime.auth.trusted import TrustedView
from runtime.auth.trusted_catching import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, CatchingUp
from runtime.auth.trusted_exchange import NotTrusted, Root
from runtime.auth.trusted_following import Following
from runtime.core.resources import TrustedCluster
from runtime.core.trust_status import TrustReason
from tests.unit.auth.test_trusted import document


class Longest(random.Random):
    """Chooses the longest pause."""

    def uniform(self, a: float, b: float) -> float:
        """Return the end of the range."""
        return b


class World:
    """A leaf with documents of roots, tunnels to some, and what was asked and learned."""

    def __init__(self, *documents: TrustedCluster) -> None:
        self.documents = {each.name: each for each in documents}
        self.given = {each.name: TrustedPeer(cluster=each.name) for each in documents}
        self.clusters = TrustedClusters(statements=("ours",))
        self.connected: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.told: list[Successions] = []
        self.learned: list[tuple[str, tuple[str, ...]]] = []
        self.fails = False
        self.catching = CatchingUp(
            "leaf", cast("TrustedView", self), cast("Following", self), self.tunnels, ask=self.ask, rng=Longest()
        )

    async def tunnels(self) -> list[ProxyTunnels]:
        """Return what there is."""
        entries = tuple(TunnelEntry(cluster=name, side="leaf", online=True) for name in self.connected)
        return [ProxyTunnels(proxy_id=uuid.uuid4(), tunnels=entries)]

    async def ask(self, root: Root, own: Successions) -> Successions:
        """Be the root."""
        self.asked.append((root.name, root.address))
        self.told.append(own)
        if self.fails:
            raise NotTrusted(TrustReason.UNREACHABLE, "nobody is there")
        return Successions(cluster="whatever it says", statements=("theirs",))

    async def learn(self, cluster: str, statements: tuple[str, ...]) -> None:
        """Be `Following`."""
        self.learned.append((cluster, statements))


async def test_a_root_without_a_tunnel_is_told_and_asked() -> None:
    """What it says is taken for what the root of that document says, whatever it calls itself."""
    world = World(document())
    await world.catching.look()
    assert world.asked == [("main", "p:3080")]
    assert world.told == [Successions(cluster="leaf", statements=("ours",))]
    assert world.learned == [("main", ("theirs",))]


async def test_who_is_not_asked() -> None:
    """One with a tunnel, one without a web address, one that is disabled, one that is not trusted."""
    pinned = document("pinned", {"ca": "x"}, proxy={"tunnelAddr": "p:3024"})
    stranger = document("stranger")
    world = World(document("main"), pinned, document("off", enabled=False), stranger)
    world.connected.add("main")
    del world.given["stranger"]
    await world.catching.look()
    assert world.asked == []
    # A tunnel that is lost makes it worth a question, at once.
    world.connected.clear()
    await world.catching.look()
    assert world.asked == [("main", "p:3080")]


async def test_pauses_grow_while_nobody_answers() -> None:
    """And begin anew with a tunnel, or another address."""
    world = World(document())
    world.fails = True
    loop = asyncio.get_running_loop()
    now = loop.time()
    loop.time = lambda: now  # type: ignore[method-assign] # the clock of this test
    try:
        pauses = []
        for _ in range(8):
            await world.catching.look()
            count = len(world.asked)
            state = world.catching._roots["main"]
            pauses.append(round(state.due - now))
            await world.catching.look()
            assert len(world.asked) == count, "not before it is due"
            now = state.due
        assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
        assert pauses[-1] == MAX_PAUSE_SECONDS
        await world.catching.look()
        count = len(world.asked)
        world.documents["main"] = document(proxy={"webAddr": "q:3080", "tunnelAddr": "p:3024"})
        await world.catching.look()
        assert world.asked[count:] == [("main", "q:3080")]
        assert world.learned == []
    finally:
        del loop.time  # back to the class's own
