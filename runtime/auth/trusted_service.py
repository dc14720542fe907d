"""Trust between clusters put together: what is trusted, the leaf's side and the root's side of coming to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime

from runtime.api.trust_messages import TrustedPeer, TrustStanding
from runtime.audit.log import Audit
from runtime.auth.attempts import Attempts
from runtime.auth.authorities import LiveAuthorities
from runtime.auth.membership import public_keys
from runtime.auth.succeeding import Told
from runtime.auth.tokens import JoinTokens
from runtime.auth.trusted import TrustedView
from runtime.auth.trusted_catching import CatchingUp
from runtime.auth.trusted_following import Following
from runtime.auth.trusted_joining import TrustKeeper
from runtime.auth.trusted_leaves import Leaves
from runtime.auth.trusted_tunnels import TunnelTeller
from runtime.auth.tunnels import TunnelStore
from runtime.auth.unsealing import sealing_key
from runtime.backend.base import Backend
from runtime.core.errors import InvalidResource
from runtime.core.resources import decode
from runtime.core.trust_status import PREFIX, TrustStatus

logger = logging.getLogger(__name__)


class TrustService:
    """What auth does about other clusters. `file` are those of teleport.yaml."""

    def __init__(
        self,
        backend: Backend,
        authorities: LiveAuthorities,
        *,
        tokens: JoinTokens,
        attempts: Attempts,
        audit: Audit,
        now: Callable[[], datetime],
        tunnels: TunnelStore,
        file: tuple[TrustedPeer, ...] = (),
    ) -> None:
        self._backend = backend
        self.view = TrustedView(
            backend,
            authorities.cluster,
            lambda: (key for authority in public_keys(authorities) for key in authority.keys),
            Told(authorities),
        )
        self.view.file = file
        self._authorities = authorities
        self.following = Following(backend, authorities, self.view, audit, now)
        self.leaves = Leaves(backend, authorities, self.view, tokens, attempts, audit, now)
        self._keeper = TrustKeeper(backend, authorities, self.view, audit, now)
        self._catching = CatchingUp(authorities.cluster, self.view, self.following, tunnels.list)
        self._teller = TunnelTeller(backend, self.view, tunnels)

    async def run(self) -> None:
        """Follow what is declared and make it so, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.view.run())
            group.create_task(self._keeper.run())
            group.create_task(self._teller.run())
            group.create_task(self._follow_own())
            group.create_task(self._catching.run())

    async def _follow_own(self) -> None:
        """Have others hear of it when our own authorities change."""
        async with aclosing(self._authorities.follow()) as changes:
            async for _ in changes:
                self.view.look()

    async def sealing_public(self) -> bytes:
        """Return the key to which the token of a TrustedCluster is sealed. Raises what the storage raises."""
        return (await sealing_key(self._backend)).public

    async def statuses(self) -> tuple[TrustStanding, ...]:
        """Return how it stands with each TrustedCluster that was looked at, by name."""
        found = []
        for item in (await self._backend.range(PREFIX)).items:
            try:
                status = decode(TrustStatus, item.value)
            except InvalidResource as error:  # a newer version's
                logger.warning("%s: %s", item.key, error)
                continue
            name = item.key.removeprefix(PREFIX)
            found.append(
                TrustStanding(
                    name=name,
                    reason=status.reason.value,
                    message=status.message,
                    fingerprints=status.fingerprints,
                    digest=status.digest,
                )
            )
        return tuple(found)
