"""What the proxy knows of its cluster: whom to believe, who people are now, which nodes there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from runtime.api.messages import Presence, SignedRequest
from runtime.audit.log import Audit
from runtime.core.errors import NotFound
from runtime.core.resources import Role, User
from runtime.pki.identity import UserIdentity
from runtime.pki.trust import Trust
from runtime.proxy.routing import Wish
from runtime.transport.capture import Proved
from runtime.transport.gateway import GatewayChannel


class People(Protocol):
    """Users and roles as they are now (`runtime.service.following`)."""

    def user(self, name: str) -> User:
        """Return a user. Raises AccessDenied for one that does not exist, or no longer."""
        ...

    @property
    def roles(self) -> Mapping[str, Role]:
        """All declared roles, by name."""
        ...


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

    async def nodes(self, cluster: str, signed: SignedRequest, address: str) -> bytes:
        """Return, as a JSON array, the nodes that it shows who has signed for it from that address.

        Raises NotFound, Unavailable, and what the cluster refuses with.
        """
        ...

    async def carry(self, cluster: str, wish: Wish, proved: Proved[UserIdentity], channel: GatewayChannel) -> int:
        """Carry somebody to a node of a cluster, and return the exit status. Raises NotFound, Unavailable."""
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

    async def nodes(self, cluster: str, signed: SignedRequest, address: str) -> bytes:
        """Raise NotFound."""
        raise NotFound(f"there is no cluster {cluster[:80]!a} behind this proxy")

    async def carry(self, cluster: str, wish: Wish, proved: Proved[UserIdentity], channel: GatewayChannel) -> int:
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
