"""The one way from what somebody asks for to a connection with a node: for people at our port, and for visitors."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from runtime.api.member_messages import Presence, PresenceEntry
from runtime.core.access import sight
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, NotFound, Unavailable
from runtime.core.resources import Role, User
from runtime.core.session_access import may_enter
from runtime.proxy.dialling import Dialler
from runtime.proxy.routing import Route, Wish, route
from runtime.proxy.targets import Targets
from runtime.service.logs import one_line
from runtime.service.member import PRESENCE_TTL

Visible = Callable[[Presence], bool]
"""Tells whether there is such a node for somebody."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A node and the connection to it; `label` is what a message calls it."""

    route: Route
    sock: socket.socket

    @property
    def label(self) -> str:
        """The node's name and address, in one line whatever it says of itself."""
        return _label(self.route)


class Connector:
    """Finds and dials nodes of our cluster."""

    def __init__(self, targets: Targets, dialler: Dialler, cluster: str, clock: Clock) -> None:
        self._targets = targets
        self.dialler = dialler
        self._cluster = cluster
        self._clock = clock

    async def connect(self, wish: Wish, visible: Callable[[], Visible]) -> Reached:
        """Connect to the one node that is meant, among those that are visible at the moment.

        Raises NotFound, InvalidInput where several are meant, AccessDenied for an address that nobody is connected to,
        and Unavailable.
        """
        found, entry = await self._find(wish, visible)
        try:
            return Reached(found, await self.dialler.dial(found.address))
        except (AccessDenied, Unavailable) as error:
            raise type(error)(
                f"{_label(found)} cannot be reached: {error}{self._heard(entry)}", hint=error.hint
            ) from error

    async def _find(self, wish: Wish, visible: Callable[[], Visible]) -> tuple[Route, PresenceEntry]:
        try:
            return self._among(await self._targets.entries(), wish, visible())
        except NotFound:
            # It may have joined a moment ago.
            return self._among(await self._targets.entries(max_age=0), wish, visible())

    def _among(self, entries: Sequence[PresenceEntry], wish: Wish, visible: Visible) -> tuple[Route, PresenceEntry]:
        found = route(wish, [entry.presence for entry in entries], self._cluster, visible=visible)
        return found, next(entry for entry in entries if entry.presence is found.node)

    def _heard(self, entry: PresenceEntry) -> str:
        """Say when a node was last heard of; nothing of one that sends no heartbeats."""
        if self._targets.is_configured(entry.presence):
            return ""
        ago = (self._clock.now() - (entry.expires - PRESENCE_TTL)).total_seconds()
        return f"; it was last heard of {max(0, ago):.0f} s ago"


def visible_to(user: User, roles: Mapping[str, Role], wish: Wish, *, joins: bool) -> Visible:
    """Return what tells which nodes there are for somebody.

    Who comes to join a session (`joins`) reaches its node also without a login there: by its id, which came with the
    session.
    """
    sees = sight(user, roles)

    def visible(node: Presence) -> bool:
        if sees(node.labels):
            return True
        return joins and wish.host.lower() == str(node.id) and may_enter(user, roles, node.labels)

    return visible


def _label(found: Route) -> str:
    return one_line(f"node {found.node.name} ({found.address})")
