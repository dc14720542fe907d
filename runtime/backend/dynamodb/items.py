"""How keys, values and conditions are written in DynamoDB, and how its records are read back. Pure.

    space     S, partition key   the key's first segment: an IAM condition on dynamodb:LeadingKeys can name it
    name      S, sort key        the rest of the key
    value     B
    revision  N
    expires   N                  milliseconds since 1970, where the item expires
    ttl       N                  seconds since 1970, DynamoDB's own removal, long after `expires`

Each space has one item more, its counter: `name` is COUNTER, `revision` the newest of the space, `transaction` says
which transaction gave it, and `put` and `deleted` tell by name which revisions that one gave. The log of a space's
changes is in a partition of its own (`changelog`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from runtime.backend.base import Item, from_millis

if TYPE_CHECKING:  # the stubs are there for the type checkers only
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

COUNTER = "/revision"
"""No key's name starts with a slash: its segment before it would be empty."""

TTL_SECONDS_AFTER_EXPIRY = 48 * 3600
"""DynamoDB's own removal has no revision, so watches cannot tell of it. It comes a day after the last entry of the log
that tells of the item was to go, so that who was away that long is given a Snapshot anyway."""

Attributes = Mapping[str, Any]  # boto3's own form: {"N": "1"}, {"S": "text"}, {"B": b"bytes"}, {"M": {…}}

_NAMES = {"#revision": "revision", "#expires": "expires"}
_ALIVE = "(attribute_not_exists(#expires) OR #expires > :now)"


class If(Enum):
    """What must be true of an item for a write of it."""

    ALWAYS = None
    ABSENT = "attribute_not_exists(#revision) OR #expires <= :now"
    PRESENT = f"attribute_exists(#revision) AND {_ALIVE}"
    AT_REVISION = f"#revision = :revision AND {_ALIVE}"
    EXPIRED = "#revision = :revision AND #expires <= :now"


@dataclass(frozen=True, slots=True)
class Write:
    """One put or, where `value` is None, delete. `expires` is in milliseconds since 1970."""

    key: str
    value: bytes | None
    expires: int | None = None
    condition: If = If.ALWAYS
    revision: int = 0

    @property
    def size(self) -> int:
        """About how many bytes it takes in a request."""
        return len(self.key) * 4 + len(self.value or b"")


def split(key: str) -> tuple[str, str]:
    """Return partition and sort key."""
    space, _, name = key.partition("/")
    return space, name


def key_attributes(space: str, name: str) -> dict[str, Any]:
    """Return the primary key of an item."""
    return {"space": {"S": space}, "name": {"S": name}}


@dataclass(frozen=True, slots=True)
class Counter:
    """The newest revision of a space, the transaction that gave it, and what that one did, by key."""

    revision: int = 0
    transaction: str = ""
    put: tuple[tuple[str, int], ...] = ()
    deleted: tuple[tuple[str, int], ...] = ()


def transaction(
    table: str, space: str, writes: Iterable[Write], *, after: Counter, name: str, now: int
) -> list[TransactWriteItemTypeDef]:
    """Return the parts of a transaction that gives the writes the revisions that follow `after`, in their order.

    The first part moves the counter, if it still is at `after`. `name` tells this transaction from all others. `now` is
    in milliseconds since 1970.
    """
    parts: list[TransactWriteItemTypeDef] = []
    put: dict[str, Any] = {}
    deleted: dict[str, Any] = {}
    revision = after.revision
    for write in writes:
        revision += 1
        (deleted if write.value is None else put)[split(write.key)[1]] = {"N": str(revision)}
        parts.append(_part(table, write, revision, now))
    counter: dict[str, Any] = {
        "TableName": table,
        "Item": {
            **key_attributes(space, COUNTER),
            "revision": {"N": str(revision)},
            "transaction": {"S": name},
            "put": {"M": put},
            "deleted": {"M": deleted},
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        **_still(after),
    }
    return [{"Put": counter}, *parts]  # type: ignore[typeddict-item]  # built up as a dict: optional keys


def _still(counter: Counter) -> dict[str, Any]:
    """Return the condition that the counter is as it was read.

    The revision alone would not do: in a table that was restored, others may have brought another history to it.
    """
    values = {}
    revision = transaction = "attribute_not_exists({})"
    if counter.revision:
        revision, values[":revision"] = "{} = :revision", {"N": str(counter.revision)}
    if counter.transaction:  # a counter of the time before there was a log has none
        transaction, values[":transaction"] = "{} = :transaction", {"S": counter.transaction}
    condition: dict[str, Any] = {
        "ConditionExpression": f"{revision.format('#revision')} AND {transaction.format('#transaction')}",
        "ExpressionAttributeNames": {"#revision": "revision", "#transaction": "transaction"},
    }
    return {**condition, "ExpressionAttributeValues": values} if values else condition


def _part(table: str, write: Write, revision: int, now: int) -> TransactWriteItemTypeDef:
    space, name = split(write.key)
    part: dict[str, Any] = {"TableName": table}
    if write.condition is not If.ALWAYS:
        expression = write.condition.value
        part["ConditionExpression"] = expression
        part["ExpressionAttributeNames"] = _NAMES
        part["ExpressionAttributeValues"] = {":now": {"N": str(now)}}
        if ":revision" in expression:
            part["ExpressionAttributeValues"][":revision"] = {"N": str(write.revision)}
    if write.value is None:
        return {"Delete": {**part, "Key": key_attributes(space, name)}}  # type: ignore[typeddict-item]  # as above
    item = {**key_attributes(space, name), "value": {"B": write.value}, "revision": {"N": str(revision)}}
    if write.expires is not None:
        item["expires"] = {"N": str(write.expires)}
        item["ttl"] = {"N": str(write.expires // 1000 + TTL_SECONDS_AFTER_EXPIRY)}
    return {"Put": {**part, "Item": item}}  # type: ignore[typeddict-item]  # as above


def read_item(attributes: Attributes) -> Item:
    """Return the item that these attributes describe."""
    expires = attributes.get("expires")
    return Item(
        f"{attributes['space']['S']}/{attributes['name']['S']}",
        bytes(attributes["value"]["B"]),
        int(attributes["revision"]["N"]),
        None if expires is None else from_millis(int(expires["N"])),
    )


def read_counter(attributes: Attributes | None) -> Counter:
    """Return the counter of a space; a space that was never written is at 0."""
    if not attributes:
        return Counter()
    space = attributes["space"]["S"]
    put, deleted = (
        tuple((f"{space}/{name}", int(revision["N"])) for name, revision in attributes[kind]["M"].items())
        for kind in ("put", "deleted")
    )
    transaction = attributes.get("transaction", {"S": ""})["S"]
    return Counter(int(attributes["revision"]["N"]), transaction, put, deleted)


def settled(counter: Counter, items: Mapping[str, Item], prefix: str) -> bool:
    """Return whether the items hold what the counter's last transaction did.

    DynamoDB carries out the parts of a transaction one after the other, and a read that is no transaction itself may
    meet it in between: the counter moved, the item not yet (Developer Guide, Isolation levels).
    """
    put = all(
        key in items and items[key].revision >= revision for key, revision in counter.put if key.startswith(prefix)
    )
    return put and all(key not in items or items[key].revision > revision for key, revision in counter.deleted)
