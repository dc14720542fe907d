"""The root's end: port 3024, to which leaves' proxies come, and which of them are connected at the moment."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, AlreadyExists, TeleportError, Unavailable
from runtime.pki.certificate import read_certificate
from runtime.pki.claims import MemberRole, service_principal
from runtime.pki.trust import Trust
from runtime.pki.verify import verify_host
from runtime.pki.wire import fingerprint
from runtime.transport.guards import Peer
from runtime.transport.limits import Limits
from runtime.transport.requests import ask, open_far
from runtime.transport.reverse import ReverseConnection, ReverseListener, listen_reverse
from runtime.transport.splice import FarChannel
from runtime.tunnel import protocol
from runtime.tunnel.limits import MAX_TUNNELS_PER_CLUSTER, PENALTIES, STARTUPS, TRANSPORT_LIMITS
from runtime.tunnel.status import TunnelStatus

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
"""How long a leaf may take to answer."""
OPEN_SECONDS = 10.0
"""How long a leaf may take to open a channel; the node has its own time after that."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """Who dialled: a proxy, `host_id`, of a leaf cluster, and the key that vouches for it."""

    cluster: str
    host_id: str
    authority: bytes
    expires: datetime = field(compare=False)
    """When the certificate is over that it has shown."""

    def __str__(self) -> str:
        return f"{self.cluster}/{self.host_id}"


@dataclass(frozen=True, slots=True)
class Event:
    """A tunnel came, went, with the `reason` where we ended it, or was refused with `error`."""

    cluster: str
    peer: str
    addr: Peer
    up: bool
    error: str = ""
    reason: str = ""


class Tunnel:
    """One tunnel that is open."""

    def __init__(self, connection: ReverseConnection, leaf: Leaf, clock: Clock) -> None:
        self.connection = connection
        self.leaf = leaf
        self.end = protocol.RootEnd(leaf=leaf.cluster, proxy=leaf.host_id)
        self.since = clock.now()
        self.draining = False
        """Whether another one has taken its place: no new channels."""
        self.reason = ""
        """Why we end it."""
        self.channels = 0
        """Those that are open for somebody."""
        self.told: protocol.Hello | None = None
        """What it was last told of us."""
        self._clock = clock

    @property
    def last_heartbeat(self) -> datetime:
        """When something was last heard from it."""
        return max(self.since, self._clock.now() - timedelta(seconds=self.connection.silence()))

    def close(self, reason: str) -> None:
        """End it."""
        self.reason = self.reason or reason
        logger.info("tunnel of %s from %s port %d: %s", self.leaf, *self.connection.peer, reason)
        self.connection.close()


class Registry:
    """The tunnels of one proxy of the root. What can change is asked for each time."""

    def __init__(
        self,
        *,
        cluster: str,
        proxy: str,
        trust: Callable[[], Trust],
        proxies: Callable[[], Sequence[protocol.Place]],
        told: Callable[[Event], None],
        clock: Clock,
        limits: Limits = TRANSPORT_LIMITS,
        successions: Callable[[], tuple[str, ...]] = tuple,
        heard: Callable[[str, tuple[str, ...]], None] = lambda cluster, successions: None,
    ) -> None:
        """`trust` has the host authorities of the leaves, and nobody else's; `proxies` are where ours take tunnels.

        `told` is called when a tunnel comes, goes or is refused. `successions` is what leaves are to be told of our
        authorities, and `heard` is called with what a leaf tells of its own.
        """
        self._cluster = cluster
        self._proxy = proxy
        self._trust = trust
        self._proxies = proxies
        self._told = told
        self._clock = clock
        self._limits = limits
        self._successions = successions
        self._heard = heard
        self._signer = ""
        """Fingerprint of the authority that has signed what we log in with."""
        self._believed = trust()
        """As at the last look."""
        self._tunnels: dict[ReverseConnection, Tunnel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: ReverseListener[Leaf] | None = None
        self.refused = 0
        """How many were refused at the port."""
        self._last: dict[str, datetime] = {}
        """When a tunnel of each cluster was last there."""

    async def start(
        self, *, address: str, port: int, login: str, key: bytes, certificate: bytes, max_connections: int
    ) -> Peer:
        """Listen, and return the address that was bound. Raises Unavailable, InvalidInput."""
        self._signer = _signer(certificate)
        limits = replace(
            self._limits,
            max_connections=max_connections,
            max_users=max_connections,
            penalties=PENALTIES,
            startups=STARTUPS,
        )
        self._listener = await listen_reverse(
            self._verify,
            on_login=self._came,
            on_left=self._left,
            address=address,
            port=port,
            name=service_principal(MemberRole.PROXY),
            login=login,
            key=key,
            certificate=certificate,
            limits=limits,
            on_refused=self._refused,
            clock=self._clock,
        )
        return self._listener.address

    async def renew(self, *, login: str, key: bytes, certificate: bytes) -> None:
        """Prove ourselves with that at tunnels from now on; leaves renew theirs when another authority has signed."""
        if self._listener is not None:
            await self._listener.prove_with(login=login, key=key, certificate=certificate)
            self._signer = _signer(certificate)
            self.refresh()

    def close(self) -> None:
        """Take no more tunnels; those that are open go on."""
        if self._listener is not None:
            self._listener.close()

    async def stop(self) -> None:
        """End all tunnels."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener.end()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            async with asyncio.timeout(1):
                await self._listener.wait_closed()
        except TimeoutError:
            self._listener.abort()
            await self._listener.wait_closed()

    def refresh(self) -> None:
        """Look again at whether each tunnel's authority is trusted, and tell leaves where our proxies are now.

        Who has rotated its authority keeps what was carried on a tunnel that the old one proved, and has no more of it;
        where nothing leads from the old keys to the new ones, it ends at once.
        """
        before, now = self._believed, self._trust()
        self._believed = now
        hello = self._hello()
        for tunnel in list(self._tunnels.values()):
            cluster = tunnel.leaf.cluster
            if self._stands(tunnel.leaf):
                if tunnel.end.greeted and tunnel.told != hello:
                    self._start(self._greet(tunnel))
            elif before.keys_of(cluster).isdisjoint(now.keys_of(cluster)):
                tunnel.close("its cluster is not trusted any more")
            else:
                self._drain(tunnel, "its cluster has another authority now")

    def end_expired(self) -> None:
        """End tunnels whose leaf has shown a certificate that is over; a new one has come beside it before."""
        now = self._clock.now()
        for tunnel in list(self._tunnels.values()):
            if now >= tunnel.leaf.expires:
                tunnel.close("the leaf's certificate has expired")

    # --- for those who want to go somewhere -----------------------------------------------------------------------

    def tunnels(self, cluster: str) -> list[Tunnel]:
        """Return the tunnels of a cluster that may be used, the one with fewest channels first, then the newest."""
        found = [
            tunnel
            for tunnel in self._tunnels.values()
            if tunnel.leaf.cluster == cluster and tunnel.end.greeted and not tunnel.draining
        ]
        found.sort(key=lambda tunnel: tunnel.since, reverse=True)
        return sorted(found, key=lambda tunnel: tunnel.channels)

    def is_online(self, cluster: str) -> bool:
        """Tell whether there is a way to a cluster from here."""
        return bool(self.tunnels(cluster))

    def last_connected(self, cluster: str) -> datetime | None:
        """Return when a cluster was last heard here; None if never since this process began."""
        return max((each.last_heartbeat for each in self.tunnels(cluster)), default=self._last.get(cluster))

    async def ask(self, cluster: str, request: protocol.Nodes) -> bytes:
        """Return the result of a request, as JSON. Raises Unavailable, InvalidInput, and what the leaf refused with."""
        asked = protocol.write_request(request)
        failure: TeleportError = self._offline(cluster)
        for tunnel in self.tunnels(cluster):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    answer = await ask(tunnel.connection, asked, most=protocol.MAX_ANSWER)
            except TimeoutError:
                failure = Unavailable(f"cluster {cluster} does not answer within {ANSWER_SECONDS:g} s")
            except Unavailable as error:
                failure = error
            else:
                return protocol.read_result(answer)
        raise failure

    async def open(
        self, cluster: str, request: protocol.Connect, far_channel: Callable[[], FarChannel]
    ) -> tuple[Tunnel, FarChannel]:
        """Open a channel to a node of a cluster; `left` is to be called when it has ended. Raises Unavailable."""
        asked = protocol.write_request(request)
        failure: TeleportError = self._offline(cluster)
        for tunnel in self.tunnels(cluster):
            tunnel.channels += 1
            far = far_channel()
            try:
                async with asyncio.timeout(OPEN_SECONDS):
                    await open_far(tunnel.connection, asked, far)
            except TimeoutError:
                failure = Unavailable(f"cluster {cluster} does not answer within {OPEN_SECONDS:g} s")
            except Unavailable as error:
                failure = error
            except BaseException:
                self.left(tunnel)
                raise
            else:
                return tunnel, far
            self.left(tunnel)
        raise failure

    def left(self, tunnel: Tunnel) -> None:
        """Count a channel no longer."""
        tunnel.channels -= 1
        if tunnel.draining and not tunnel.channels:
            tunnel.close("another one has taken its place")

    def carried(self) -> Counter[str]:
        """Return how many people are on the tunnels of each cluster."""
        counts: Counter[str] = Counter()
        for tunnel in self._tunnels.values():
            if tunnel.end.greeted:
                counts[tunnel.leaf.cluster] += tunnel.channels
        return counts

    def status(self) -> Iterable[TunnelStatus]:
        """Tell of each tunnel."""
        for tunnel in self._tunnels.values():
            if tunnel.end.greeted:
                yield TunnelStatus(
                    cluster=tunnel.leaf.cluster,
                    online=True,
                    peer=tunnel.leaf.host_id,
                    addr=_text(tunnel.connection.peer),
                    since=tunnel.since,
                    last_heartbeat=tunnel.last_heartbeat,
                )

    # --- who comes and goes ---------------------------------------------------------------------------------------

    def _verify(self, line: bytes) -> Leaf:
        """Return who dialled: the cluster is what the authority says that has signed, whatever else is claimed."""
        name = service_principal(MemberRole.PROXY)
        trust, now = self._trust(), self._clock.now()
        authority = trust.find(read_certificate(line).signature.ca_key)
        if authority is None:
            raise AccessDenied(
                "the host certificate is of no cluster that may open a tunnel here",
                hint="Is its authority among the trusted clusters? Compare the fingerprints: tctl auth ls",
            )
        if authority.cluster == self._cluster:
            raise AccessDenied(f"a proxy of our own cluster {self._cluster} needs no tunnel to it")
        host = verify_host(line, name, trust, now, cluster=authority.cluster)
        return Leaf(authority.cluster, host.host_id, authority.key.blob, host.proof.valid_before)

    def _stands(self, leaf: Leaf) -> bool:
        authority = self._trust().find(leaf.authority)
        return authority is not None and authority.cluster == leaf.cluster

    def _came(self, connection: ReverseConnection, leaf: Leaf) -> None:
        """Introduce ourselves to a leaf's proxy that has logged us in. Raises AccessDenied for one too many."""
        if sum(each.leaf.cluster == leaf.cluster for each in self._tunnels.values()) >= MAX_TUNNELS_PER_CLUSTER:
            raise AccessDenied(f"cluster {leaf.cluster} has {MAX_TUNNELS_PER_CLUSTER} tunnels open to this proxy")
        tunnel = self._tunnels[connection] = Tunnel(connection, leaf, self._clock)
        self._start(self._greet(tunnel))

    async def _greet(self, tunnel: Tunnel) -> None:
        """Say who we are and where our proxies are; only then is the tunnel used."""
        hello = tunnel.told = self._hello()
        first = not tunnel.end.greeted
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await ask(tunnel.connection, protocol.write_request(hello), most=protocol.MAX_REQUEST)
            welcome = tunnel.end.greeted_with(answer)
        except TimeoutError:
            self._dismiss(tunnel, f"no answer within {ANSWER_SECONDS:g} s")
            return
        except AlreadyExists as error:
            # An address of ours that leads to several proxies led to this one twice: the leaf tries again.
            tunnel.close(str(error))
            return
        except TeleportError as error:
            self._dismiss(tunnel, str(error))
            return
        if welcome.successions:
            self._heard(tunnel.leaf.cluster, welcome.successions)
        if first and tunnel.connection in self._tunnels:
            logger.info("tunnel of %s (%s) from %s port %d is up", tunnel.leaf, welcome.name, *tunnel.connection.peer)
            for other in list(self._tunnels.values()):
                if other is not tunnel and str(other.leaf) == str(tunnel.leaf):
                    self._drain(other, "another one has taken its place")
            self._told(Event(tunnel.leaf.cluster, tunnel.leaf.host_id, tunnel.connection.peer, up=True))

    def _hello(self) -> protocol.Hello:
        return protocol.fitting(
            protocol.Hello(
                version=protocol.VERSION,
                cluster=self._cluster,
                proxy=self._proxy,
                proxies=tuple(self._proxies())[: protocol.MAX_PROXIES],
                signer=self._signer,
                successions=self._successions(),
            )
        )

    @staticmethod
    def _drain(tunnel: Tunnel, reason: str) -> None:
        """Let a tunnel go once nobody is on it."""
        tunnel.draining = True
        if not tunnel.channels:
            tunnel.close(reason)

    def _dismiss(self, tunnel: Tunnel, reason: str) -> None:
        if tunnel.connection in self._tunnels:
            if not tunnel.end.greeted:
                self._told(
                    Event(tunnel.leaf.cluster, tunnel.leaf.host_id, tunnel.connection.peer, up=False, error=reason)
                )
            tunnel.close(reason)

    def _left(self, connection: ReverseConnection) -> None:
        tunnel = self._tunnels.pop(connection, None)
        if tunnel is None or not tunnel.end.greeted:
            return
        self._last[tunnel.leaf.cluster] = tunnel.last_heartbeat
        if not tunnel.draining:
            logger.info("tunnel of %s from %s port %d is gone", tunnel.leaf, *connection.peer)
            self._told(Event(tunnel.leaf.cluster, tunnel.leaf.host_id, connection.peer, up=False, reason=tunnel.reason))

    def _refused(self, peer: Peer, reason: str) -> None:
        self.refused += 1
        self._told(Event("", "", peer, up=False, error=reason))

    def _offline(self, cluster: str) -> Unavailable:
        last = self.last_connected(cluster)
        when = f"; it was last here at {last:%Y-%m-%d %H:%M:%S} UTC" if last is not None else ""
        return Unavailable(
            f"cluster {cluster} is offline: none of its proxies has a tunnel to this one{when}",
            hint="Its proxies dial by themselves: look at their logs, and at whether this proxy's tunnel port (3024)"
            " can be reached from there.",
        )

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _text(peer: Peer) -> str:
    return f"[{peer.host}]:{peer.port}" if ":" in peer.host else f"{peer.host}:{peer.port}"


def _signer(certificate: bytes) -> str:
    return fingerprint(read_certificate(certificate).signature.ca_key)
