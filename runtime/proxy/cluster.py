"""What the proxy knows of its cluster: whom to believe, who people are now, which nodes there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.member_messages import Presence
from runtime.api.people_messages import SignedRequest
from runtime.audit.log import Audit
from runtime.core.errors import NotFound
from runtime.core.resources import Role, User
from runtime.pki.identity import UserIdentity
from runtime.pki.trust import Trust
from runtime.proxy.routing import Wish
from runtime.transport.capture import Proved
from runtime.transport.gateway import GatewayChannel
from runtime.tunnel.protocol import Connect, Nodes


class People(Protocol):
    """Users and roles as they are now (`runtime.service.following`)."""

    def user(self, name: str) -> User:
        """Return a user. Raises AccessDenied for one that does not exist, or no longer."""
        ...

    @property
    def roles(self) -> Mapping[str, Role]:
        """All declared roles, by name."""
        ...


Carried = Mapping[str, str]
"""Who is carried, as the audit log has it."""


class Others(Protocol):
    """The clusters behind this one, its leaves (`runtime.proxy.crossing`)."""

    def names(self) -> Sequence[str]:
        """Return their names, in order, online or not."""
        ...

    def is_online(self, cluster: str) -> bool:
        """Tell whether there is a way to a cluster from this proxy."""
        ...

    def last_connected(self, cluster: str) -> datetime | None:
        """Return when a cluster was last heard; None if not known."""
        ...

    def authorities(self) -> Sequence[AuthorityKeys]:
        """Return their host authorities, by which their servers are known."""
        ...

    async def nodes(self, cluster: str, signed: SignedRequest, address: str) -> bytes:
        """Return, as a JSON array, the nodes that it shows who has signed for it from that address.

        Raises NotFound, Unavailable, and what the cluster refuses with.
        """
        ...

    async def carry(self, cluster: str, wish: Wish, proved: Proved[UserIdentity], channel: GatewayChannel) -> int:
        """Carry somebody to a node of a cluster, and return the exit status. Raises NotFound, Unavailable."""
        ...

    async def nodes_here(self, cluster: str, request: Nodes) -> bytes:
        """Return what `nodes` does for another proxy of ours, by tunnels of this one alone. Raises as that does."""
        ...

    async def carry_here(self, cluster: str, request: Connect, carried: Carried, channel: GatewayChannel) -> int:
        """Carry whom another proxy of ours brings, by tunnels of this one alone. Raises NotFound, Unavailable."""
        ...


class Alone:
    """No clusters behind this one."""

    def names(self) -> Sequence[str]:
        """Return none."""
        return ()

    def is_online(self, cluster: str) -> bool:
        """Say no."""
        return False

    def last_connected(self, cluster: str) -> datetime | None:
        """Return that it is not known."""
        return None

    def authorities(self) -> Sequence[AuthorityKeys]:
        """Return none."""
        return ()

    async def nodes(self, cluster: str, signed: SignedRequest, address: str) -> bytes:
        """Raise NotFound."""
        raise NotFound(f"there is no cluster {cluster[:80]!a} behind this proxy")

    async def carry(self, cluster: str, wish: Wish, proved: Proved[UserIdentity], channel: GatewayChannel) -> int:
        """Raise NotFound."""
        raise NotFound(f"there is no cluster {cluster[:80]!a} behind this proxy")

    async def nodes_here(self, cluster: str, request: Nodes) -> bytes:
        """Raise NotFound."""
        raise NotFound(f"there is no cluster {cluster[:80]!a} behind this proxy")

    async def carry_here(self, cluster: str, request: Connect, carried: Carried, channel: GatewayChannel) -> int:
        """Raise NotFound."""
        raise NotFound(f"there is no cluster {cluster[:80]!a} behind this proxy")


@dataclass(frozen=True, slots=True)
class ClusterView:
    """The cluster `name` as this proxy sees it. What can change is asked for each time."""

    name: str
    trust: Callable[[], Trust]
    """The authorities that are believed, as the proxy's own identity has them."""
    people: People
    nodes: Callable[[], Awaitable[tuple[Presence, ...]]]
    """All nodes, whoever may see them. Raises Unavailable while none are known."""
    audit: Audit
    others: Others = field(default_factory=Alone)
    authorities: Callable[[], Sequence[AuthorityKeys]] = tuple
    """The keys of `trust`, as others are told of them."""
    known: Callable[[], Trust] | None = None
    """Those that are believed, and those that were once: who has a certificate of theirs may know why it is refused."""
