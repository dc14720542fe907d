"""How items look in etcd: pure translations between the port and etcd's messages.

A key is `PREFIX/` and the port's key; a value is stored as it is. The expiry lives in the id of the lease that the key
is attached to (etcd lets the client choose it), so that every read shows it to the millisecond without a second request
and without a wrapper around the value:

    bits 62..21   milliseconds since 1970 UTC     (42 bits: until the year 2109)
    bits 20..0    random, so that no two writes share a lease
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from aetcd import rpc

from runtime.backend.base import Item, Snapshot, from_millis, to_millis
from runtime.core.errors import InvalidValue

LEASE_RANDOM_BITS = 21
_MAX_MILLIS = (1 << (63 - LEASE_RANDOM_BITS)) - 1


class Keyspace:
    """The part of an etcd that belongs to us: all keys under one prefix, such as `teleport`."""

    def __init__(self, prefix: str) -> None:
        """Take the prefix as it is; whether it ends in a slash makes no difference."""
        self._root = prefix.rstrip("/").encode() + b"/"

    def raw(self, key: str) -> bytes:
        """Return etcd's key for a key or prefix of the port."""
        return self._root + key.encode()

    def key(self, raw: bytes) -> str | None:
        """Return the port's key for etcd's, or None for one that we cannot have written (not UTF-8)."""
        try:
            return raw.removeprefix(self._root).decode()
        except UnicodeDecodeError:
            return None

    def item(self, kv: Any) -> Item | None:
        """Return an etcd KeyValue as an item, or None for a key that we cannot have written."""
        key = self.key(kv.key)
        return None if key is None else Item(key, kv.value, kv.mod_revision, lease_expiry(kv.lease))

    def snapshot(self, kvs: Iterable[Any], revision: int, now: datetime) -> Snapshot:
        """Return what etcd gave, in its order (that of the keys' bytes), without the items that have expired."""
        items = (self.item(kv) for kv in kvs)
        return Snapshot(tuple(item for item in items if item is not None and is_present(item, now)), revision)


def is_present(item: Item, now: datetime) -> bool:
    """Return whether the item has not expired."""
    return item.expires is None or now < item.expires


def range_end(prefix: bytes) -> bytes:
    """Return the first key after all that start with the prefix, which ends in a slash (etcd's range_end)."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def lease_id(expires: datetime, bits: int) -> int:
    """Return the id of a lease for a key that ends at `expires`; `bits` are LEASE_RANDOM_BITS random ones.

    Raises InvalidValue for an expiry beyond the year 2109, ValueError for one without a time zone.
    """
    millis = max(1, to_millis(expires))  # an id of 0 would ask etcd to choose
    if millis > _MAX_MILLIS:
        raise InvalidValue(f"the expiry {expires} is later than {from_millis(_MAX_MILLIS)}")
    return millis << LEASE_RANDOM_BITS | bits


def lease_expiry(lease: int) -> datetime | None:
    """Return the expiry that a lease's id says, None for the id 0: no lease."""
    return from_millis(lease >> LEASE_RANDOM_BITS) if lease else None


def lease_seconds(expires: datetime, now: datetime) -> int:
    """Return the lease's time to live in whole seconds: never less than what remains. etcd raises it to its minimum."""
    return max(1, -(-(to_millis(expires) - to_millis(now)) // 1000))


def absent(key: bytes, now: datetime) -> list[list[Any]]:
    """Return what must hold for the key to be absent: one of these lists of comparisons, in whole.

    It does not exist, or it has a lease whose expiry has come.
    """
    return [[_compare(key, "EQUAL", create_revision=0)], [_expired(key, now), _compare(key, "GREATER", lease=0)]]


def present(key: bytes, now: datetime, revision: int | None) -> list[list[Any]]:
    """Return what must hold for the key to be present, at `revision` where one is given: as `absent` does."""
    # To etcd a key that does not exist is at revision 0 and has no lease.
    exists = [_compare(key, "GREATER", create_revision=0)]
    if revision is not None:
        exists.append(_compare(key, "EQUAL", mod_revision=revision))
    return [[*exists, _compare(key, "EQUAL", lease=0)], [*exists, _alive(key, now)]]


def when(alternatives: list[list[Any]], operation: Any) -> Any:
    """Return a transaction that does the operation when one of the alternatives holds (etcd itself has no `or`)."""
    compare, *others = alternatives
    failure = [rpc.RequestOp(request_txn=when(others, operation))] if others else []
    return rpc.TxnRequest(compare=compare, success=[operation], failure=failure)


def succeeded(response: Any) -> bool:
    """Return whether a transaction of `when` did its operation."""
    return response.succeeded or any(
        succeeded(inner.response_txn) for inner in response.responses if inner.HasField("response_txn")
    )


_TARGETS = {"create_revision": "CREATE", "mod_revision": "MOD", "lease": "LEASE"}


def _compare(key: bytes, result: str, **target: int) -> Any:
    (name,) = target
    return rpc.Compare(key=key, result=result, target=_TARGETS[name], **target)


def _expired(key: bytes, now: datetime) -> Any:
    return _compare(key, "LESS", lease=(to_millis(now) + 1) << LEASE_RANDOM_BITS)


def _alive(key: bytes, now: datetime) -> Any:
    return _compare(key, "GREATER", lease=((to_millis(now) + 1) << LEASE_RANDOM_BITS) - 1)
