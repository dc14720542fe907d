"""Which other clusters are trusted now, and for what: documents, records and teleport.yaml put together.

a TrustedCluster, enabled, and its record    our root: its people may do here what the document says
a cluster of teleport.yaml (key_file)        root or leaf; a TrustedCluster of the same name counts in its place
the record of a leaf                         may open tunnels to us; its people are nobody here

By which keys it was given is one thing; what it has said of them since (`runtime.auth.followed_record`) lies over that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import TypeVar

from runtime.api.trust_messages import RoleMapping, TrustedClusters, TrustedPeer
from runtime.auth.followed_record import PREFIX as FOLLOWED
from runtime.auth.followed_record import FollowedRecord, as_followed, base_of, decode_followed
from runtime.auth.trusted_record import PREFIX as RECORDS
from runtime.auth.trusted_record import Side, TrustedRecord, decode_record, fingerprints
from runtime.backend.base import Backend, Delete, Item, Put, Snapshot
from runtime.core import keys
from runtime.core.errors import CorruptState, InvalidInput, InvalidResource
from runtime.core.resources import TrustedCluster, decode

logger = logging.getLogger(__name__)

T = TypeVar("T")

_DOCUMENTS = keys.resource_prefix("TrustedCluster")
_SOURCES = 3
"""Documents, records, and what was followed."""


def is_trusted(cluster: TrustedCluster, record: TrustedRecord | None) -> bool:
    """Tell whether a record is still what the document trusts.

    Another pin or other pinned keys end the old trust at once; another token only renews it.
    """
    means = cluster.metadata.means
    if record is None or means is None or record.side is not Side.ROOT:
        return False
    if means.ca is not None:
        return record.means == means.digest
    return means.ca_pin is None or means.ca_pin in fingerprints(record.host_keys)


def given(
    file: Iterable[TrustedPeer], documents: Mapping[str, TrustedCluster], records: Mapping[str, TrustedRecord]
) -> dict[str, TrustedPeer]:
    """Return all other clusters by name, with the keys by which they were given."""
    found: dict[str, TrustedPeer] = {}
    for name, document in documents.items():
        if (peer := _declared(document, records.get(name))) is not None:
            found[name] = peer
    for peer in file:
        if peer.cluster not in documents:
            found[peer.cluster] = peer
    for name, record in records.items():
        if record.side is Side.LEAF and name not in documents and name not in found:
            found[name] = TrustedPeer(cluster=name, host_keys=record.host_keys)
    return found


def compose(
    own: str, own_keys: Iterable[str], peers: Mapping[str, TrustedPeer], followed: Mapping[str, FollowedRecord]
) -> tuple[TrustedPeer, ...]:
    """Return them with the keys that they have now, by name. Who bears our name, or one of our keys, is left out."""
    ours = set(own_keys)
    kept = []
    for name, base in sorted(peers.items()):
        peer = as_followed(base, followed.get(name))
        if name == own or not ours.isdisjoint({*peer.host_keys, *peer.user_keys}):
            logger.error("cluster %s is not trusted: its name or one of its CA keys is this cluster's own", name)
            continue
        kept.append(peer.model_copy(update={"base": base_of(base)}))
    return tuple(kept)


def _declared(document: TrustedCluster, record: TrustedRecord | None) -> TrustedPeer | None:
    """Return the root that a document declares; None while nothing is known of its keys."""
    spec = document.spec
    if not spec.enabled:
        return TrustedPeer(cluster=document.name, enabled=False, tunnel_addr=spec.proxy.tunnel_addr)
    if record is None or not is_trusted(document, record):
        return None
    return TrustedPeer(
        cluster=document.name,
        tunnel_addr=spec.proxy.tunnel_addr,
        user_keys=record.user_keys,
        host_keys=record.host_keys,
        role_map=tuple(RoleMapping(remote=each.remote, local=each.local) for each in spec.role_map),
        allow_logins=spec.allow_logins,
    )


class TrustedView:
    """Follows documents and records. `ready` is set once both are known; `changed` is called after each change."""

    def __init__(
        self,
        backend: Backend,
        own: str,
        own_keys: Callable[[], Iterable[str]],
        told: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        """`told` is what other clusters are to hear of our own authorities; when that changes, `look` is due."""
        self._backend = backend
        self._own = own
        self._own_keys = own_keys
        self._told = told
        self._file: tuple[TrustedPeer, ...] = ()
        self.documents: dict[str, TrustedCluster] = {}
        """As they are in the storage, by name; one that cannot be read is as good as none."""
        self.records: dict[str, TrustedRecord] = {}
        self.followed: dict[str, FollowedRecord] = {}
        self.given: Mapping[str, TrustedPeer] = {}
        """All other clusters, by the keys with which they were given."""
        self.ready = asyncio.Event()
        self._heard: set[str] = set()
        self._waiting: set[asyncio.Event] = set()
        self._clusters = TrustedClusters()

    @property
    def file(self) -> tuple[TrustedPeer, ...]:
        """The clusters of teleport.yaml; they may change while auth runs."""
        return self._file

    @file.setter
    def file(self, peers: tuple[TrustedPeer, ...]) -> None:
        self._file = peers
        self.look()

    @property
    def clusters(self) -> TrustedClusters:
        """All other clusters as they are now."""
        return self._clusters

    async def run(self) -> None:
        """Follow, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(_DOCUMENTS, self.documents, self._document))
            group.create_task(self._follow(RECORDS, self.records, self._record))
            group.create_task(self._follow(FOLLOWED, self.followed, self._followed))

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yield now, once all is known, and after each change; changes in between are one."""
        await self.ready.wait()
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            while True:
                event.clear()
                yield
                await event.wait()
        finally:
            self._waiting.discard(event)

    async def follow(self) -> AsyncGenerator[TrustedClusters, None]:
        """Yield the clusters now, and whenever they have changed."""
        last: TrustedClusters | None = None
        async with aclosing(self.changes()) as changes:
            async for _ in changes:
                if (now := self._clusters) != last:
                    last = now
                    yield now

    async def _follow(self, prefix: str, known: dict[str, T], read: Callable[[Item], T | None]) -> None:
        async with aclosing(self._backend.watch(prefix)) as events:
            async for event in events:
                match event:
                    case Snapshot(items):
                        known.clear()
                        for item in items:
                            self._take(known, item, prefix, read)
                    case Put(item):
                        self._take(known, item, prefix, read)
                    case Delete(key):
                        known.pop(key.removeprefix(prefix), None)
                self._heard.add(prefix)
                self.look()

    @staticmethod
    def _take(known: dict[str, T], item: Item, prefix: str, read: Callable[[Item], T | None]) -> None:
        name = item.key.removeprefix(prefix)
        found = read(item)
        if found is None:
            known.pop(name, None)
        else:
            known[name] = found

    @staticmethod
    def _document(item: Item) -> TrustedCluster | None:
        try:
            return decode(TrustedCluster, item.value)
        except InvalidResource as error:
            logger.error("%s", error.in_full)  # noqa: TRY400 - no bug of ours
            return None

    @staticmethod
    def _record(item: Item) -> TrustedRecord | None:
        try:
            record = decode_record(item.value)
            fingerprints((*record.host_keys, *record.user_keys))  # which they must have
        except (CorruptState, InvalidInput) as error:
            logger.error("%s: %s", item.key, error.in_full)  # noqa: TRY400 - no bug of ours
            return None
        return record

    @staticmethod
    def _followed(item: Item) -> FollowedRecord | None:
        try:
            record = decode_followed(item.value)
            fingerprints(tuple(key for each in (record.host, record.user) if each for key in each.keys))
        except (CorruptState, InvalidInput) as error:
            logger.error("%s: %s", item.key, error.in_full)  # noqa: TRY400 - no bug of ours
            return None
        return record

    def look(self) -> None:
        """See what follows from all that is known now."""
        if len(self._heard) < _SOURCES:  # a part of the truth would end tunnels
            return
        self.given = given(self._file, self.documents, self.records)
        self._clusters = TrustedClusters(
            clusters=compose(self._own, self._own_keys(), self.given, self.followed), statements=self._told()
        )
        self.ready.set()
        for event in self._waiting:
            event.set()

    def current(self, name: str) -> TrustedPeer | None:
        """Return a cluster with the keys that it has now, from what was heard so far."""
        return next((peer for peer in self._clusters.clusters if peer.cluster == name), None)


def roots(clusters: TrustedClusters) -> Mapping[str, TrustedPeer]:
    """Return the enabled clusters whose people may come here, by name."""
    return {peer.cluster: peer for peer in clusters.clusters if peer.enabled and peer.user_keys}


def leaves(clusters: TrustedClusters) -> Mapping[str, TrustedPeer]:
    """Return the enabled clusters to which people of this one may go, by name."""
    return {peer.cluster: peer for peer in clusters.clusters if peer.enabled and not peer.is_root}
