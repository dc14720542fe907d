"""Reading DynamoDB's stream: history that is read again, a place in it that is lost, shards that end and split."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from botocore.exceptions import ClientError

from runtime.backend.base import Delete, Put
from runtime.backend.dynamodb import connection, history
from runtime.backend.options import DynamoDBOptions
from tests.contract.backend.dynamodb_store import DynamoDBStore
from tests.contract.backend.harness import PATIENCE_SECONDS, next_changes, next_event, next_snapshot

pytestmark = pytest.mark.parametrize("store", ["dynamodb"], indirect=True)


async def test_a_backend_opened_late_reads_history_again(store: DynamoDBStore) -> None:
    """From any revision, deletes included, of one space among others."""
    first = await store.open()
    changes: list[Put | Delete] = [Put(await first.put(f"resources/{number}", b"")) for number in range(10)]
    await first.put("presence/a", b"")
    await first.delete("resources/3")
    changes.append(Delete("resources/3", 11))
    late = await store.open()
    for after in (0, 7, 11):
        async with aclosing(late.watch("resources/", after=after)) as watch:
            assert await next_changes(watch, 11 - after) == changes[after:]
            marker = await first.put("resources/marker", b"")
            changes_after = await next_changes(watch, marker.revision - 11)
            assert changes_after[-1] == Put(marker)


async def test_a_consumer_slower_than_the_memory_of_changes_misses_nothing(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What memory has dropped is read from the stream again."""
    monkeypatch.setattr(history, "HISTORY_CHANGES", 5)
    backend = await store.open()
    async with aclosing(backend.watch("resources/")) as watch, aclosing(backend.watch("resources/")) as keeps_up:
        await next_snapshot(watch)
        await next_snapshot(keeps_up)
        written = [Put(await backend.put(f"resources/{number}", b"")) for number in range(40)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await next_event(keeps_up) != written[-1]:
                pass
        assert await next_changes(watch, 40) == written


async def test_a_table_that_was_made_anew_gives_a_snapshot(store: DynamoDBStore) -> None:
    """Its revisions begin again: nothing that was known before counts."""
    backend = await store.open()
    await backend.put("resources/a", b"old")
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        await store.administer(lambda client: client.delete_table(TableName=store.options.table_name))
        other = await store.open()
        new = [await other.put(f"resources/{name}", b"new") for name in "bcd"]
        assert set((await next_snapshot(watch)).items) <= set(new)
        last = await other.put("resources/e", b"new")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await next_event(watch) != Put(last):
                pass


@pytest.fixture
def adapt(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], None]], None]:
    """Let the test change each client of DynamoDB Streams that is made from now on."""
    clients = connection._clients

    def adapt(change: Callable[[Any], None]) -> None:
        def adapted(options: DynamoDBOptions) -> Any:
            dynamodb, streams = clients(options)
            change(streams)
            return dynamodb, streams

        monkeypatch.setattr(connection, "_clients", adapted)

    return adapt


def aws_error(code: str, operation: str) -> ClientError:
    """Return AWS's refusal of that code."""
    return ClientError({"Error": {"Code": code, "Message": "by the test"}}, operation)


class Split:
    """Shows DynamoDB Local's one shard, which ends after hours only, as AWS shows one that has split.

    With `after` set, what came up to that revision is in a parent that has ended, what came later in two children.
    """

    def __init__(self) -> None:
        self.after: int | None = None
        self.trimmed = False  # whether the parent has been removed, as AWS does after 24 hours

    def adapt(self, client: Any) -> None:
        """Change a client."""
        describe, place, read = client.describe_stream, client.get_shard_iterator, client.get_records

        def describe_stream(**request: Any) -> Any:
            answer = describe(**request)
            (parent,) = answer["StreamDescription"]["Shards"]
            if self.after is not None:
                parent["SequenceNumberRange"]["EndingSequenceNumber"] = "1"
                answer["StreamDescription"]["Shards"] += [
                    {"ShardId": f"{parent['ShardId']}/{child}", "SequenceNumberRange": {"StartingSequenceNumber": "2"}}
                    for child in (0, 1)
                ]
            return answer

        def get_shard_iterator(*, ShardId: str, **request: Any) -> Any:  # noqa: N803 - AWS's
            parent, _, child = ShardId.partition("/")
            if self.trimmed and not child:
                raise aws_error("ResourceNotFoundException", "GetShardIterator")
            return {"ShardIterator": f"{child}/{place(ShardId=parent, **request)['ShardIterator']}"}

        def get_records(*, ShardIterator: str) -> Any:  # noqa: N803 - AWS's
            child, _, iterator = ShardIterator.partition("/")
            answer = read(ShardIterator=iterator)
            found, answer["Records"] = (
                answer["Records"],
                [each for each in answer["Records"] if self._of(each) == child],
            )
            ends = self.after is not None and not child and (not found or len(found) > len(answer["Records"]))
            following = answer.pop("NextShardIterator")
            return answer if ends else {**answer, "NextShardIterator": f"{child}/{following}"}

        client.describe_stream, client.get_shard_iterator, client.get_records = (
            describe_stream,
            get_shard_iterator,
            get_records,
        )

    def _of(self, record: Any) -> str:
        """Return the child that the record is in; none is the parent."""
        revision = int(record["dynamodb"]["NewImage"]["revision"]["N"]) if "NewImage" in record["dynamodb"] else 0
        return "" if self.after is None or revision <= self.after else str(revision % 2)


@pytest.mark.parametrize("trimmed", [False, True])
async def test_a_shard_that_splits_loses_nothing(
    store: DynamoDBStore, adapt: Callable[[Callable[[Any], None]], None], *, trimmed: bool
) -> None:
    """A watch goes on in both children; a later one starts in the parent, or has a Snapshot once that is trimmed."""
    split = Split()
    adapt(split.adapt)
    backend = await store.open()
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        before = [Put(await backend.put(f"resources/{number}", b"before")) for number in range(5)]
        assert await next_changes(watch, 5) == before
        split.after = before[-1].revision
        after: list[Put | Delete] = [Put(await backend.put(f"resources/{n % 5}", b"after")) for n in range(10)]
        await backend.delete("resources/0")
        after.append(Delete("resources/0", after[-1].revision + 1))
        assert await next_changes(watch, 11) == after
    split.trimmed = trimmed
    late = await store.open()
    async with aclosing(late.watch("resources/", after=1)) as watch:
        if trimmed:
            assert (await next_snapshot(watch)).items == (await backend.range("resources/")).items
        else:
            assert await next_changes(watch, 15) == [*before[1:], *after]
        last = await backend.put("resources/last", b"")
        assert await next_event(watch) == Put(last)


async def test_a_place_in_the_stream_that_has_expired_is_taken_anew(
    store: DynamoDBStore, adapt: Callable[[Callable[[Any], None]], None], caplog: pytest.LogCaptureFixture
) -> None:
    """As when a process slept for longer than 15 minutes: what was written meanwhile comes, once and in order."""
    expired, written = threading.Event(), threading.Event()

    def expire(client: Any) -> None:
        place, read = client.get_shard_iterator, client.get_records

        def get_shard_iterator(**request: Any) -> Any:
            if expired.is_set():
                assert written.wait(PATIENCE_SECONDS)
                expired.clear()
            return place(**request)

        def get_records(**request: Any) -> Any:
            if expired.is_set():
                raise aws_error("ExpiredIteratorException", "GetRecords")
            return read(**request)

        client.get_shard_iterator, client.get_records = get_shard_iterator, get_records

    adapt(expire)
    backend = await store.open()
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        first = await backend.put("resources/a", b"")
        assert await next_event(watch) == Put(first)
        expired.set()
        missed = [Put(await backend.put(f"resources/{number % 3}", b"")) for number in range(10)]
        written.set()
        assert await next_changes(watch, 10) == missed
        last = await backend.put("resources/a", b"")
        assert await next_event(watch) == Put(last)
    assert "ExpiredIteratorException" in caplog.text
