"""Requests that operations and watches both make."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from aetcd import rpc

from runtime.backend.etcd.connections import METADATA, Connections, Refused
from runtime.backend.etcd.keyspace import range_end
from runtime.core.errors import TeleportError

PAGE_ITEMS = 500
"""Items in one answer of a range: 500 of the largest are 190 MiB, 500 usual ones half of one."""

LEASE_EXISTS = "etcdserver: lease already exists"
_COMPACTED = "etcdserver: mvcc: required revision has been compacted"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Content:
    """All of etcd's KeyValues under a prefix as they were at one revision, and the id of the cluster that said so."""

    kvs: list[Any]
    revision: int
    cluster: int


async def get(connections: Connections, key: bytes) -> Any | None:
    """Return etcd's KeyValue, None where there is none: a linearizable read. Raises Unavailable, AccessDenied."""
    kvs = (await _range(connections, rpc.RangeRequest(key=key))).kvs
    return kvs[0] if kvs else None


async def read_all(connections: Connections, start: bytes) -> Content:
    """Read all under a prefix, page by page, as of one revision. Raises Unavailable, AccessDenied."""
    while True:
        try:
            return await _read_pages(connections, start)
        except Refused as refused:
            if refused.reason != _COMPACTED:
                raise
            _log.info("etcd was compacted while %r was read: reading it again", start)


async def _read_pages(connections: Connections, start: bytes) -> Content:
    kvs: list[Any] = []
    revision = 0
    key, end = start, range_end(start)
    while True:
        page = await _range(connections, rpc.RangeRequest(key=key, range_end=end, limit=PAGE_ITEMS, revision=revision))
        kvs += page.kvs
        revision = revision or page.header.revision
        if not page.more:
            return Content(kvs, revision, page.header.cluster_id)
        key = kvs[-1].key + b"\0"  # the first key after it


async def _range(connections: Connections, request: Any) -> Any:
    return await connections.retrying(
        lambda connection, timeout: connection.kv.Range(request, timeout=timeout, metadata=METADATA)
    )


async def current_revision(connections: Connections, key: bytes) -> int:
    """Return the revision that the cluster's majority has reached; `key` is one that we may read."""
    return int((await _range(connections, rpc.RangeRequest(key=key, count_only=True))).header.revision)


async def grant(connections: Connections, lease: int, seconds: int) -> None:
    """Make a lease of that id. Raises Unavailable, AccessDenied, and Refused with LEASE_EXISTS."""
    request = rpc.LeaseGrantRequest(ID=lease, TTL=seconds)
    # Sent twice it does no harm: the second is refused, and the first ends by itself.
    await connections.retrying(
        lambda connection, timeout: connection.lease.LeaseGrant(request, timeout=timeout, metadata=METADATA)
    )


async def revoke(connections: Connections, lease: int) -> bool:
    """Revoke a lease and with it what it holds; return whether there is nothing left to do."""
    request = rpc.LeaseRevokeRequest(ID=lease)
    try:
        await connections.retrying(
            lambda connection, timeout: connection.lease.LeaseRevoke(request, timeout=timeout, metadata=METADATA)
        )
    except Refused:
        return True  # it has ended already
    except TeleportError as error:
        _log.info("etcd: an expired lease was not revoked: %s", error)
        return False
    return True
