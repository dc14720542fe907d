"""Reads DynamoDB Streams: one reader a backend, which feeds the histories of all spaces.

Every record says by itself which revision it is of, and who follows a history goes from one revision to the next. So
shards may be read side by side, in any order, and once more from the beginning: order, gaps and duplicates are settled
by arithmetic, not by the lineage of shards.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

from botocore.exceptions import ClientError

from runtime.backend.base import Delete, Put
from runtime.backend.dynamodb import failures
from runtime.backend.dynamodb.connection import Connection
from runtime.backend.dynamodb.history import History, key_of, size
from runtime.backend.dynamodb.items import read_record, split
from runtime.backend.dynamodb.table import ensure_stream
from runtime.core.errors import TeleportError, Unavailable

if TYPE_CHECKING:  # the stubs are there for the type checkers only
    from mypy_boto3_dynamodbstreams.type_defs import ShardTypeDef

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.25
"""Between two reads of a shard that had nothing new: as often as AWS Lambda does."""

DISCOVER_SECONDS = 10.0
"""Between two looks for new shards; when one ends we look at once."""

QUIET_ROUNDS = 8
"""So many reads in a row without a record, 2 s in all, and a stream that is read again has given what it has."""

REPLAY_BYTES = 64 * 1024 * 1024
"""What reading a stream again may take of memory; who would need more is given a Snapshot."""

MAX_PAUSE_SECONDS = 5.0

_LOST = frozenset({"ExpiredIteratorException", "ResourceNotFoundException", "TrimmedDataAccessException"})


class StreamReader:
    """Follows the table's stream while `run` runs.

    `generation` counts how often the place in the stream was taken anew, 0 meaning not yet: changes before that may be
    missing from the histories, and who follows one asks the counter again.
    """

    def __init__(self, connection: Connection, listener: Callable[[Put | Delete], None]) -> None:
        self.generation = 0
        self.stream = ""  # its ARN
        self.refusal: TeleportError | None = None  # why the stream cannot be read, where waiting does not help
        self._connection = connection
        self._listener = listener
        self._histories: dict[str, History] = {}
        self._news = asyncio.Event()
        self._iterators: dict[str, str] | None = None  # of the shards that are being read
        self._seen: set[str] = set()
        self._discover_at = 0.0

    def history(self, space: str) -> History:
        """Return the history of a space, which goes on growing."""
        return self._histories.setdefault(space, History())

    async def news(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the end of the time is no error here
        """Wait until there is a change, a new generation, a refusal or `wake` was called, or `timeout` seconds pass."""
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            pass

    def wake(self) -> None:
        """Let all who wait for news look again."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def run(self) -> None:
        """Read until cancelled. Losing the store is logged once and waited for."""
        lost = 0
        while True:
            try:
                busy = await self._step()
            except TeleportError as error:
                if not lost:
                    logger.warning("lost the stream of the dynamodb table %s: %s", self._connection.table, error)
                lost += 1
                self.refusal = None if isinstance(error, Unavailable) else error
                self.wake()
                await asyncio.sleep(min(POLL_SECONDS * 2 ** min(lost, 8), MAX_PAUSE_SECONDS))
                continue
            if lost:
                logger.info("the stream of the dynamodb table %s is read again", self._connection.table)
                lost, self.refusal = 0, None
            if not busy:
                await asyncio.sleep(POLL_SECONDS)

    async def replay(self, space: str, first: int, last: int) -> dict[int, Put | Delete] | None:
        """Read the stream once more from its beginning for these revisions; None when it does not hold them all.

        Raises Unavailable, AccessDenied.
        """
        found: dict[int, Put | Delete] = {}
        taken = quiet = 0
        iterators = await self._from_beginning()
        while len(found) < last - first + 1:
            if quiet >= QUIET_ROUNDS or taken > REPLAY_BYTES:
                return None
            if quiet:
                await asyncio.sleep(POLL_SECONDS)
            quiet += 1
            for shard in list(iterators):
                try:
                    changes, following = await self._page(iterators.pop(shard))
                except ClientError as error:
                    raise_unless_lost(error, self._connection.table)
                    continue
                if following:
                    iterators[shard] = following
                if changes:
                    quiet = 0
                for change in changes:
                    if split(key_of(change))[0] == space and first <= change.revision <= last:
                        taken += 0 if change.revision in found else size(change)
                        found[change.revision] = change
        return found

    async def _step(self) -> bool:
        """Read every shard once; return whether there was anything. Raises TeleportError."""
        try:
            if self._iterators is None:
                await self._begin()
            elif time.monotonic() >= self._discover_at:
                await self._discover(self._iterators)
            return await self._read_all(self._iterators or {})
        except ClientError as error:
            raise_unless_lost(error, self._connection.table)
            logger.warning(
                "the place in the stream of the dynamodb table %s is lost (%s), taking it anew",
                self._connection.table,
                failures.code(error),
            )
            self._iterators = None
            return False

    async def _begin(self) -> None:
        """Take the newest place of every shard."""
        self._take(await ensure_stream(self._connection))
        shards = await self._shards(self.stream)
        open_shards = [shard for shard in shards if "EndingSequenceNumber" not in shard.get("SequenceNumberRange", {})]
        iterators = await self._places(self.stream, open_shards, "LATEST")
        # "Latest" is fixed by the first answer for certain; only then is the counter asked where that is.
        await self._read_all(iterators)
        self._seen = {shard.get("ShardId", "") for shard in shards}
        self._iterators = iterators
        self._discover_at = time.monotonic() + DISCOVER_SECONDS
        self._next_generation()

    async def _discover(self, iterators: dict[str, str]) -> None:
        """Add the shards that have come since, from their beginning."""
        arn = await ensure_stream(self._connection)
        if arn != self.stream and iterators:
            return  # a new stream took the place of ours; ours is read to its end first
        shards = await self._shards(arn)
        new = [shard for shard in shards if shard.get("ShardId", "") not in self._seen]
        iterators.update(await self._places(arn, new, "TRIM_HORIZON"))
        self._seen = {shard.get("ShardId", "") for shard in shards}
        self._discover_at = time.monotonic() + DISCOVER_SECONDS
        if arn != self.stream:
            self._take(arn)
            self._next_generation()

    async def _from_beginning(self) -> dict[str, str]:
        arn = await ensure_stream(self._connection)
        return await self._places(arn, await self._shards(arn), "TRIM_HORIZON")

    async def _shards(self, arn: str) -> list[ShardTypeDef]:
        shards: list[ShardTypeDef] = []
        start: dict[str, str] = {}
        while True:
            answer = await self._connection.read_stream(
                lambda client, start=start: client.describe_stream(StreamArn=arn, **start)  # type: ignore[misc]  # one optional key
            )
            description = answer["StreamDescription"]
            shards += description.get("Shards", [])
            if not (last := description.get("LastEvaluatedShardId")):
                return shards
            start = {"ExclusiveStartShardId": last}

    async def _places(
        self, arn: str, shards: Iterable[ShardTypeDef], place: Literal["LATEST", "TRIM_HORIZON"]
    ) -> dict[str, str]:
        iterators = {}
        for shard in shards:
            name = shard.get("ShardId", "")
            try:
                answer = await self._connection.read_stream(
                    lambda client, name=name: client.get_shard_iterator(  # type: ignore[misc]  # bound at once
                        StreamArn=arn, ShardId=name, ShardIteratorType=place
                    )
                )
            except ClientError as error:
                raise_unless_lost(error, self._connection.table)  # trimmed between the two calls: it holds nothing
                continue
            iterators[name] = answer["ShardIterator"]
        return iterators

    async def _read_all(self, iterators: dict[str, str]) -> bool:
        results = await asyncio.gather(
            *(self._read(iterators, shard) for shard in list(iterators)), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return any(results)

    async def _read(self, iterators: dict[str, str], shard: str) -> bool:
        changes, following = await self._page(iterators[shard])
        if following:
            iterators[shard] = following
        else:
            del iterators[shard]
            self._discover_at = 0.0  # a shard ends when others take its place
        for change in changes:
            self.history(split(key_of(change))[0]).add(change)
            self._listener(change)
        if changes:
            self.wake()
        return bool(changes)

    async def _page(self, iterator: str) -> tuple[list[Put | Delete], str | None]:
        answer = await self._connection.read_stream(lambda client: client.get_records(ShardIterator=iterator))
        changes: list[Put | Delete] = []
        for record in answer["Records"]:
            if image := record.get("dynamodb", {}).get("NewImage"):  # a deletion is told by the counter's record
                changes += read_record(image)
        return changes, answer.get("NextShardIterator")

    def _take(self, arn: str) -> None:
        if self.stream and arn != self.stream:
            # It may come with another table: one that was restored, or deleted and made again.
            logger.warning("the dynamodb table %s has a new stream: watches start anew", self._connection.table)
            for history in self._histories.values():
                history.clear()
        self.stream = arn

    def _next_generation(self) -> None:
        self.generation += 1
        self.wake()


def raise_unless_lost(error: ClientError, table: str) -> None:
    """Return when AWS says that what was asked for is no longer there. Raises TeleportError for all else."""
    if failures.code(error) not in _LOST:
        raise failures.translated(error, table) from error
