"""The port's operations on etcd. Each is one request, and one more for the lease of an item that expires."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

from aetcd import rpc

from runtime.backend.base import Event, Item, Snapshot, check_value
from runtime.backend.etcd.connections import METADATA, Connections, Refused
from runtime.backend.etcd.keyspace import (
    LEASE_RANDOM_BITS,
    Keyspace,
    absent,
    is_present,
    lease_expiry,
    lease_id,
    lease_seconds,
    present,
    succeeded,
    when,
)
from runtime.backend.etcd.requests import LEASE_EXISTS, get, grant, read_all, revoke
from runtime.backend.etcd.watch import Watch
from runtime.backend.options import EtcdOptions
from runtime.core.clock import Clock
from runtime.core.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    InvalidSettings,
    NotFound,
    TeleportError,
    Unavailable,
)
from runtime.core.keys import check_key, check_prefix, shown

LEASE_TRIES = 5
"""How often an id is chosen for a lease: one collision takes two with the same millisecond and 21 random bits."""


class EtcdBackend:
    """The port on an etcd of version 3.4 or later. Revisions are etcd's mod_revision."""

    def __init__(self, connections: Connections, keyspace: Keyspace, clock: Clock) -> None:
        self._connections = connections
        self._keyspace = keyspace
        self._clock = clock

    @classmethod
    async def open(cls, options: EtcdOptions, *, clock: Clock) -> EtcdBackend:
        """Connect to the first peer that answers.

        Raises InvalidSettings for options that cannot be right, Unavailable when no peer answers within
        `options.timeout`, AccessDenied when etcd does not know our certificate's user.
        """
        if not options.prefix.strip("/"):
            raise InvalidSettings("prefix: etcd's keys need one", hint="Leave it out for the default, `teleport`.")
        return cls(await Connections.open(options), Keyspace(options.prefix), clock)

    async def get(self, key: str) -> Item:
        """Return the item: a linearizable read. Raises NotFound."""
        kv = await get(self._connections, self._keyspace.raw(check_key(key)))
        item = None if kv is None else self._keyspace.item(kv)
        if item is None or not is_present(item, self._clock.now()):
            raise NotFound(f"{shown(key)} is not in etcd")
        return item

    async def put(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Write the item whatever was there."""
        impossible = Unavailable(f"etcd did not write {shown(key)}, though nothing was to be compared")
        return await self._write([[]], key, value, expires, otherwise=impossible)

    async def create(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Write the item if the key is absent, or what is there has expired. Raises AlreadyExists."""
        conditions = absent(self._keyspace.raw(check_key(key)), self._clock.now())
        return await self._write(
            conditions, key, value, expires, otherwise=AlreadyExists(f"{shown(key)} exists already")
        )

    async def compare_and_swap(self, key: str, value: bytes, *, revision: int, expires: datetime | None = None) -> Item:
        """Write the item if it is still at `revision` and has not expired. Raises CompareFailed."""
        conditions = present(self._keyspace.raw(check_key(key)), self._clock.now(), revision)
        changed = CompareFailed(f"{shown(key)} is no longer at revision {revision}")
        return await self._write(conditions, key, value, expires, otherwise=changed)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Delete the item; with `revision` only if it is still at that one. Raises NotFound, CompareFailed."""
        raw = self._keyspace.raw(check_key(key))
        operation = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=raw))
        response = await self._transact(when(present(raw, self._clock.now(), revision), operation))
        if not succeeded(response):
            if revision is None:
                raise NotFound(f"{shown(key)} is not in etcd")
            raise CompareFailed(f"{shown(key)} is no longer at revision {revision}")

    async def range(self, prefix: str) -> Snapshot:
        """Return all items under the prefix as they were at one revision."""
        content = await read_all(self._connections, self._keyspace.raw(check_prefix(prefix)))
        return self._keyspace.snapshot(content.kvs, content.revision, self._clock.now())

    def watch(self, prefix: str, *, after: int | None = None) -> AsyncGenerator[Event, None]:
        """Follow all items under the prefix. Raises AccessDenied where etcd does not let us read it."""
        return Watch(self._connections, self._keyspace, self._clock, check_prefix(prefix), after).events()

    async def close(self) -> None:
        """Close all connections; watches end. Safe to call twice."""
        await self._connections.close()

    async def _write(
        self,
        conditions: list[list[Any]],
        key: str,
        value: bytes,
        expires: datetime | None,
        *,
        otherwise: TeleportError,
    ) -> Item:
        """Write the item when one of the conditions holds; raise `otherwise` when none does."""
        raw = self._keyspace.raw(check_key(key))
        check_value(value)
        lease = await self._grant(expires) if expires is not None else 0
        operation = rpc.RequestOp(request_put=rpc.PutRequest(key=raw, value=value, lease=lease))
        try:
            response = await self._transact(when(conditions, operation))
        except (AccessDenied, Refused):
            self._give_back(lease)
            raise
        # After any other error the write may have been carried out: revoking the lease could undo it later.
        if not succeeded(response):
            self._give_back(lease)
            raise otherwise
        return Item(key, value, response.header.revision, lease_expiry(lease))

    async def _transact(self, transaction: Any) -> Any:
        return await self._connections.once(
            lambda connection, timeout: connection.kv.Txn(transaction, timeout=timeout, metadata=METADATA)
        )

    async def _grant(self, expires: datetime) -> int:
        """Make a lease that says and, a little later, enforces the expiry; return its id."""
        seconds = lease_seconds(expires, self._clock.now())
        tries_left = LEASE_TRIES
        while True:
            tries_left -= 1
            lease = lease_id(expires, secrets.randbits(LEASE_RANDOM_BITS))
            try:
                await grant(self._connections, lease, seconds)
            except Refused as refused:
                if not tries_left or refused.reason != LEASE_EXISTS:
                    raise
            else:
                return lease

    def _give_back(self, lease: int) -> None:
        """Revoke a lease that no key uses. Where that fails it ends by itself."""
        if lease:
            self._connections.background(revoke(self._connections, lease))
