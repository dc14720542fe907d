"""What the backend does, as SQL: functions of a connection that run within one transaction of the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import apsw

from runtime.backend.base import (
    Delete,
    Item,
    Put,
    Snapshot,
    already_exists,
    compare_failed,
    from_millis,
    not_found,
)

HISTORY_CHANGES = 10_000
"""Changes that are kept for watches to go on from."""

HISTORY_MILLIS = 60 * 60 * 1000
"""Age at which a change is dropped from history, in milliseconds."""

PAGE_CHANGES = 100
"""Changes that are read at once: with the largest values 38 MiB."""

SWEEP_ITEMS = 500
"""Expired items that one transaction deletes, so that writers do not wait for long."""


@dataclass(frozen=True, slots=True)
class Write:
    """A put; `create` and `revision` are its conditions. Times are in milliseconds since 1970 UTC."""

    key: str
    value: bytes
    expires: int | None
    now: int
    create: bool = False
    revision: int | None = None

    def run(self, connection: apsw.Connection) -> Item:
        """Write the item. Raises AlreadyExists or CompareFailed before anything is changed."""
        found = _live_revision(connection, self.key, self.now)
        if self.create and found is not None:
            raise already_exists(self.key)
        if self.revision is not None and found != self.revision:
            raise compare_failed(self.key, self.revision)
        revision = last_revision(connection) + 1
        connection.execute(
            "INSERT OR REPLACE INTO items (key, revision, expires, value) VALUES (?, ?, ?, ?)",
            (self.key, revision, self.expires, self.value),
        )
        _record(connection, revision, self.key, self.expires, self.value, self.now)
        return _item(self.key, self.value, revision, self.expires)


@dataclass(frozen=True, slots=True)
class Remove:
    """A delete, of one revision only if it is given."""

    key: str
    now: int
    revision: int | None = None

    def run(self, connection: apsw.Connection) -> None:
        """Delete the item. Raises NotFound or CompareFailed before anything is changed."""
        found = _live_revision(connection, self.key, self.now)
        if self.revision is None and found is None:
            raise not_found(self.key)
        if self.revision is not None and found != self.revision:
            raise compare_failed(self.key, self.revision)
        _remove(connection, self.key, self.now)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Delete what has expired and forget history beyond its bounds; where another process did, it finds nothing."""

    now: int

    def due(self, connection: apsw.Connection) -> bool:
        """Return whether there is anything to do, by reading alone."""
        expired = connection.execute("SELECT 1 FROM items WHERE expires <= ? LIMIT 1", (self.now,)).get
        return expired is not None or self._forget_up_to(connection) > _forgotten(connection)

    def run(self, connection: apsw.Connection) -> None:
        """Do it."""
        expired = connection.execute(
            "SELECT key FROM items WHERE expires <= ? ORDER BY expires LIMIT ?", (self.now, SWEEP_ITEMS)
        ).fetchall()
        for (key,) in expired:
            _remove(connection, str(key), self.now)
        limit = self._forget_up_to(connection)
        if limit > _forgotten(connection):
            connection.execute("UPDATE meta SET forgotten = ?", (limit,))
            connection.execute("DELETE FROM changes WHERE revision <= ?", (limit,))

    def _forget_up_to(self, connection: apsw.Connection) -> int:
        # The oldest changes come first: the scan ends at the first one that is young enough.
        kept = connection.execute(
            "SELECT revision FROM changes WHERE written > ? ORDER BY revision LIMIT 1", (self.now - HISTORY_MILLIS,)
        ).get
        last = last_revision(connection)
        by_age = last if kept is None else _integer(kept) - 1
        return max(by_age, last - HISTORY_CHANGES)


def read_item(connection: apsw.Connection, key: str, now: int) -> Item:
    """Return the item. Raises NotFound."""
    rows = connection.execute(
        "SELECT key, value, revision, expires FROM items WHERE key = ? AND (expires IS NULL OR expires > ?)", (key, now)
    ).fetchall()
    if not rows:
        raise not_found(key)
    return _items(rows)[0]


def read_range(connection: apsw.Connection, prefix: str, now: int) -> Snapshot:
    """Return all items below the prefix and the revision they stand at."""
    rows = connection.execute(
        "SELECT key, value, revision, expires FROM items"
        " WHERE key >= ? AND key < ? AND (expires IS NULL OR expires > ?) ORDER BY key",
        (prefix, _end(prefix), now),
    ).fetchall()
    return Snapshot(tuple(_items(rows)), last_revision(connection))


def read_changes(connection: apsw.Connection, prefix: str, after: int) -> tuple[list[Put | Delete], int] | None:
    """Return the next changes below the prefix and the revision they reach to; None when history does not hold them."""
    last = last_revision(connection)
    if not _forgotten(connection) <= after <= last:
        return None
    rows = connection.execute(
        "SELECT key, value, revision, expires FROM changes"
        " WHERE revision > ? AND key >= ? AND key < ? ORDER BY revision LIMIT ?",
        (after, prefix, _end(prefix), PAGE_CHANGES),
    ).fetchall()
    changes = [_change(*row) for row in cast("list[tuple[str, bytes | None, int, int | None]]", rows)]
    return changes, changes[-1].revision if len(changes) == PAGE_CHANGES else last


def last_revision(connection: apsw.Connection) -> int:
    """Return the revision of the last write."""
    return _integer(connection.execute("SELECT coalesce((SELECT max(revision) FROM changes), forgotten) FROM meta").get)


def _forgotten(connection: apsw.Connection) -> int:
    return _integer(connection.execute("SELECT forgotten FROM meta").get)


def _live_revision(connection: apsw.Connection, key: str, now: int) -> int | None:
    found = connection.execute(
        "SELECT revision FROM items WHERE key = ? AND (expires IS NULL OR expires > ?)", (key, now)
    ).get
    return None if found is None else _integer(found)


def _remove(connection: apsw.Connection, key: str, now: int) -> None:
    revision = last_revision(connection) + 1
    connection.execute("DELETE FROM items WHERE key = ?", (key,))
    _record(connection, revision, key, None, None, now)


def _record(
    connection: apsw.Connection, revision: int, key: str, expires: int | None, value: bytes | None, now: int
) -> None:
    connection.execute(
        "INSERT INTO changes (revision, key, expires, written, value) VALUES (?, ?, ?, ?, ?)",
        (revision, key, expires, now, value),
    )


def _items(rows: list[tuple[apsw.SQLiteValue, ...]]) -> list[Item]:
    # STRICT tables hold what their columns say.
    return [_item(*row) for row in cast("list[tuple[str, bytes, int, int | None]]", rows)]


def _item(key: str, value: bytes, revision: int, expires: int | None) -> Item:
    return Item(key, value, revision, None if expires is None else from_millis(expires))


def _change(key: str, value: bytes | None, revision: int, expires: int | None) -> Put | Delete:
    return Delete(key, revision) if value is None else Put(_item(key, value, revision, expires))


def _end(prefix: str) -> str:
    """Return the first key after all that start with the prefix, which ends in a slash."""
    return prefix[:-1] + chr(ord("/") + 1)


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"expected an integer from the database, not {value!r}")
    return value
