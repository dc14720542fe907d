"""The log of a space's changes, kept in the table beside the space. Pure.

    space        S, partition key   the space and "/log": an IAM condition names both, and no space is called so
    name         S, sort key        the revision of the entry's last change, 20 digits, so that text sorts as numbers do
    transaction  S                  which transaction wrote it
    previous     S                  which transaction the changes before it are of
    changes      L                  of maps: name; value, unless it was deleted; expires, where it does
    ttl          N                  seconds since 1970, when DynamoDB may remove it

Revisions are dense, so a change's revision follows from its place: the last one has the entry's, the one before it one
less. A transaction writes one entry, or several where they would not fit into an item.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runtime.backend.base import Delete, Item, Put, from_millis
from runtime.backend.dynamodb.items import Attributes, Write, key_attributes, split

if TYPE_CHECKING:  # the stubs are there for the type checkers only
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

LOG_SECONDS = 24 * 3600
"""How long an entry is kept at the least. Who was away for longer is given a Snapshot."""

ENTRY_BYTES = 390 * 1024
"""Of the 400 KB that AWS allows an item; the largest value with the longest key fits."""

_CHANGE_BYTES = 64
"""At the most what a change takes beside its name and value."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Successive changes that one transaction made."""

    changes: tuple[Put | Delete, ...]
    transaction: str
    previous: str

    @property
    def first(self) -> int:
        """The revision of its first change."""
        return self.changes[0].revision

    @property
    def last(self) -> int:
        """The revision of its last change."""
        return self.changes[-1].revision


def partition(space: str) -> str:
    """Return the partition key of a space's log."""
    return f"{space}/log"


def entries(
    table: str, space: str, writes: Iterable[Write], *, after: int, transaction: str, previous: str, now: int
) -> list[TransactWriteItemTypeDef]:
    """Return the parts of a transaction that log these writes; see `items.transaction` for `after` and `now`."""
    parts: list[TransactWriteItemTypeDef] = []
    revision = after
    for group in _groups(writes):
        revision += len(group)
        item = {
            **key_attributes(partition(space), _name(revision)),
            "transaction": {"S": transaction},
            "previous": {"S": transaction if parts else previous},
            "changes": {"L": [_change(write) for write in group]},
            "ttl": {"N": str(now // 1000 + LOG_SECONDS)},
        }
        parts.append({"Put": {"TableName": table, "Item": item}})
    return parts


def between(space: str, after: int, upto: int) -> dict[str, Any]:
    """Return the query for the entries that hold the changes above `after`, up to `upto` where an entry ends."""
    return {
        "KeyConditionExpression": "#space = :space AND #name BETWEEN :first AND :last",
        "ExpressionAttributeNames": {"#space": "space", "#name": "name"},
        "ExpressionAttributeValues": {
            ":space": {"S": partition(space)},
            ":first": {"S": _name(after + 1)},
            ":last": {"S": _name(upto)},
        },
    }


def read_entry(attributes: Attributes) -> Entry:
    """Return the entry that these attributes describe."""
    space = attributes["space"]["S"].partition("/")[0]
    changes = attributes["changes"]["L"]
    first = int(attributes["name"]["S"]) - len(changes) + 1
    return Entry(
        tuple(_read_change(space, first + place, change["M"]) for place, change in enumerate(changes)),
        attributes["transaction"]["S"],
        attributes["previous"]["S"],
    )


def _name(revision: int) -> str:
    return f"{revision:020}"


def _groups(writes: Iterable[Write]) -> Iterator[list[Write]]:
    group: list[Write] = []
    size = 0
    for write in writes:
        more = len(write.key.encode()) + len(write.value or b"") + _CHANGE_BYTES
        if group and size + more > ENTRY_BYTES:
            yield group
            group, size = [], 0
        group.append(write)
        size += more
    yield group


def _change(write: Write) -> dict[str, Any]:
    change: dict[str, Any] = {"name": {"S": split(write.key)[1]}}
    if write.value is not None:
        change["value"] = {"B": write.value}
        if write.expires is not None:
            change["expires"] = {"N": str(write.expires)}
    return {"M": change}


def _read_change(space: str, revision: int, change: Attributes) -> Put | Delete:
    key = f"{space}/{change['name']['S']}"
    if "value" not in change:
        return Delete(key, revision)
    expires = change.get("expires")
    return Put(
        Item(key, bytes(change["value"]["B"]), revision, None if expires is None else from_millis(int(expires["N"])))
    )
