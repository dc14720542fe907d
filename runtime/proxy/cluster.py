"""What the proxy knows of its cluster: whom to believe, who people are now, which nodes there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from runtime.api.messages import Presence
from runtime.audit.log import Audit
from runtime.core.resources import Role, User
from runtime.pki.trust import Trust


class People(Protocol):
    """Users and roles as they are now (`runtime.service.following`)."""

    def user(self, name: str) -> User:
        """Return a user. Raises AccessDenied for one that does not exist, or no longer."""
        ...

    @property
    def roles(self) -> Mapping[str, Role]:
        """All declared roles, by name."""
        ...


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
