"""The tunnels of one proxy, both ends of them: port 3024 for our leaves, and a tunnel to each proxy of our roots.

What is trusted is followed from auth, so that a cluster that is added, changed or taken away is so here at once, and
what there is is told to auth, for whoever wants to know.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.messages import Nothing
from runtime.api.tunnel_messages import MAX_TUNNELS, Side, TunnelEntry, TunnelReport
from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.core.callers import CallerKind
from runtime.core.clock import Clock
from runtime.core.defaults import PROXY_TUNNEL_PORT
from runtime.core.errors import InvalidInput, TeleportError
from runtime.core.resources.authority import AuthorityType
from runtime.pki.trust import Trust
from runtime.proxy.cluster import ClusterView
from runtime.proxy.connecting import Connector
from runtime.proxy.crossing import Crossing
from runtime.proxy.dialling import Dialler
from runtime.proxy.limits import Quota
from runtime.proxy.siblings import Siblings
from runtime.proxy.successions import Messenger, keys_told
from runtime.proxy.visits import Visits
from runtime.service.directory import Directory
from runtime.service.identity import DataDir, StoredIdentity
from runtime.service.logs import one_line
from runtime.service.trusting import Trusting, trust_in
from runtime.service.values import Address, is_loopback, parse_peer
from runtime.tunnel.agent import Agent
from runtime.tunnel.keeper import DIAL_SECONDS
from runtime.tunnel.leaf import Credentials, Happened, Root
from runtime.tunnel.protocol import Place
from runtime.tunnel.registry import Event, Registry
from runtime.tunnel.status import TunnelStatus

logger = logging.getLogger(__name__)

TRUSTED_FILE = "proxy.trusted.json"
"""In data_dir: the trusted clusters as the proxy last heard of them."""
TUNNEL_LABEL = "tunnel"
"""The label in which a proxy tells where it takes tunnels; leaves are told of it."""
REPORT_SECONDS = 15.0
"""How often auth is told unasked; its record of a proxy holds for a minute."""
LOOK_SECONDS = 5.0
"""How often it is looked at which proxies there are: a leaf hears of a new one after so long."""
SETTLING_SECONDS = 0.2
"""Changes of so long are told in one go."""
FAREWELL_SECONDS = 2.0
"""How long auth may take to hear that the tunnels are gone."""
AUDITED_PER_SOURCE, AUDITED_IN_ALL = 10, 100
"""Refusals that are audited in a minute: a stranger must not push other events out. The log has them all."""
COMINGS_PER_CLUSTER, COMINGS_IN_ALL = 200, 20_000
"""Tunnels that come and go, of which as much is audited: nor must a cluster that does nothing else."""


@dataclass(frozen=True, slots=True)
class TunnelOptions:
    """What tunnels need of teleport.yaml."""

    listen: Address
    """Where leaves come to; port 0 picks a free one."""
    host: str
    """Our host as leaves reach it."""
    name: str
    """What our roots are told that this proxy is called."""
    max_connections: int
    own: tuple[Address, ...] = ()
    """What this process listens on: no root is taken there."""
    public: Address | None = None
    """Where leaves reach us, if not on `host` at the port where we listen."""


class Tunnels:
    """All tunnels of one proxy."""

    def __init__(
        self,
        options: TunnelOptions,
        *,
        auth: AuthClient,
        identity: Callable[[], StoredIdentity],
        data_dir: DataDir,
        audit: Audit,
        clock: Clock,
    ) -> None:
        """Take what they work with; `identity` is the member that this proxy is, as it is at the time."""
        self._options = options
        self._auth = auth
        self._identity = identity
        self._audit = audit
        self._clock = clock
        self._audited = Quota(clock, per_source=AUDITED_PER_SOURCE, total=AUDITED_IN_ALL)
        self._comings = Quota(clock, per_source=COMINGS_PER_CLUSTER, total=COMINGS_IN_ALL)
        self._port = options.listen.port
        self._proxies: tuple[Place, ...] = ()
        self._seen: dict[str, datetime] = {}
        self._changed = asyncio.Event()
        own = identity()
        self.trusting = Trusting(auth, data_dir, TRUSTED_FILE, own=own.cluster, changed=self._trust_changed)
        self._leaf_trust = self._leaves()
        self._messenger = Messenger(auth)
        self._told_roots = keys_told(self.trusting.statements)
        self.registry = Registry(
            cluster=own.cluster,
            proxy=str(own.id),
            trust=lambda: self._leaf_trust,
            proxies=lambda: self._proxies,
            told=self._at_our_port,
            clock=clock,
            successions=self._statements,
            heard=self._messenger.heard,
        )
        self._directory = Directory(auth, CallerKind.PROXY)
        self._siblings = Siblings(identity, self._directory, clock)
        self.others = Crossing(self.registry, self.trusting, audit, seen=self._seen.get, siblings=self._siblings)
        self._agent: Agent | None = None
        self._visits: Visits | None = None

    @property
    def address(self) -> Address:
        """Where leaves reach us."""
        return self._options.public or Address(self._options.host, self._port)

    async def start(self, view: ClusterView, connector: Connector) -> Address:
        """Listen, dial our roots, and return the address that was bound. Raises Unavailable, InvalidInput."""
        identity, listen = self._identity(), self._options.listen
        bound = Address(
            *await self.registry.start(
                address=listen.host,
                port=listen.port,
                login=identity.login,
                key=_bytes(identity),
                certificate=identity.member_certificate.encode(),
                max_connections=self._options.max_connections,
            )
        )
        self._port = bound.port
        self._proxies = (Place(proxy=str(identity.id), address=str(self.address)),)
        self._visits = Visits(view, self.trusting, connector, self._clock)
        self._agent = Agent(
            cluster=identity.cluster,
            proxy=str(identity.id),
            name=self._options.name,
            credentials=self._credentials,
            dial=self._dial,
            serve_connect=self._visits.connect,
            serve_nodes=self._visits.nodes,
            told=self._at_a_root,
            clock=self._clock,
            successions=self._statements,
            heard=self._messenger.heard,
        )
        self._own = (bound, *self._options.own)
        self._agent.keep(self._roots())
        return bound

    async def run(self) -> None:
        """Follow what is trusted, and tell auth what there is, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.trusting.run())
            group.create_task(self._report())
            group.create_task(self._end_expired())
            group.create_task(self._messenger.run())

    async def renewed(self, identity: StoredIdentity) -> None:
        """Prove ourselves with the new certificates."""
        await self.registry.renew(
            login=identity.login, key=_bytes(identity), certificate=identity.member_certificate.encode()
        )
        if self._agent is not None:
            self._agent.renewed()

    async def drain(self, seconds: float) -> None:
        """Take no more tunnels and no more visitors, and let those that are here go on for so long at most."""
        self.registry.close()
        if self._visits is not None:
            self._visits.stopping()
            await self._visits.wait_gone(seconds)

    async def stop(self) -> None:
        """End all tunnels, and tell auth."""
        if self._agent is not None:
            await self._agent.stop()
        await self.registry.stop()
        try:
            await self._auth.call(methods.TUNNELS_REPORT, TunnelReport(tunnels=()), timeout=FAREWELL_SECONDS)
        except TeleportError as error:
            logger.info("auth did not hear that the tunnels are gone: %s", error)

    # --- what is trusted ------------------------------------------------------------------------------------------

    def _trust_changed(self) -> None:
        self._leaf_trust = self._leaves()
        self._messenger.forget()
        self.registry.refresh()
        if self._agent is not None:
            self._agent.keep(self._roots())
            told = keys_told(self.trusting.statements)
            if told != self._told_roots:
                # A leaf tells its roots when it is greeted: they hear of it by new tunnels beside the old.
                self._told_roots = told
                self._agent.renewed()
        self._changed.set()

    def _statements(self) -> tuple[str, ...]:
        """Return what other clusters are to be told of our authorities."""
        return self.trusting.statements

    def _leaves(self) -> Trust:
        """Return what proves proxies of our leaves, and nobody else."""
        leaves = {name: peer for name, peer in self.trusting.peers.items() if not peer.is_root}
        return trust_in(leaves, AuthorityType.HOST)

    def _roots(self) -> dict[str, Root]:
        found = {}
        for name, peer in self.trusting.peers.items():
            if peer.is_root:
                trust = trust_in({name: peer}, AuthorityType.HOST)
                found[name] = Root(name, _normal(peer.tunnel_addr), peer.host_keys, trust)
        return found

    # --- where roots are ------------------------------------------------------------------------------------------

    def _credentials(self) -> Credentials:
        identity = self._identity()
        return Credentials(_bytes(identity), identity.host_certificate.encode())

    async def _dial(self, address: str, told_of: bool) -> socket.socket:
        roots = [peer.tunnel_addr for peer in self.trusting.peers.values() if peer.is_root]
        loopback = not told_of or any(is_loopback(_host(root)) for root in roots)
        return await dial_root(address, own=self._own, loopback=loopback)

    # --- what there is to tell ------------------------------------------------------------------------------------

    async def _report(self) -> None:
        """Tell auth of our tunnels, and leaves of our proxies, now and then and after each change."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                await self._look_around()
                if self._changed.is_set() or loop.time() >= due:
                    self._changed.clear()
                    entries = tuple(self.entries())[:MAX_TUNNELS]
                    await self._auth.call(methods.TUNNELS_REPORT, TunnelReport(tunnels=entries))
                    due = loop.time() + REPORT_SECONDS
            except TeleportError as error:
                self._changed.set()
                logger.info("auth does not hear of the tunnels: %s", error)
                await asyncio.sleep(LOOK_SECONDS)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
                await asyncio.sleep(SETTLING_SECONDS)
            except TimeoutError:
                pass

    async def _end_expired(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.registry.end_expired()
            if self._agent is not None:
                self._agent.end_expired()

    async def _look_around(self) -> None:
        """See where our other proxies are, and what they last heard of the leaves. Raises Unavailable."""
        found = {str(self._identity().id): str(self.address)}
        for entry in await self._directory.members():
            if where := entry.presence.labels.get(TUNNEL_LABEL, ""):
                found.setdefault(str(entry.presence.id), where)
        proxies = tuple(Place(proxy=proxy, address=address) for proxy, address in sorted(found.items()))
        if proxies != self._proxies:
            self._proxies = proxies
            self.registry.refresh()
        told = (await self._auth.call(methods.TUNNELS_LIST, Nothing())).proxies
        self._siblings.learn(told)
        for proxy in told:
            for each in proxy.tunnels:
                if each.side == "root" and each.last_heartbeat is not None:
                    known = self._seen.get(each.cluster)
                    self._seen[each.cluster] = max(known or each.last_heartbeat, each.last_heartbeat)

    def entries(self) -> Iterator[TunnelEntry]:
        """Tell of each tunnel that there is, and of those to our roots that should be, and are not."""
        yield from (_entry("root", status) for status in self.registry.status())
        if self._agent is not None:
            yield from (_entry("leaf", status) for status in self._agent.status())

    def carried(self) -> Iterator[tuple[str, Side, int]]:
        """Tell of each cluster how many people are carried there or from there now, and what we are to it."""
        for cluster, count in sorted(self.registry.carried().items()):
            yield cluster, "root", count
        if self._agent is not None:
            for cluster, count in sorted(self._agent.carried().items()):
                yield cluster, "leaf", count

    def dial_failures(self) -> Mapping[str, int]:
        """Return how often a tunnel to each root could not be had."""
        return self._agent.failures if self._agent is not None else {}

    @property
    def refused(self) -> int:
        """How many were refused at our port."""
        return self.registry.refused

    def _at_our_port(self, event: Event) -> None:
        told = {"cluster": event.cluster, "peer": event.peer, "addr.remote": str(Address(*event.addr))}
        self._happened("root", event, event.addr[0], told)

    def _at_a_root(self, event: Happened) -> None:
        self._happened("leaf", event, "", {"cluster": event.cluster, "peer": event.peer, "addr.remote": event.addr})

    def _happened(self, side: Side, event: Event | Happened, source: str, told: Mapping[str, str]) -> None:
        self._changed.set()
        kind = EventType.TUNNEL_CONNECTED if event.up else EventType.TUNNEL_CLOSED
        if event.error:
            if not self._audited.take(source):
                return
            kind = EventType.TUNNEL_REFUSED
        elif not self._comings.take(event.cluster):
            return
        fields = {"side": side, **told, "error": event.error[:1024], "reason": event.reason[:1024]}
        self._audit.emit(kind, **{name: value for name, value in fields.items() if value})


async def dial_root(address: str, *, own: Sequence[Address], loopback: bool) -> socket.socket:
    """Connect to a proxy of a root, whoever says that it is there.

    As with nodes there are addresses that nobody is connected to (`Dialler`): a root could name any. Without
    `loopback`, where the root itself is elsewhere, those of this machine are among them. Raises InvalidInput,
    AccessDenied, Unavailable.
    """
    try:
        target = parse_peer(address, default_port=PROXY_TUNNEL_PORT)
    except InvalidInput as error:
        raise InvalidInput(f"{one_line(address)[:256]} is no address: {error}") from error
    return await Dialler(own, loopback=loopback, seconds=DIAL_SECONDS).dial(target)


def _entry(side: Side, status: TunnelStatus) -> TunnelEntry:
    return TunnelEntry(
        cluster=status.cluster,
        side=side,
        online=status.online,
        peer=status.peer,
        addr=status.addr[:1024],
        since=status.since,
        last_heartbeat=status.last_heartbeat,
        error=status.error[:1024],
    )


def _bytes(identity: StoredIdentity) -> bytes:
    return identity.key.get_secret_value().encode()


def _normal(address: str) -> str:
    """Return host:port, with the port that the manual names where there is none."""
    try:
        return str(parse_peer(address, default_port=PROXY_TUNNEL_PORT))
    except InvalidInput:
        return address  # dialling says what is wrong with it


def _host(address: str) -> str:
    try:
        return parse_peer(address, default_port=PROXY_TUNNEL_PORT).host if address else ""
    except InvalidInput:
        return ""
