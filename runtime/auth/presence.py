"""Who is there: members that send heartbeats, forgotten when they stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, ConfigDict

from runtime.api.member_messages import Presence, PresenceEntry
from runtime.backend.base import Backend, Item
from runtime.core.callers import MEMBERS, Caller, CallerKind
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, InvalidInput, NotFound, Unavailable
from runtime.core.keys import PRESENCE

logger = logging.getLogger(__name__)

AT_A_TIME = 100
"""Entries of a list that are made in one go, some 5 ms."""

MIN_TTL, MAX_TTL = timedelta(seconds=1), timedelta(minutes=10)


class _Stored(BaseModel):
    """A heartbeat as it is stored: what the member says of itself and the labels that its token imposed, kept apart."""

    model_config = ConfigDict(frozen=True)

    presence: Presence
    imposed: dict[str, str] = {}
    followed: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Follower:
    """A member that is online, and the serials of the authorities' states that it has followed, by type."""

    id: str
    kind: CallerKind
    name: str
    followed: Mapping[str, int]


class PresenceStore:
    """Keeps heartbeats until they expire."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock

    async def heartbeat(
        self,
        caller: Caller,
        presence: Presence,
        ttl: timedelta,
        imposed: dict[str, str],
        followed: dict[str, int] | None = None,
    ) -> None:
        """Remember the member for `ttl`. Raises AccessDenied when it speaks for another, InvalidInput for the ttl."""
        if presence.kind is not caller.kind or str(presence.id) != caller.name:
            raise AccessDenied(f"{caller} sent a heartbeat of {presence.kind} {presence.id}")
        if not MIN_TTL <= ttl <= MAX_TTL:
            raise InvalidInput(f"a heartbeat cannot hold for {ttl}", hint=f"Choose from {MIN_TTL} to {MAX_TTL}.")
        value = _Stored(presence=presence, imposed=imposed, followed=followed or {}).model_dump_json().encode()
        await self._backend.put(_key(caller.kind, caller.name), value, expires=self._clock.now() + ttl)

    async def leave(self, caller: Caller) -> None:
        """Forget the member at once: it stops on purpose."""
        with suppress(NotFound):
            await self._backend.delete(_key(caller.kind, caller.name))

    async def list(self, kind: CallerKind) -> list[PresenceEntry]:
        """Return the members of one kind, ordered by name and id; imposed labels override those reported."""
        entries = []
        async for item, stored in self._stored(kind):
            labels = {**stored.presence.labels, **stored.imposed}
            presence = stored.presence.model_copy(update={"labels": labels})
            entries.append(PresenceEntry(presence=presence, expires=item.expires or self._clock.now()))
        return sorted(entries, key=lambda entry: (entry.presence.name, str(entry.presence.id)))

    async def followers(self) -> Sequence[Follower]:
        """Return all members that are online, with what they have followed, by kind, name and id."""
        found = [
            Follower(str(stored.presence.id), kind, stored.presence.name, stored.followed)
            for kind in MEMBERS
            async for _, stored in self._stored(kind)
        ]
        return sorted(found, key=lambda each: (each.kind, each.name, each.id))

    async def _stored(self, kind: CallerKind) -> AsyncGenerator[tuple[Item, _Stored], None]:
        for number, item in enumerate((await self._backend.range(f"{PRESENCE}/{kind}/")).items, 1):
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)  # others are served meanwhile: thousands take a good part of a second
            yield item, _Stored.model_validate_json(item.value)

    async def follow(self, kind: CallerKind) -> AsyncGenerator[Sequence[PresenceEntry], None]:
        """Yield the members of one kind, now and each time that one of them comes, goes or is heard, for ever."""
        async with aclosing(self._backend.watch(f"{PRESENCE}/{kind}/")) as events:
            async for _ in events:
                try:
                    yield await self.list(kind)
                except Unavailable as error:
                    logger.warning("%s servers cannot be listed: %s", kind, error)


def _key(kind: CallerKind, name: str) -> str:
    return f"{PRESENCE}/{kind}/{name}"
