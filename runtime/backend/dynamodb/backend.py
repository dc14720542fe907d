"""The port on DynamoDB: checks what comes in, and puts the parts of this package together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

from runtime.backend.base import (
    Event,
    Item,
    Put,
    Snapshot,
    check_value,
    closed,
    from_millis,
    not_found,
    to_millis,
)
from runtime.backend.dynamodb import reads, table
from runtime.backend.dynamodb.connection import Connection, jitter
from runtime.backend.dynamodb.expiry import Expiry, Sweeper
from runtime.backend.dynamodb.items import COUNTER, If, Write, read_item, settled, split
from runtime.backend.dynamodb.poller import Pollers, tell_of_a_bug
from runtime.backend.dynamodb.watch import Watch
from runtime.backend.dynamodb.writer import SpaceWriter
from runtime.backend.options import DynamoDBOptions
from runtime.core.clock import Clock
from runtime.core.errors import Unavailable
from runtime.core.keys import check_key, check_prefix

SOON = timedelta(hours=1)
"""What this backend writes and expires sooner it deletes then, watched or not; the rest may wait for DynamoDB's TTL."""


class DynamoDBBackend:
    """One table of DynamoDB. Open it with `open`."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock
        self._closed = False
        self._writers: dict[str, SpaceWriter] = {}
        self._sweeper = Sweeper(clock, expiring=self._expiring, write=self._write)
        self._pollers = Pollers(connection, heard=self._sweeper.note, begun=self._sweeper.read_again)
        self._sweeping = asyncio.create_task(self._sweeper.run(), name="dynamodb expiry")
        self._sweeping.add_done_callback(tell_of_a_bug)

    @classmethod
    async def open(cls, options: DynamoDBOptions, *, clock: Clock) -> DynamoDBBackend:
        """Connect, and make the table and its TTL where they are missing.

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

    async def get(self, key: str) -> Item:
        """Return the item. Raises NotFound."""
        found = await reads.get(self._connection, *self._split(check_key(key)))
        if found is None or not self._alive(item := read_item(found)):
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
        space, below = self._split(check_prefix(prefix))
        deadline = time.monotonic() + self._connection.timeout
        attempt = 0
        while True:
            before = await reads.counter(self._connection, space)
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

    async def watch(self, prefix: str, *, after: int | None = None) -> AsyncGenerator[Event, None]:
        """Follow all items below the prefix."""
        space, _ = self._split(check_prefix(prefix))

        async def newest() -> int:
            return (await reads.counter(self._connection, space)).revision

        with self._pollers.follow(space) as poller:
            watch = Watch(
                poller, prefix, snapshot=lambda: self.range(prefix), newest=newest, closed=lambda: self._closed
            )
            async with aclosing(watch.events(after)) as events:
                async for event in events:
                    yield event

    async def close(self) -> None:
        """End watches, tasks, threads and connections."""
        if self._closed:
            return
        self._closed = True
        self._sweeping.cancel()
        await asyncio.gather(self._sweeping, self._pollers.close(), return_exceptions=True)
        await self._connection.close()
        await asyncio.gather(*(writer.close() for writer in self._writers.values()))

    async def _put(self, key: str, value: bytes, expires: datetime | None, condition: If, revision: int = 0) -> Item:
        check_key(key)
        check_value(value)
        millis = None if expires is None else to_millis(expires)
        value = bytes(value)
        written = await self._write(Write(key, value, millis, condition, revision))
        item = Item(key, value, written, None if millis is None else from_millis(millis))
        if item.expires is None or item.expires - self._clock.now() < SOON:
            self._sweeper.note(Put(item))
        return item

    async def _write(self, write: Write) -> int:
        space, _ = self._split(write.key)
        if space not in self._writers:
            self._writers[space] = SpaceWriter(
                self._connection, space, self._clock, written=lambda: self._pollers.hurry(space)
            )
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
        async with aclosing(reads.pages(self._connection, query)) as pages:
            return [found async for page in pages for found in page]

    def _split(self, key: str) -> tuple[str, str]:
        if self._closed:
            raise closed(f"the dynamodb table {self._connection.table}")
        return split(key)

    def _alive(self, item: Item) -> bool:
        return item.expires is None or self._clock.now() < item.expires
