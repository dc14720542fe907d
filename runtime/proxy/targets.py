"""What the proxy connects people to: the nodes that send heartbeats, and the OpenSSH servers of its settings."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from runtime.api.member_messages import Presence, PresenceEntry
from runtime.core.callers import CallerKind
from runtime.proxy.routing import newest
from runtime.service.directory import FRESH_SECONDS
from runtime.service.sections.proxy import OpenSSHServer

_IDS = uuid.UUID("6c5f1a52-3a5e-4d6a-9d0b-2b8d4b0f7a11")
"""The namespace of the ids of configured servers: two proxies with the same settings name them alike."""
_FOR_EVER = datetime.max.replace(tzinfo=UTC)


class Members(Protocol):
    """Where the nodes are known (`runtime.service.directory`)."""

    async def members(self, *, max_age: float = ...) -> tuple[PresenceEntry, ...]:
        """Return the nodes as they were `max_age` seconds ago, or later. Raises Unavailable."""
        ...


class Targets:
    """All that can be connected to, whoever may see it."""

    def __init__(self, directory: Members, configured: Sequence[OpenSSHServer] = ()) -> None:
        self._directory = directory
        self._configured = tuple(PresenceEntry(presence=_presence(each), expires=_FOR_EVER) for each in configured)
        self._members: tuple[PresenceEntry, ...] | None = None
        self._entries: tuple[PresenceEntry, ...] = ()

    async def entries(self, *, max_age: float = FRESH_SECONDS) -> tuple[PresenceEntry, ...]:
        """Return the targets as they were `max_age` seconds ago, or later, first those that are heard of.

        Raises Unavailable while no node is known.
        """
        members = await self._directory.members(max_age=max_age)
        if members is not self._members:  # the same list serves many
            self._members, self._entries = members, newest((*members, *self._configured))
        return self._entries

    async def all(self) -> tuple[Presence, ...]:
        """Return what the targets tell of themselves. Raises Unavailable while no node is known."""
        return tuple(entry.presence for entry in await self.entries())

    def is_configured(self, node: Presence) -> bool:
        """Tell whether a target sends no heartbeats because it is none of ours."""
        return any(entry.presence.id == node.id for entry in self._configured)


def _presence(server: OpenSSHServer) -> Presence:
    name = f"{server.name}/{server.addr}"
    return Presence(
        id=uuid.uuid5(_IDS, name),
        kind=CallerKind.NODE,
        name=server.name,
        addr=str(server.addr),
        labels=dict(server.labels),
    )
