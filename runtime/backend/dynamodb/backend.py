"""The port on DynamoDB: checks what comes in, and puts the parts of this package together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from runtime.backend.base import (
    Event,
    Item,
    Snapshot,
    check_value,
    closed,
    from_millis,
    not_found,
    to_millis,
)
from runtime.backend.dynamodb import failures, table
from runtime.backend.dynamodb.connection import Connection, jitter
from runtime.backend.dynamodb.expiry import SWEEP_SECONDS, Expiry, Sweeper
from runtime.backend.dynamodb.items import (
    COUNTER,
    If,
    Write,
    key_attributes,
    read_item,
    settled,
    split,
)
from runtime.backend.dynamodb.stream import StreamReader
from runtime.backend.dynamodb.watch import Watch
from runtime.backend.dynamodb.writer import SpaceWriter, counter
from runtime.backend.options import DynamoDBOptions
from runtime.core.clock import Clock
from runtime.core.errors import Unavailable
from runtime.core.keys import check_key, check_prefix

logger = logging.getLogger(__name__)


class DynamoDBBackend:
    """One table of DynamoDB. Open it with `open`."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._closed = False
        self._writers: dict[str, SpaceWriter] = {}
        self._spaces: dict[str, int] = {}  # those in use → the stream's generation since which their changes are heard
        self._sweeper = Sweeper(clock, expiring=self._expiring, write=self._write)
        self._reader = StreamReader(connection, self._sweeper.note)
        self._tasks = [
            asyncio.create_task(self._reader.run(), name="dynamodb stream"),
            asyncio.create_task(self._sweeper.run(), name="dynamodb expiry"),
            asyncio.create_task(self._sweep_again(), name="dynamodb spaces"),
        ]
        for task in self._tasks:
            task.add_done_callback(_tell_of_a_bug)

    @classmethod
    async def open(cls, options: DynamoDBOptions, *, clock: Clock) -> DynamoDBBackend:
        """Connect, and make the table, its stream and its TTL where they are missing.

        Raises InvalidSettings (no credentials, a table that is not ours), AccessDenied, Unavailable.
        """
        connection = await Connection.open(options)
        try:
            await table.prepare(connection)
        except BaseException:
            await connection.close()
            raise
        return cls(connection, clock)

    @property
    def throttled(self) -> int:
        """How often AWS has asked this backend to come back later."""
        return self._connection.throttled

    @property
    def stream(self) -> str:
        """The ARN of the stream that is being read; empty before and after."""
        return self._reader.stream if self._reader.generation and not self._closed else ""

    async def get(self, key: str) -> Item:
        """Return the item. Raises NotFound."""
        space, name = self._used(check_key(key))
        answer = await self._request(
            lambda client: client.get_item(
                TableName=self._connection.table, Key=key_attributes(space, name), ConsistentRead=True
            )
        )
        if "Item" not in answer or not self._alive(item := read_item(answer["Item"])):
            raise not_found(key)
        return item

    async def put(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Write the item whatever was there."""
        return await self._put(key, value, expires, If.ALWAYS)

    async def create(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Write the item if the key is absent. Raises AlreadyExists."""
        return await self._put(key, value, expires, If.ABSENT)

    async def compare_and_swap(self, key: str, value: bytes, *, revision: int, expires: datetime | None = None) -> Item:
        """Write the item if it is still at `revision`. Raises CompareFailed."""
        return await self._put(key, value, expires, If.AT_REVISION, revision)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Delete the item. Raises NotFound, or with a revision CompareFailed."""
        check_key(key)
        condition = If.PRESENT if revision is None else If.AT_REVISION
        await self._write(Write(key, None, condition=condition, revision=revision or 0))

    async def range(self, prefix: str) -> Snapshot:
        """Return all items below the prefix."""
        space, below = self._used(check_prefix(prefix))
        deadline = time.monotonic() + self._connection.timeout
        attempt = 0
        while True:
            before = await counter(self._connection, space)
            items = {item.key: item for item in await self._below(space, below)}
            if settled(before, items, prefix):
                alive = tuple(item for item in items.values() if self._alive(item))
                return Snapshot(alive, before.revision)
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"a write below {prefix} has been half done for {self._connection.timeout:g} s",
                    hint="Try again; DynamoDB ends or undoes it by itself.",
                )
            await asyncio.sleep(jitter(attempt))
            attempt += 1

    def watch(self, prefix: str, *, after: int | None = None) -> AsyncGenerator[Event, None]:
        """Follow all items below the prefix."""
        self._used(check_prefix(prefix))
        watch = Watch(
            self._connection,
            self._reader,
            prefix,
            snapshot=lambda: self.range(prefix),
            closed=lambda: self._closed,
        )
        return watch.events(after)

    async def close(self) -> None:
        """End watches, tasks, threads and connections."""
        if self._closed:
            return
        self._closed = True
        self._reader.wake()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()
        await asyncio.gather(*(writer.close() for writer in self._writers.values()))

    async def _put(self, key: str, value: bytes, expires: datetime | None, condition: If, revision: int = 0) -> Item:
        check_key(key)
        check_value(value)
        millis = None if expires is None else to_millis(expires)
        value = bytes(value)
        written = await self._write(Write(key, value, millis, condition, revision))
        return Item(key, value, written, None if millis is None else from_millis(millis))

    async def _write(self, write: Write) -> int:
        space, _ = self._used(write.key)
        if space not in self._writers:
            self._writers[space] = SpaceWriter(self._connection, space, self._clock)
        return await self._writers[space].write(write)

    async def _below(self, space: str, below: str) -> list[Item]:
        condition = "#space = :space"
        query: dict[str, Any] = {
            "ExpressionAttributeNames": {"#space": "space"},
            "ExpressionAttributeValues": {":space": {"S": space}},
        }
        if below:
            condition += " AND begins_with(#name, :below)"
            query["ExpressionAttributeNames"]["#name"] = "name"
            query["ExpressionAttributeValues"][":below"] = {"S": below}
        found = await self._query({**query, "KeyConditionExpression": condition})
        return [read_item(each) for each in found if each["name"]["S"] != COUNTER]

    async def _expiring(self, space: str) -> list[Expiry]:
        found = await self._query(
            {
                "KeyConditionExpression": "#space = :space",
                "FilterExpression": "attribute_exists(#expires)",
                "ProjectionExpression": "#name, #expires, #revision",
                "ExpressionAttributeNames": {
                    "#space": "space",
                    "#name": "name",
                    "#expires": "expires",
                    "#revision": "revision",
                },
                "ExpressionAttributeValues": {":space": {"S": space}},
            }
        )
        return [
            (int(each["expires"]["N"]), f"{space}/{each['name']['S']}", int(each["revision"]["N"])) for each in found
        ]

    async def _query(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        start: dict[str, Any] = {}
        while True:
            page = {"TableName": self._connection.table, "ConsistentRead": True, **query, **start}
            answer = await self._request(lambda client, page=page: client.query(**page))
            found += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return found
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    async def _request(self, call: Any) -> Any:
        """Send a read. There is nothing to decide on in its answer but what it found."""
        try:
            return await self._connection.request(call)
        except ClientError as error:
            raise failures.translated(error, self._connection.table) from error

    async def _sweep_again(self) -> None:
        """Have the sweeper read each space in use once its changes are heard, and again when some were missed."""
        while True:
            for space, generation in self._spaces.items():
                if generation < self._reader.generation:
                    self._spaces[space] = self._reader.generation
                    self._sweeper.read_again(space)
            await self._reader.news(SWEEP_SECONDS)

    def _used(self, key: str) -> tuple[str, str]:
        if self._closed:
            raise closed(f"the dynamodb table {self._connection.table}")
        space, name = split(key)
        self._spaces.setdefault(space, 0)
        return space, name

    def _alive(self, item: Item) -> bool:
        return item.expires is None or self._clock.now() < item.expires


def _tell_of_a_bug(task: asyncio.Task[None]) -> None:
    """Log why a task of ours ended that has no reason to."""
    if not task.cancelled() and (error := task.exception()):
        logger.error("the task %s has failed", task.get_name(), exc_info=error)
