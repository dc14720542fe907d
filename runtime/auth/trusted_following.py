"""How the rotation of another cluster's authorities is followed: what it says is checked, and kept if it is proved.

Whoever brings it, a proxy that was taken over as well, can keep it away, and nothing else: a succession is believed for
the signatures in it. A root may tell of both its authorities, a leaf of its host CA.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.auth.authorities import Authorities
from runtime.auth.followed_record import decode_followed, encode_followed, followed_key, known_of, record_of
from runtime.auth.membership import public_keys
from runtime.auth.trusted import TrustedView
from runtime.auth.trusted_record import Side, fingerprints
from runtime.backend.base import Backend
from runtime.core.errors import AlreadyExists, CompareFailed, CorruptState, NotFound, Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.core.succession import Succession, read_successions
from runtime.pki.succession import Known, follow

logger = logging.getLogger(__name__)

TRIES = 8
"""Of one compare-and-swap, against other auth servers that hear the same at the same time."""

CHANGES, CHANGES_WITHIN = 20, timedelta(minutes=1)
"""So much news of one cluster is taken: a rotation has four steps, of each authority, also in an emergency."""

KnownOf = dict[AuthorityType, Known]


class Following:
    """Takes in what other clusters say of their authorities."""

    def __init__(
        self,
        backend: Backend,
        authorities: Authorities,
        view: TrustedView,
        audit: Audit,
        now: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._authorities = authorities
        self._view = view
        self._audit = audit
        self._now = now
        self._changes: dict[str, deque[datetime]] = {}
        """When each cluster last had something new kept."""
        self._refused: dict[str, tuple[str, ...]] = {}
        """Why something of a cluster was last refused: told once, however often it comes."""

    async def learn(self, cluster: str, texts: Sequence[str]) -> None:
        """Take in what a cluster says; what it has not said, or said before, changes nothing. Raises Unavailable."""
        await self._view.ready.wait()
        peer = self._view.given.get(cluster)
        said = [each for each in read_successions(texts) if each.cluster == cluster]
        if peer is None or not peer.enabled or not said:
            return
        key = followed_key(cluster)
        for _ in range(TRIES):
            revision = None
            record = None
            try:
                item = await self._backend.get(key)
                revision = item.revision
                record = decode_followed(item.value)
            except NotFound:
                pass
            except CorruptState as error:
                logger.error("cluster %s: %s", cluster, error.in_full)  # noqa: TRY400 - no bug of ours
                return
            before = known_of(peer, record)
            after = self._followed(cluster, before, said)
            if after == before:
                return
            self._check_pace(cluster)
            value = encode_followed(record_of(peer, after))
            try:
                if revision is None:
                    await self._backend.create(key, value)
                else:
                    await self._backend.compare_and_swap(key, value, revision=revision)
            except (AlreadyExists, CompareFailed, NotFound):
                continue
            self._tell(Side.ROOT if peer.is_root else Side.LEAF, before, after)
            return
        raise Unavailable(f"what cluster {cluster} says of its authorities is being written by others, again and again")

    def _check_pace(self, cluster: str) -> None:
        """Take one more change of a cluster, of which all members hear. Raises Unavailable."""
        now = self._now()
        changes = self._changes.setdefault(cluster, deque(maxlen=CHANGES))
        if len(changes) == CHANGES and now - changes[0] < CHANGES_WITHIN:
            raise Unavailable(
                f"cluster {cluster} has changed its authorities {CHANGES} times within a minute",
                hint="Somebody over there rotates them again and again; what it says is taken a minute later.",
            )
        changes.append(now)

    def _followed(self, cluster: str, before: KnownOf, said: Sequence[Succession]) -> KnownOf:
        """Return how its authorities stand after what it says. What it says, and may not, is told."""
        others = {
            key
            for peer in self._view.clusters.clusters
            if peer.cluster != cluster
            for key in (*peer.host_keys, *peer.user_keys)
        }
        own = {key for authority in public_keys(self._authorities) for key in authority.keys}
        after = dict(before)
        refused: list[str] = []
        for kind, known in before.items():
            beside = {key for other, each in after.items() if other is not kind for key in each.keys}
            after[kind], why = follow(known, said, foreign=others | own | beside)
            refused += why
        if refused and self._refused.get(cluster) != tuple(refused):
            self._refused[cluster] = tuple(refused)
            for each in refused:
                logger.error("cluster %s wants to have other keys, and is not believed: %s", cluster, each)
                self._audit.emit(EventType.TRUST_REFUSED, cluster=cluster, error=each[:1024])
        return after

    def _tell(self, side: Side, before: KnownOf, after: KnownOf) -> None:
        for kind, now in after.items():
            came, went = (
                [each for each in some.keys if each not in other.keys]
                for some, other in ((now, before[kind]), (before[kind], now))
            )
            if not came and not went:
                continue
            logger.info(
                "cluster %s has rotated its %s CA: it is believed by %s now",
                now.cluster,
                kind,
                ", ".join(fingerprints(now.keys)) or "no key, for it has ended",
            )
            self._audit.emit(
                EventType.TRUST_ROTATED,
                cluster=now.cluster,
                side=side.value,
                type=kind.value,
                came=list(fingerprints(tuple(came))),
                went=list(fingerprints(tuple(went))),
            )
