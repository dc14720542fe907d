"""The other clusters that are trusted, as auth last told of them, so that their tunnels go on while it is away."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from contextlib import aclosing

from pydantic import ValidationError

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.messages import Nothing
from runtime.api.trust_messages import TrustedClusters, TrustedPeer
from runtime.core.errors import TeleportError, Unavailable
from runtime.core.guests import Welcome
from runtime.core.resources.authority import AuthorityType
from runtime.pki.keys import parse_public_key
from runtime.pki.trust import AuthorityKey, Trust
from runtime.service.identity import DataDir

logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 15.0
"""Between two attempts to follow; each pause is a random part of a bound that doubles up to this."""


class Trusting:
    """Follows what auth tells, and keeps it in `file` of data_dir. `changed` is called after each change."""

    def __init__(
        self,
        auth: AuthClient,
        data_dir: DataDir,
        file: str,
        *,
        own: str,
        changed: Callable[[], None] = lambda: None,
        rng: random.Random | None = None,
    ) -> None:
        """Begin with what was kept. `own` is our cluster's name, which nobody else's can be."""
        self._auth = auth
        self._data_dir = data_dir
        self._file = file
        self._own = own
        self._changed = changed
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._peers: dict[str, TrustedPeer] = {}
        self.statements: tuple[str, ...] = ()
        """What other clusters are to be told of our own authorities; a proxy alone is told that."""
        self._load()

    @property
    def peers(self) -> Mapping[str, TrustedPeer]:
        """The clusters that are trusted now, by name; without those that are disabled."""
        return self._peers

    def peer(self, cluster: str) -> TrustedPeer | None:
        """Return one of them; None for one that is not trusted, or no longer."""
        return self._peers.get(cluster)

    async def run(self) -> None:
        """Follow, until cancelled."""
        pause = 0.0
        while True:
            try:
                pieces = self._auth.pieces(methods.TRUSTED_WATCH, Nothing(), TrustedClusters)
                async with aclosing(pieces) as told:
                    async for each in told:
                        pause = 0.0
                        await self._take(each)
            except Unavailable as error:
                logger.info("watching trusted clusters: %s", error)
            except TeleportError as error:
                # An auth server of a release that knows no trusted clusters; another one may be asked next.
                logger.warning("trusted clusters cannot be followed: %s", error)
            pause = min(MAX_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, 2 * pause))
            await asyncio.sleep(self._rng.uniform(0, pause))

    async def _take(self, told: TrustedClusters) -> None:
        if self._hold(told):
            self._changed()
            try:
                await asyncio.to_thread(self._data_dir.write, self._file, told.model_dump_json().encode())
            except Unavailable as error:
                logger.error("trusted clusters are not kept: %s", error.in_full)  # noqa: TRY400 - no bug of ours

    def _hold(self, told: TrustedClusters) -> bool:
        """Let it be so; return whether anything is different now."""
        peers = {}
        for peer in told.clusters:
            if peer.cluster == self._own:
                logger.error("a cluster of our own name, %s, is never trusted", self._own)
            elif peer.enabled:
                peers[peer.cluster] = peer
        different = (peers, told.statements) != (self._peers, self.statements)
        self._peers, self.statements = peers, told.statements
        return different

    def _load(self) -> None:
        try:
            content = self._data_dir.read(self._file)
            if content is not None:
                self._hold(TrustedClusters.model_validate_json(content))
        except (TeleportError, ValidationError) as error:
            logger.error("%s cannot be used: %s", self._file, error)  # noqa: TRY400 - no bug of ours


def authority_keys(peer: TrustedPeer, kind: AuthorityType) -> tuple[AuthorityKey, ...]:
    """Return the keys of one of a cluster's authorities. Raises InvalidInput for one that is not accepted."""
    keys = peer.user_keys if kind is AuthorityType.USER else peer.host_keys
    return tuple(AuthorityKey(kind, peer.cluster, parse_public_key(key)) for key in keys)


def trust_in(peers: Mapping[str, TrustedPeer], kind: AuthorityType) -> Trust:
    """Return what verifies certificates by that authority of any of the clusters. One key for two trusts neither.

    Whoever got their key in as another's must not speak for that one, nor shut it out for all the others.
    """
    owners: dict[bytes, set[str]] = {}
    keys: list[AuthorityKey] = []
    for peer in peers.values():
        try:
            found = authority_keys(peer, kind)
        except TeleportError as error:
            logger.warning("the %s CA of cluster %s cannot be used: %s", kind, peer.cluster, error)
            continue
        keys += found
        for key in found:
            owners.setdefault(key.key.blob, set()).add(peer.cluster)
    return Trust(key for key in keys if len(owners[key.key.blob]) == 1)


def welcome_of(peer: TrustedPeer) -> Welcome:
    """Return what people of a cluster may do here."""
    return Welcome(
        cluster=peer.cluster,
        role_map=tuple((each.remote, each.local) for each in peer.role_map),
        allow_logins=peer.allow_logins,
    )
