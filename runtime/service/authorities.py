"""How a member follows its cluster's authorities: whom it believes at once, its own certificates a little later.

While a rotation goes on, auth tells which keys are to be believed, and which of them has to have signed a member's
certificates. New keys hold for what comes from then on; what is open stays open. Certificates are renewed after a
random part of the time that auth names, so that thousands do not come at once. When both hold, it is reported: auth
takes the next step of a rotation only once all have.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from contextlib import aclosing
from typing import Protocol

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.messages import Nothing
from runtime.api.rotation_messages import AuthorityStates
from runtime.core.errors import CorruptState, InvalidInput, NotFound, TeleportError, Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.service.identity import StoredIdentity

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 5.0
"""Between two attempts to follow, or to renew; each is a random part of a bound that doubles up to this."""
UNKNOWN_SECONDS = 300.0
"""Before an auth server is asked again that knows no such method: it is of an older release, and may be replaced."""


class Renewing(Protocol):
    """The member that follows, as far as this module needs it (`runtime.service.member.Member`)."""

    @property
    def identity(self) -> StoredIdentity:
        """What it is now."""
        ...

    @property
    def auth(self) -> AuthClient:
        """Its way to auth."""
        ...

    def believe(self, authorities: tuple[AuthorityKeys, ...]) -> None:
        """Believe these from now on, and no others. Raises InvalidInput."""
        ...

    async def renew(self) -> None:
        """Get new certificates, and serve with them. Raises TeleportError."""
        ...

    def report(self, followed: Mapping[str, int]) -> None:
        """Tell auth at once, and from now on, how far it has followed."""
        ...


class AuthorityFollower:
    """Follows for one member."""

    def __init__(self, member: Renewing, *, rng: random.Random | None = None) -> None:
        self._member = member
        self._rng = rng or random.Random()  # noqa: S311 - spreads renewals, guards nothing
        self._told: AuthorityStates
        self._behind = asyncio.Event()
        """Set while there is something to follow, of which `_told` tells."""

    async def run(self) -> None:
        """Follow, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._keep_up())

    async def _listen(self) -> None:
        """Take what auth tells, and begin anew when it is lost."""
        pause = 0.0
        while True:
            try:
                pieces = self._member.auth.pieces(methods.AUTHORITIES_WATCH, Nothing(), AuthorityStates)
                async with aclosing(pieces) as told:
                    async for each in told:
                        pause = 0.0
                        self._take(each)
            except NotFound as error:
                logger.info("the cluster's authorities cannot be followed: %s", error)
                await asyncio.sleep(self._rng.uniform(UNKNOWN_SECONDS / 2, UNKNOWN_SECONDS))
            except Unavailable as error:
                logger.info("watching the cluster's authorities: %s", error)
            except TeleportError as error:
                logger.warning("the cluster's authorities cannot be followed: %s", error)
            pause = min(MAX_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, 2 * pause))
            await asyncio.sleep(self._rng.uniform(0, pause))

    def _take(self, told: AuthorityStates) -> None:
        """Believe whom auth names. What cannot be is not taken, and the log says so."""
        try:
            check_states(told, self._member.identity.cluster)
            self._member.believe(tuple(authority.as_keys for authority in told.authorities))
        except (InvalidInput, CorruptState) as error:
            logger.error("what auth tells of its authorities is not taken: %s", error)  # noqa: TRY400 - no bug of ours
            return
        self._told = told
        self._behind.set()

    async def _keep_up(self) -> None:
        """Be certified as auth has it, and report that."""
        pause = 0.0
        while True:
            await self._behind.wait()
            await asyncio.sleep(self._rng.uniform(0, max(self._told.spread, pause)))
            try:
                if not self._is_certified():
                    await self._member.renew()
            except TeleportError as error:
                logger.warning("%s: not renewed yet: %s", self._member.identity.login, error.in_full)
            if self._is_certified():
                self._behind.clear()
                pause = 0.0
                self._member.report(self._told.serials)
            else:  # auth failed, or another of its servers is a step behind, or it has told of the next step meanwhile
                pause = min(MAX_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, 2 * pause))

    def _is_certified(self) -> bool:
        """Tell whether our certificates are signed by the keys that are due, as last told."""
        return self._member.identity.is_signed_by(host=self._told.host_signer, member=self._told.member_signer)


def check_states(told: AuthorityStates, cluster: str) -> None:
    """Raise InvalidInput unless they tell of both authorities of this cluster, each with a key to believe."""
    types = [authority.type for authority in told.authorities]
    if sorted(types) != sorted(AuthorityType):
        raise InvalidInput(f"it tells of {', '.join(types) or 'none'}, not of one user and one host authority")
    for authority in told.authorities:
        if authority.cluster != cluster:
            raise InvalidInput(f"it tells of cluster {authority.cluster[:128]!a}; this is a member of {cluster}")
        if not authority.keys:
            raise InvalidInput(f"it tells no key of the {authority.type} authority")
