"""From this cluster into a leaf: who asks at our ports is carried through a tunnel, with what proves who it is.

What the leaf says comes from another cluster, and goes on to a person's terminal: as lines of printable characters, and
as nodes of known fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from pydantic import TypeAdapter, ValidationError

from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.member_messages import Presence
from runtime.api.people_messages import SignedRequest
from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.core.errors import NotFound, TeleportError, Unavailable
from runtime.pki.identity import UserIdentity
from runtime.proxy.cluster import Carried
from runtime.proxy.routing import Wish
from runtime.proxy.siblings import Sibling, Siblings
from runtime.proxy.words import ENDED, OK, who
from runtime.service.logs import one_line
from runtime.service.trusting import Trusting
from runtime.service.values import Address
from runtime.transport.capture import Proved
from runtime.transport.gateway import GatewayChannel
from runtime.transport.splice import FarChannel
from runtime.tunnel.protocol import Connect, Nodes, Visitor
from runtime.tunnel.registry import Registry

MAX_LINES = 16
"""Of what a leaf says."""

_NODES = TypeAdapter(tuple[Presence, ...])
_FIELDS = {"__all__": {"id", "name", "addr", "labels", "version", "kind"}}


class Crossing:
    """The leaves of this cluster, as `runtime.proxy.cluster.Others`."""

    def __init__(
        self,
        registry: Registry,
        trusting: Trusting,
        audit: Audit,
        *,
        seen: Callable[[str], datetime | None] = lambda _: None,
        siblings: Siblings | None = None,
    ) -> None:
        """`seen` tells when another proxy of ours last heard a cluster; `siblings` are those proxies."""
        self._siblings = siblings
        self._registry = registry
        self._trusting = trusting
        self._audit = audit
        self._seen = seen

    def names(self) -> Sequence[str]:
        """Return the names of the leaves, in order, online or not."""
        return sorted(name for name, peer in self._trusting.peers.items() if not peer.is_root)

    def is_online(self, cluster: str) -> bool:
        """Tell whether there is a way to a cluster, by this proxy or another one of ours."""
        return self._registry.is_online(cluster) or self._way_round(cluster) is not None

    def last_connected(self, cluster: str) -> datetime | None:
        """Return when a cluster was last heard by any of our proxies; None if not known."""
        here, elsewhere = self._registry.last_connected(cluster), self._seen(cluster)
        return max((time for time in (here, elsewhere) if time is not None), default=None)

    def authorities(self) -> Sequence[AuthorityKeys]:
        """Return the host authorities of the leaves, in the order of their names."""
        peers = self._trusting.peers
        return [AuthorityKeys(cluster=name, type="host", keys=peers[name].host_keys) for name in self.names()]

    async def nodes(self, cluster: str, signed: SignedRequest, address: str) -> bytes:
        """Return, as a JSON array, the nodes that a leaf shows who has signed for it.

        Raises NotFound, Unavailable, and what the leaf refuses with.
        """
        self._check(cluster)
        request = Nodes(
            method=signed.method,
            target=signed.target,
            certificate=signed.certificate,
            signature=signed.signature,
            time=signed.time,
            address=address,
        )
        way = self._way_round(cluster) or self._registry
        try:
            answer = await way.ask(cluster, request)
        except TeleportError as error:
            raise type(error)(f"cluster {cluster}: {error}", hint=error.hint) from error
        try:
            return _NODES.dump_json(_NODES.validate_json(answer), include=_FIELDS)
        except ValidationError:
            raise Unavailable(
                f"cluster {cluster} answers something that is no list of nodes",
                hint="Run releases of teleport on both sides that are not far apart.",
            ) from None

    async def carry(self, cluster: str, wish: Wish, proved: Proved[UserIdentity], channel: GatewayChannel) -> int:
        """Carry somebody to a node of a leaf, and return the exit status. Raises NotFound, Unavailable."""
        self._check(cluster)
        request = Connect(
            host=wish.host,
            port=wish.port,
            visitor=Visitor(
                certificate=proved.certificate.decode(),
                login=proved.login,
                address=str(Address(*proved.peer)),
            ),
        )
        if (siblings := self._way_round(cluster)) is not None:
            return await self._carry_round(siblings, cluster, request, who(proved), channel)
        return await self.carry_here(cluster, request, who(proved), channel)

    async def nodes_here(self, cluster: str, request: Nodes) -> bytes:
        """Return what a leaf answers on a tunnel of this proxy, as it is. Raises as `nodes` does."""
        self._check(cluster)
        return await self._registry.ask(cluster, request)

    async def carry_here(self, cluster: str, request: Connect, carried: Carried, channel: GatewayChannel) -> int:
        """Carry somebody by a tunnel of this proxy, and return the exit status. Raises NotFound, Unavailable."""
        self._check(cluster)
        fields = {"cluster": cluster, "node": request.host[:256], **carried}
        tunnel, far = await self._registry.open(
            cluster, request, partial(channel.far_channel, partial(self._audit.emit, EventType.PROXY_CONNECT, **fields))
        )
        try:
            await channel.join(far)
        finally:
            self._registry.left(tunnel)
        return self._ended(cluster, far, channel, fields)

    async def _carry_round(
        self, siblings: Siblings, cluster: str, request: Connect, carried: Carried, channel: GatewayChannel
    ) -> int:
        """Carry somebody by a tunnel of another proxy of ours, which `through` names in the audit log."""
        fields = {"cluster": cluster, "node": request.host[:256], **carried}

        def far_channel(sibling: Sibling) -> FarChannel:
            fields["through"] = sibling.id
            return channel.far_channel(partial(self._audit.emit, EventType.PROXY_CONNECT, **fields))

        connection, far = await siblings.open(cluster, request, far_channel)
        try:
            await channel.join(far)
        finally:
            connection.close()
        return self._ended(cluster, far, channel, fields)

    def _way_round(self, cluster: str) -> Siblings | None:
        """Return our other proxies where one of them has a tunnel to a cluster, and this one has none."""
        if self._siblings is None or self._registry.is_online(cluster) or not self._siblings.has_way(cluster):
            return None
        return self._siblings

    def _ended(self, cluster: str, far: FarChannel, channel: GatewayChannel, fields: dict[str, str]) -> int:
        """Say what the leaf said beside the node's own bytes, and return how it ended."""
        lines = [one_line(line.removeprefix("teleport: ")) for line in far.said.splitlines() if line.strip()]
        if far.status is None:
            why = f": {one_line(str(far.error))}" if far.error is not None else ""
            lines.append(f"the tunnel to cluster {cluster} broke{why}")
        for line in lines[:MAX_LINES]:
            channel.write_error(f"teleport: {line}")
        if not far.received:
            # The leaf did not let this person in, or the node did not answer.
            self._audit.emit(EventType.PROXY_REJECTED, error="; ".join(lines)[:1024], **fields)
        return OK if far.status == OK else ENDED

    def _check(self, cluster: str) -> None:
        peer = self._trusting.peer(cluster)
        if peer is None or peer.is_root:
            raise NotFound(
                f"there is no cluster {cluster[:80]!a} behind this proxy", hint="Those that are show: tsh clusters"
            )
