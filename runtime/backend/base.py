"""The port to the cluster's state. Every backend keeps what is written here, and tests/contract/backend proves it.

A backend maps keys (rules in `runtime.core.keys`) to values (bytes). Each successful write of a key gets a revision, an
integer above all earlier revisions of the same space; a revision both names a version (compare-and-swap) and a place in
history (watch).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from runtime.core.errors import AlreadyExists, CompareFailed, InvalidValue, NotFound, Unavailable
from runtime.core.keys import shown

MAX_VALUE_BYTES = 384 * 1024
"""Bytes of a value: a DynamoDB item ends at 400 KB, an etcd request at 1.5 MiB."""

EXPIRY_LAG_SECONDS = 10.0
"""How long after its expiry an item's Delete event may come, in seconds of real time."""


@dataclass(frozen=True, slots=True)
class Item:
    """One key as it was at one revision. `expires` is aware and in UTC, to the millisecond, or None for never."""

    key: str
    value: bytes
    revision: int
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that lives under a prefix, ordered by key (as UTF-8 bytes).

    It holds every change up to `revision`. What was written while it was read may be in it too; a watch after
    `revision` then tells of that change again, so a consumer that replaces by key ends up right.
    """

    items: tuple[Item, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """An item was written."""

    item: Item

    @property
    def revision(self) -> int:
        """The revision of the write."""
        return self.item.revision


@dataclass(frozen=True, slots=True)
class Delete:
    """An item was deleted, or has expired."""

    key: str
    revision: int


Event = Snapshot | Put | Delete


class Backend(Protocol):
    """The port. All methods may be called at once from many tasks of one event loop; none blocks the loop.

    Any method but `watch` and `close` raises Unavailable when the store does not answer within the backend's request
    timeout; a write that ends so may or may not have been carried out. Keys and prefixes outside the rules raise
    InvalidKey, values above MAX_VALUE_BYTES raise InvalidValue, both before anything is sent.

    An item is absent from the moment `clock.now() >= expires`, for every method, whether or not the store has removed
    it.
    """

    async def get(self, key: str) -> Item:
        """Return the item. Raises NotFound."""
        ...

    async def put(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Write the item whatever was there, and return it with its revision."""
        ...

    async def create(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Write the item if the key is absent, and return it. Of several writers at once exactly one succeeds.

        Raises AlreadyExists.
        """
        ...

    async def compare_and_swap(self, key: str, value: bytes, *, revision: int, expires: datetime | None = None) -> Item:
        """Write the item if it is still at `revision`, and return it.

        `expires` is set anew: pass the old one to keep it.
        Raises CompareFailed when the item has another revision or is absent.
        """
        ...

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Delete the item; with `revision` only if it is still at that one.

        Raises NotFound when it is absent and no revision was given, CompareFailed when one was given and is not the
        item's.
        """
        ...

    async def range(self, prefix: str) -> Snapshot:
        """Return all items whose key starts with the prefix, which ends in a slash."""
        ...

    def watch(self, prefix: str, *, after: int | None = None) -> AsyncGenerator[Event, None]:
        """Follow all items whose key starts with the prefix.

        Without `after` the first event is a Snapshot. With it (the revision of a Snapshot or of an event of the same
        space) the events are exactly those above that revision. Either way every change follows once, in the order of
        revisions, whoever wrote it. Where the store no longer holds that history (compacted, trimmed, restored), a new
        Snapshot comes in place of the changes, and the consumer replaces all it knows.

        Losing the store does not end the generator: it reconnects, with growing pauses, and goes on where it was; a
        warning in the log says so once. It ends when it is closed (`contextlib.aclosing`) or when the backend is.
        """
        ...

    async def close(self) -> None:
        """Release connections, threads and files. Watches end. Safe to call twice."""
        ...


def check_value(value: bytes) -> bytes:
    """Return the value if every backend can hold it. Raises InvalidValue."""
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidValue(f"the value has {len(value)} bytes; {MAX_VALUE_BYTES} is the most")
    return value


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_millis(moment: datetime) -> int:
    """Return an aware datetime as milliseconds since 1970 UTC, rounded down. Raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("an expiry needs an aware datetime")
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_millis(millis: int) -> datetime:
    """Return milliseconds since 1970 UTC as an aware datetime in UTC."""
    return _EPOCH + timedelta(milliseconds=millis)


def not_found(key: str) -> NotFound:
    """Return the error of a key that holds nothing."""
    return NotFound(f"there is nothing under {shown(key)}")


def already_exists(key: str) -> AlreadyExists:
    """Return the error of a create whose key is taken."""
    return AlreadyExists(f"{shown(key)} is there already", hint="Read it and change it with compare_and_swap.")


def compare_failed(key: str, revision: int) -> CompareFailed:
    """Return the error of a write on a revision that is no longer the item's."""
    return CompareFailed(
        f"{shown(key)} was changed or deleted since revision {revision}", hint="Read it again and decide anew."
    )


def closed(store: str) -> Unavailable:
    """Return the error of a call on a backend after its `close`; `store` names it as in `the memory backend`."""
    return Unavailable(f"{store} is closed", hint="Open it again.")
