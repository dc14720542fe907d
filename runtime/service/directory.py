"""The nodes there are, as auth lists them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.member_messages import Presence, PresenceEntry, PresenceQuery
from runtime.core.callers import CallerKind
from runtime.core.errors import TeleportError

logger = logging.getLogger(__name__)

FRESH_SECONDS = 2.0
"""A list that is older is asked for anew before somebody is told of it."""
MIN_AGE_SECONDS = 0.25
"""A list as young as that is not asked for anew, whoever asks: that a name is not in it costs no more than this."""
PATIENCE_SECONDS = 1.0
"""How long one who asks waits for that, where there is an older list."""
UNASKED_SECONDS = 15.0
"""How often the list is asked for when nobody needs it, so that there is one when auth goes away."""


class Directory:
    """Members of one kind. While auth is away the last list goes on: who is in it may still be there."""

    def __init__(self, auth: AuthClient, kind: CallerKind = CallerKind.NODE) -> None:
        self._auth = auth
        self._kind = kind
        self._members: tuple[PresenceEntry, ...] | None = None
        self._asked = 0.0
        self._asking: asyncio.Task[None] | None = None

    async def members(self, *, max_age: float = FRESH_SECONDS) -> tuple[PresenceEntry, ...]:
        """Return the members, ordered by name and id, as they were `max_age` seconds ago, or later.

        Raises Unavailable while nothing is known yet.
        """
        if self._members is None or _now() - self._asked > max(max_age, MIN_AGE_SECONDS):
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask())
            # Not awaited itself: whoever gives up waiting leaves it to the others.
            await asyncio.wait([self._asking], timeout=None if self._members is None else PATIENCE_SECONDS)
            if self._asking.done() and self._members is None:
                self._asking.result()
        return self._members or ()

    async def nodes(self) -> tuple[Presence, ...]:
        """Return what the members tell of themselves. Raises Unavailable while nothing is known yet."""
        return tuple(entry.presence for entry in await self.members())

    async def run(self, *, heard: Callable[[], None] = lambda: None) -> None:
        """Keep the list, until cancelled; `heard` is called after each time."""
        while True:
            try:
                await self.members()
            except TeleportError as error:
                logger.info("no list of members of kind %s: %s", self._kind, error)
            else:
                heard()
            await asyncio.sleep(UNASKED_SECONDS)

    async def _ask(self) -> None:
        try:
            found = await self._auth.call(methods.PRESENCE, PresenceQuery(kind=self._kind))
        except TeleportError:
            if self._members is None:
                raise
        else:
            self._members = found.members
            self._asked = _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
