"""The leaf's end: one proxy of the leaf keeps a tunnel to each proxy of each of its roots.

The first address of a root is from its document; over that tunnel the root tells which proxies it has, and where. There
is a keeper for the first address, and one for each proxy, which dials, stays, and dials again. One tunnel to a proxy is
enough: a keeper whose proxy has one rests until it is lost. Where an address leads to another proxy than was meant, as
a load balancer's may, and that one has a tunnel, it is dialled again until it leads to one that has none.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from runtime.core.clock import Clock
from runtime.transport.limits import Limits
from runtime.tunnel import protocol
from runtime.tunnel.keeper import Keeper, Line
from runtime.tunnel.leaf import Credentials, Dial, Happened, Root, ServeConnect, ServeNodes
from runtime.tunnel.limits import TRANSPORT_LIMITS
from runtime.tunnel.status import TunnelStatus

logger = logging.getLogger(__name__)


LEARNING_SECONDS = 2.0
"""Between two lists of its proxies that one root is heeded for: each address on one is dialled."""


class _Key(NamedTuple):
    """What one keeper is known by; `proxy` is empty for the address of the document."""

    cluster: str
    address: str
    proxy: str


class Agent:
    """All tunnels of one proxy of a leaf."""

    def __init__(
        self,
        *,
        cluster: str,
        proxy: str,
        name: str,
        credentials: Callable[[], Credentials],
        dial: Dial,
        serve_connect: ServeConnect,
        serve_nodes: ServeNodes,
        told: Callable[[Happened], None],
        clock: Clock,
        rng: random.Random | None = None,
        limits: Limits = TRANSPORT_LIMITS,
        successions: Callable[[], tuple[str, ...]] = tuple,
        heard: Callable[[str, tuple[str, ...]], None] = lambda cluster, successions: None,
    ) -> None:
        """Be the proxy `proxy` (its id) of `cluster`; `told` is called when a tunnel comes, goes or is refused.

        `successions` is what roots are to be told of our authorities, and `heard` is called with what they tell.
        """
        self._cluster = cluster
        self._proxy = proxy
        self._name = name
        self.credentials = credentials
        self.dial = dial
        self.serve_connect = serve_connect
        self.serve_nodes = serve_nodes
        self.clock = clock
        self.rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self.limits = limits
        self.heard = heard
        self._successions = successions
        self._told = told
        self._roots: dict[str, Root] = {}
        self._known: dict[str, tuple[protocol.Place, ...]] = {}
        """The proxies of a root, as it last told."""
        self._keepers: dict[_Key, tuple[Keeper, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._learning: dict[str, asyncio.TimerHandle] = {}
        self._heeded: dict[str, float] = {}
        """When each root's list of its proxies was last heeded, by the loop's time."""
        self.failures: Counter[str] = Counter()
        """How often a tunnel to each root could not be had."""

    def keep(self, roots: Mapping[str, Root]) -> None:
        """Have tunnels to these from now on, and to no other. One whose address is the same goes on.

        A root that has rotated its authority has keys that were known before, and gets new tunnels beside the old ones
        where these were proved by a key that has gone.
        """
        for name, root in self._roots.items():
            now = roots.get(name)
            if now is None or now.address != root.address or set(now.keys).isdisjoint(root.keys):
                self._known.pop(name, None)
                for key in [key for key in self._keepers if key.cluster == name]:
                    self._end(key, _why_ended(now, root))
        self._roots = dict(roots)
        self._arrange()
        for keeper, _ in self._keepers.values():
            keeper.reconsider()

    def learned(self, cluster: str) -> None:
        """Have tunnels to all proxies of a root that any of those told of that there are tunnels to.

        However often a root tells of others, what is dialled changes now and then only.
        """
        if cluster not in self._learning:
            self._learning[cluster] = asyncio.get_running_loop().call_later(
                max(0.0, self._heeded.get(cluster, 0.0) + LEARNING_SECONDS - asyncio.get_running_loop().time()),
                # Not from within the task of a keeper that this may end.
                self._learn,
                cluster,
            )

    def _learn(self, cluster: str) -> None:
        del self._learning[cluster]
        places = {
            place: None
            for keeper, _ in self._keepers.values()
            if keeper.root.cluster == cluster and keeper.line is not None
            for place in keeper.line.proxies
        }
        proxies = tuple(places)[: protocol.MAX_PROXIES]
        if cluster in self._roots and self._known.get(cluster) != proxies:
            self._known[cluster] = proxies
            self._heeded[cluster] = asyncio.get_running_loop().time()
            self._arrange()

    def renewed(self) -> None:
        """Open new tunnels, with a new certificate or what else there is to tell; the old ones go on while in use."""
        for keeper, _ in self._keepers.values():
            keeper.renewing.set()

    def end_expired(self) -> None:
        """End tunnels whose root has proved itself by a certificate that is over; before, open new ones beside them."""
        for keeper, _ in self._keepers.values():
            keeper.end_expired(self.clock.now())

    async def stop(self) -> None:
        """End all tunnels."""
        for timer in self._learning.values():
            timer.cancel()
        for key in list(self._keepers):
            self._end(key, "this proxy stops")
        if self._ending:
            await asyncio.wait(self._ending)

    def welcome(self) -> protocol.Welcome:
        """Say who we are."""
        return protocol.Welcome(
            version=protocol.VERSION,
            cluster=self._cluster,
            proxy=self._proxy,
            name=self._name[:256],
            successions=self._successions(),
        )

    def has_tunnel(self, keeper: Keeper) -> bool:
        """Tell whether another keeper has the tunnel that this one is for.

        For the address of the document that is so once there is one to each proxy that the root told of.
        """
        cluster = keeper.root.cluster
        wanted = [keeper.proxy] if keeper.proxy else [place.proxy for place in self._known.get(cluster, ())]
        connected = {
            each.line.proxy
            for each, _ in self._keepers.values()
            if each is not keeper and each.root.cluster == cluster and each.line is not None
        }
        return bool(wanted) and connected.issuperset(wanted)

    def other(self, keeper: Keeper, line: Line) -> bool:
        """Tell whether another keeper has a tunnel to the same proxy, which is then enough."""
        return any(
            each is not keeper
            and each.root.cluster == keeper.root.cluster
            and line.proxy in (other.proxy for other in (each.line, each.coming) if other is not None)
            for each, _ in self._keepers.values()
        )

    def happened(self, keeper: Keeper, peer: str, *, up: bool, error: str = "", reason: str = "") -> None:
        """Tell of a tunnel that came, went or was refused; others who waited for it to go look again."""
        if not error:
            logger.info("tunnel to %s at %s is %s", keeper.root.cluster, keeper.address, "up" if up else "gone")
        if not up:
            for each, _ in self._keepers.values():
                if each is not keeper and each.root.cluster == keeper.root.cluster and each.line is None:
                    each.wake.set()
        self._told(Happened(keeper.root.cluster, peer, keeper.address, up, error, reason))

    def status(self) -> Iterable[TunnelStatus]:
        """Tell of each tunnel that there is, and of those that should be, and are not."""
        for keeper, _ in self._keepers.values():
            status = keeper.status()
            if status.online or not self.has_tunnel(keeper):
                yield status

    def carried(self) -> Counter[str]:
        """Return how many people of each root are on its tunnels."""
        counts: Counter[str] = Counter()
        for keeper, _ in self._keepers.values():
            counts[keeper.root.cluster] += keeper.carried
        return counts

    def _arrange(self) -> None:
        """Have a keeper for each address of a document and for each proxy that was told of, and none for others."""
        wanted = [_Key(name, root.address, "") for name, root in self._roots.items()]
        wanted += [
            _Key(name, place.address, place.proxy) for name in self._roots for place in self._known.get(name, ())
        ]
        for key in [key for key in self._keepers if key not in wanted]:
            self._end(key, "the root has no such proxy any more")
        for key in wanted:
            root = self._roots[key.cluster]
            if key not in self._keepers:
                keeper = Keeper(self, root, key.address, key.proxy)
                task = asyncio.get_running_loop().create_task(keeper.run())
                task.add_done_callback(partial(self._ended, key))
                self._keepers[key] = keeper, task
            else:
                self._keepers[key][0].root = root
        for keeper, _ in self._keepers.values():
            keeper.wake.set()

    def _end(self, key: _Key, reason: str) -> None:
        keeper, task = self._keepers.pop(key)
        if keeper.line is not None:
            logger.info("tunnel to %s at %s ends: %s", keeper.root.cluster, keeper.address, reason)
            self._told(Happened(keeper.root.cluster, keeper.line.proxy, keeper.address, up=False, reason=reason))
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _ended(self, key: _Key, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("keeping the tunnel to %s at %s failed", key.cluster, key.address, exc_info=error)
            self._keepers.pop(key, None)


def _why_ended(now: Root | None, before: Root) -> str:
    if now is None:
        return "the cluster is not trusted any more"
    return "it has another address now" if now.address != before.address else "it is trusted by other keys now"
