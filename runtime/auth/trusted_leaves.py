"""The root's side of trust: a cluster shows a token, and is known from then on as a leaf by its host CA.

Nothing of it signs anything for this cluster: its host CA is believed of its own servers at the far end of a tunnel,
and its user CA is not even asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from runtime.api.trust_messages import LeafRequest, RootReply
from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.auth.attempts import MAX_JOIN_FAILURES, Attempts, LockedOut, source
from runtime.auth.authorities import Authorities
from runtime.auth.followed_record import followed_key
from runtime.auth.membership import public_keys
from runtime.auth.tokens import JoinTokens
from runtime.auth.trusted import TrustedView
from runtime.auth.trusted_record import (
    Side,
    TrustedRecord,
    decode_record,
    encode_record,
    fingerprints,
    new_record,
    record_key,
)
from runtime.backend.base import Backend
from runtime.core.callers import Caller
from runtime.core.errors import AccessDenied, AlreadyExists, CompareFailed, InvalidInput, NotFound, TeleportError
from runtime.core.resources.token import TokenRole, digest_of
from runtime.pki.claims import check_cluster
from runtime.pki.introduction import check_vouched
from runtime.pki.keys import parse_public_key

logger = logging.getLogger(__name__)

_NEW_TOKEN = "Make a new one on the root cluster: tctl tokens add --type=trusted_cluster."  # noqa: S105 - a hint


class Leaves:
    """Takes leaves in, and forgets them."""

    def __init__(
        self,
        backend: Backend,
        authorities: Authorities,
        view: TrustedView,
        tokens: JoinTokens,
        attempts: Attempts,
        audit: Audit,
        now: Callable[[], datetime],
    ) -> None:
        self._backend = backend
        self._authorities = authorities
        self._view = view
        self._tokens = tokens
        self._attempts = attempts
        self._audit = audit
        self._now = now

    async def accept(self, request: LeafRequest) -> RootReply:
        """Know a cluster as our leaf from now on. The same request again gets the same answer: one may be lost.

        Raises AccessDenied for the token or the proof, AlreadyExists for a name that is taken, InvalidInput. The token
        is used up last, and who has none learns nothing of what names there are.
        """
        try:
            await self._accept(request)
        except LockedOut as error:
            self._refused(request, error)
            raise AccessDenied(
                f"nobody joins from {request.address} until {error.until:%H:%M} UTC: too many tokens were not valid",
                hint="Find what keeps asking there with a wrong token, stop it, and wait.",
            ) from None
        except (AccessDenied, AlreadyExists, InvalidInput) as error:
            self._refused(request, error)
            raise
        user, host = public_keys(self._authorities)
        return RootReply(cluster=self._authorities.cluster, host_keys=host.keys, user_keys=user.keys)

    async def forget(self, name: str, by: Caller) -> None:
        """Trust a leaf no more: its tunnels end. Raises NotFound, InvalidInput for one that is declared elsewhere."""
        try:
            record = decode_record((await self._backend.get(record_key(name))).value)
        except NotFound:
            record = None
        if record is None or record.side is not Side.LEAF:
            if name in self._view.documents:
                raise InvalidInput(
                    f"cluster {name} is declared by a document",
                    hint=f"Delete that: tctl rm trusted_cluster/{name}, or with kubectl where it was applied so.",
                )
            if any(peer.cluster == name for peer in self._view.file):
                raise InvalidInput(
                    f"cluster {name} stands in auth_service.trusted_clusters of teleport.yaml",
                    hint="Remove it there on each auth server and restart them (with dynamic_config: no).",
                )
            raise NotFound(f"no cluster {name[:80]!a} is trusted here", hint="See tctl auth ls.")
        await self._backend.delete(record_key(name))
        with suppress(NotFound):
            await self._backend.delete(followed_key(name))
        self._audit.emit(EventType.TRUST_ENDED, cluster=name, side=Side.LEAF.value, by=str(by))

    async def _accept(self, request: LeafRequest) -> None:
        token = request.token.get_secret_value()
        asking = f"join/{source(request.address)}"
        await self._attempts.check(asking, most=MAX_JOIN_FAILURES)
        host_keys = tuple(parse_public_key(key).line for key in request.host_keys)
        known = await self._known(request.cluster)
        if known is not None and known.means == digest_of(token) and self._is_the_same(known, host_keys):
            return
        try:
            await self._tokens.check(token, (TokenRole.TRUSTED_CLUSTER.value,))
        except AccessDenied as error:
            await self._attempts.fail(asking)
            raise AccessDenied(str(error), hint=_NEW_TOKEN) from error
        self._check(request.cluster, host_keys, known)
        check_vouched(
            request.proof,
            parse_public_key(host_keys[0]),
            cluster=request.cluster,
            host_keys=host_keys,
            token=token,
        )
        await self._tokens.redeem(token, (TokenRole.TRUSTED_CLUSTER.value,))
        await self._attempts.forgive(asking)
        record = new_record(request.cluster, Side.LEAF, host_keys=host_keys, means=digest_of(token), now=self._now())
        await self._keep(record, known)
        logger.info("cluster %s is a leaf of this one, joined from %s", request.cluster, request.address)
        self._audit.emit(
            EventType.TRUST_BEGUN,
            cluster=request.cluster,
            side=Side.LEAF.value,
            fingerprints=list(fingerprints(host_keys)),
            **{"addr.remote": request.address},
        )

    def _check(self, name: str, host_keys: tuple[str, ...], known: TrustedRecord | None) -> None:
        """Refuse a name or a key that is another's. Raises AlreadyExists, InvalidInput."""
        check_cluster(name)
        if name == self._authorities.cluster:
            raise InvalidInput(
                f"the leaf is called {name}, and so is this cluster",
                hint="A cluster cannot trust itself. Two clusters that know each other need names of their own: "
                "cluster_name in auth_service.",
            )
        if known is not None and not self._is_the_same(known, host_keys):
            other = ", ".join(fingerprints(self._keys_of(known))) or "one that has ended"
            raise AlreadyExists(
                f"a cluster {name} is known here already, by another CA: {other}",
                hint=f"If it was set up anew, forget the old one on this cluster: tctl auth rm {name}. Else give the "
                "new one another name.",
            )
        if name in self._view.documents or any(peer.cluster == name for peer in self._view.file):
            raise AlreadyExists(
                f"the name {name} is taken here by a trusted cluster that is declared",
                hint="Delete its TrustedCluster, or its entry in teleport.yaml, or give the new one another name.",
            )
        others = [peer for peer in self._view.clusters.clusters if peer.cluster != name]
        taken = {key for peer in others for key in (*peer.host_keys, *peer.user_keys)}
        own = {key for authority in public_keys(self._authorities) for key in authority.keys}
        if not (taken | own).isdisjoint(host_keys):
            raise InvalidInput("the CA that the leaf shows is that of another cluster")

    async def _known(self, name: str) -> TrustedRecord | None:
        try:
            check_cluster(name)
            record = decode_record((await self._backend.get(record_key(name))).value)
        except NotFound:
            return None
        return record if record.side is Side.LEAF else None

    async def _keep(self, record: TrustedRecord, known: TrustedRecord | None) -> None:
        """Write a new record, or over what was `known`. Raises AlreadyExists when somebody was quicker."""
        key = record_key(record.cluster)
        try:
            await self._backend.create(key, encode_record(record))
        except AlreadyExists:
            item = await self._backend.get(key)
            there = decode_record(item.value)
            if there != known and set(there.host_keys) != set(record.host_keys):
                raise AlreadyExists(
                    f"another cluster {record.cluster} has joined in this very moment", hint=_NEW_TOKEN
                ) from None
            with suppress(CompareFailed):  # the same cluster, twice at once
                await self._backend.compare_and_swap(key, encode_record(record), revision=item.revision)

    def _keys_of(self, known: TrustedRecord) -> tuple[str, ...]:
        """Return the keys that a leaf has now: its authority may have been rotated since it joined."""
        peer = self._view.current(known.cluster)
        return known.host_keys if peer is None else peer.host_keys

    def _is_the_same(self, known: TrustedRecord, host_keys: tuple[str, ...]) -> bool:
        """Tell whether a leaf is the one that is known. The first key, which signs, speaks for the others."""
        return host_keys[0] in self._keys_of(known)

    def _refused(self, request: LeafRequest, error: TeleportError) -> None:
        logger.warning("refused cluster %a from %s: %s", request.cluster[:128], request.address, error)
        self._audit.emit(
            EventType.TRUST_REFUSED,
            cluster=request.cluster[:128],
            error=str(error)[:1024],
            **{"addr.remote": request.address},
        )
