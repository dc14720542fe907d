"""The log of changes in DynamoDB's table: what it holds, how it is followed, and what becomes of watches without it."""

from __future__ import annotations

import asyncio
import itertools
import os
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runtime.backend.base import MAX_VALUE_BYTES, Delete, Item, Put, Snapshot
from runtime.backend.dynamodb import changelog, history, items, poller
from runtime.core.clock import ManualClock
from runtime.core.keys import MAX_KEY_BYTES
from tests.contract.backend.dynamodb_store import DynamoDBStore
from tests.contract.backend.harness import PATIENCE_SECONDS, next_changes, next_event, next_snapshot, values

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

on_dynamodb = pytest.mark.parametrize("store", ["dynamodb"], indirect=True)

NEVER_SECONDS = 3600.0


@on_dynamodb
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


@on_dynamodb
async def test_a_watch_may_begin_in_the_middle_of_a_transaction(store: DynamoDBStore) -> None:
    """Each revision is a place in history, also where many were written together."""
    first = await store.open()
    written = sorted(
        await asyncio.gather(*(first.put(f"resources/{number}", b"") for number in range(30))),
        key=lambda item: item.revision,
    )
    assert len(await logged(store)) < 30
    late = await store.open()
    for after in range(0, 30, 7):
        async with aclosing(late.watch("resources/", after=after)) as watch:
            assert await next_changes(watch, 30 - after) == [Put(item) for item in written[after:]]


@on_dynamodb
async def test_a_consumer_slower_than_the_memory_of_changes_misses_nothing(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What memory has dropped is read from the log."""
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


@on_dynamodb
async def test_the_largest_values_written_together_come_through(store: DynamoDBStore) -> None:
    """Twelve of them, with the longest keys: more than one item of the log, and more than one transaction, can hold."""
    writer, reader = await store.open(), await store.open()
    keys = [f"resources/{number:02}".ljust(MAX_KEY_BYTES, "k") for number in range(12)]
    async with aclosing(reader.watch("resources/")) as watch:
        await next_snapshot(watch)
        written = await asyncio.gather(*(writer.put(key, os.urandom(MAX_VALUE_BYTES)) for key in keys))
        expected = [Put(item) for item in sorted(written, key=lambda item: item.revision)]
        assert await next_changes(watch, 12) == expected
    late = await store.open()
    async with aclosing(late.watch("resources/", after=0)) as watch:
        assert await next_changes(watch, 12) == expected
    entries = await logged(store)
    assert len({entry.transaction for entry in entries}) < len(entries)


@on_dynamodb
async def test_all_watches_of_a_space_share_one_poller(store: DynamoDBStore) -> None:
    """It is there as long as anybody watches: a backend that watches nothing asks nothing."""

    def pollers() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("dynamodb log")]

    backend = await store.open()
    await backend.put("resources/a", b"")
    assert pollers() == []
    async with AsyncExitStack() as stack:
        for number in range(10):
            prefix = "presence/" if number == 9 else f"resources/{number}/"
            await next_snapshot(await stack.enter_async_context(aclosing(backend.watch(prefix))))
        assert sorted(pollers()) == ["dynamodb log of presence", "dynamodb log of resources"]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while pollers():  # noqa: ASYNC110 - tasks that just ended leave the set without an event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("quiet", "pause"), [(0, 0.05), (0.2, 0.05), (2, 0.5), (4, 1), (100_000, 1)])
def test_a_poller_is_quick_after_a_change_and_slows_down(quiet: float, pause: float) -> None:
    """Seconds since the last change, and between two looks."""
    assert poller.pause(quiet) == pytest.approx(pause)


@on_dynamodb
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
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pollers look only when the backend itself has written."""
    monkeypatch.setattr(poller, "BUSY_SECONDS", NEVER_SECONDS)
    monkeypatch.setattr(poller, "IDLE_SECONDS", NEVER_SECONDS)


@on_dynamodb
@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("writes", [0, 2, 3, 5])
async def test_a_table_restored_behind_a_watchs_back_gives_a_snapshot(store: DynamoDBStore, writes: int) -> None:
    """Wherever others have brought it since: before the revision that the watch knows, to it, or past it."""
    backend, other = await store.open(), await store.open()
    kept = await backend.put("resources/kept", b"")
    copy = await scan(store)
    lost = [await backend.put(f"resources/lost{number}", b"") for number in range(3)]
    async with aclosing(backend.watch("resources/")) as watch:
        assert (await next_snapshot(watch)).revision == lost[-1].revision
        await restore(store, copy)
        new = [await other.put(f"resources/new{number}", b"") for number in range(writes)]
        # It knew the counter of the lost history, by which it must not be misled either.
        new.append(await backend.put("resources/last", b""))
        snapshot = await next_snapshot(watch)
        assert set(values(snapshot.items)) == {item.key for item in [kept, *new]}
        follows = await backend.put("resources/follows", b"")
        assert await next_event(watch) == Put(follows)


@on_dynamodb
@pytest.mark.usefixtures("unhurried")
async def test_an_entry_that_is_gone_gives_a_snapshot(store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that is open and has not read it yet learns the state instead, once, and what follows it."""
    backend, other = await store.open(), await store.open()
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        before = await other.put("resources/a", b"1")
        await other.put("resources/a", b"2")
        await store.forget_history()
        monkeypatch.setattr(poller, "BUSY_SECONDS", 0.1)
        last = await backend.put("resources/b", b"3")
        snapshot = await next_snapshot(watch)
        assert snapshot.revision >= last.revision > before.revision
        assert values(snapshot.items) == {"resources/a": b"2", "resources/b": b"3"}
        follows = await other.put("resources/a", b"4")
        assert await next_event(watch) == Put(follows)


@on_dynamodb
@pytest.mark.usefixtures("unhurried")
async def test_an_entry_that_comes_after_its_counter_is_waited_for(
    store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader may meet a transaction half done; the next look finds the rest, and nothing is told twice."""
    monkeypatch.setattr(poller, "HOLE_SECONDS", NEVER_SECONDS)
    backend, other = await store.open(), await store.open()
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        first = await other.put("resources/a", b"1")
        entries = [item for item in await scan(store) if item["space"]["S"] == "resources/log"]
        await store.forget_history()
        looked = asyncio.Event()
        read_on = poller.Poller._read_on

        async def reads_on(self: poller.Poller, now: items.Counter) -> None:
            await read_on(self, now)
            looked.set()

        monkeypatch.setattr(poller.Poller, "_read_on", reads_on)
        monkeypatch.setattr(poller, "BUSY_SECONDS", 0.1)
        second = await backend.put("resources/b", b"2")
        async with asyncio.timeout(PATIENCE_SECONDS):
            await looked.wait()
        await fill(store, entries)
        assert await next_changes(watch, 2) == [Put(first), Put(second)]
        third = await other.put("resources/a", b"3")
        assert await next_event(watch) == Put(third)


@on_dynamodb
async def test_a_table_of_the_time_before_the_log_goes_on(store: DynamoDBStore) -> None:
    """Its items and counter count on; who knew an older revision gets a Snapshot; the next write is logged."""
    backend = await store.open()
    old = await backend.put("resources/a", b"old")
    newer = await backend.put("resources/b", b"newer")
    await backend.close()
    await forget_the_log(store)
    backend = await store.open()
    async with aclosing(backend.watch("resources/", after=old.revision)) as watch:
        assert (await next_snapshot(watch)).items == (old, newer)
        next_one = await backend.put("resources/c", b"new")
        assert next_one.revision == newer.revision + 1
        assert await next_event(watch) == Put(next_one)


@on_dynamodb
async def test_a_process_of_the_time_before_the_log_may_still_write(store: DynamoDBStore) -> None:
    """It moves the counter and logs nothing: watches get a Snapshot, and the others' writes go on from there."""
    backend = await store.open()
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        first = await backend.put("resources/a", b"1")
        assert await next_event(watch) == Put(first)
        await (await store.open()).put("resources/b", b"2")
        await forget_the_log(store)
        event = await next_event(watch)
        while not isinstance(event, Snapshot):  # it may have been quick
            event = await next_event(watch)
        third = await backend.put("resources/c", b"3")
        assert third.revision == first.revision + 2
        event = await next_event(watch)
        while event != Put(third):
            assert isinstance(event, Snapshot)
            event = await next_event(watch)


@on_dynamodb
async def test_what_a_backend_wrote_is_deleted_at_its_expiry_though_nobody_watches(store: DynamoDBStore) -> None:
    """Secrets that soon expire do not lie about until DynamoDB's own TTL, two days later; what was renewed stays."""
    clock = ManualClock(datetime.now(UTC))
    backend = await store.open(clock)
    for name in ("short", "renewed"):
        await backend.put(f"secrets/{name}", b"", expires=clock.now() + timedelta(minutes=1))
    await backend.put("secrets/renewed", b"", expires=clock.now() + timedelta(minutes=10))
    clock.advance(timedelta(minutes=2))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (names := await _names(store, "secrets")) != {"/revision", "renewed"}:
            assert "renewed" in names
            await asyncio.sleep(0.1)


def test_entries_hold_what_was_written() -> None:
    """Puts with and without an expiry, empty values, deletes; revisions by their place, entries chained."""
    writes = [
        items.Write("resources/a/b", b"1", expires=1_700_000_000_123),
        items.Write("resources/\u00fc", None),
        items.Write("resources/c", b""),
    ]
    (part,) = _entries(writes, after=41, previous="t1")
    entry = changelog.read_entry(part)
    assert entry.changes == (
        Put(Item("resources/a/b", b"1", 42, datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC))),
        Delete("resources/\u00fc", 43),
        Put(Item("resources/c", b"", 44)),
    )
    assert (entry.first, entry.last, entry.previous, entry.transaction) == (42, 44, "t1", "t2")


@pytest.mark.parametrize(
    "sizes", [[MAX_VALUE_BYTES] * 3, [1000] * 50, [9000] * 50, [200_000, 200_000, 100, 300_000, 50_000]]
)
def test_entries_are_no_larger_than_an_item_may_be(sizes: list[int]) -> None:
    """Together they hold all changes in order, and each is chained to the one before it."""
    key = "resources/".ljust(MAX_KEY_BYTES - 2, "k")
    writes = [items.Write(f"{key}{number:02}", bytes(size)) for number, size in enumerate(sizes)]
    parts = _entries(writes, after=0, previous="t1")
    assert all(_item_size(part) <= 400 * 1024 for part in parts)
    entries = [changelog.read_entry(part) for part in parts]
    changes = list(itertools.chain.from_iterable(entry.changes for entry in entries))
    assert [change.item.key for change in changes if isinstance(change, Put)] == [write.key for write in writes]
    assert [change.revision for change in changes] == list(range(1, len(sizes) + 1))
    assert [entry.previous for entry in entries] == ["t1", *["t2"] * (len(entries) - 1)]


def _entries(writes: list[items.Write], *, after: int, previous: str) -> list[dict[str, Any]]:
    parts = changelog.entries(
        "table", "resources", writes, after=after, transaction="t2", previous=previous, now=1_700_000_000_000
    )
    return [dict(part["Put"]["Item"]) for part in parts]


def _item_size(attributes: dict[str, Any]) -> int:
    """Return the bytes that AWS counts (Developer Guide, DynamoDB item sizes and formats), rounded up."""

    def size(value: dict[str, Any]) -> int:
        ((kind, content),) = value.items()
        if kind == "L":
            return 3 + sum(1 + size(each) for each in content)
        if kind == "M":
            return 3 + sum(1 + len(name) + size(each) for name, each in content.items())
        return 21 if kind == "N" else len(content.encode() if kind == "S" else content)

    return sum(len(name) + size(value) for name, value in attributes.items())


async def scan(store: DynamoDBStore) -> list[dict[str, Any]]:
    """Return all that is in the table."""

    def read(client: DynamoDBClient) -> list[dict[str, Any]]:
        pages = client.get_paginator("scan").paginate(TableName=store.options.table_name, ConsistentRead=True)
        return [dict(item) for page in pages for item in page["Items"]]

    return await store.administer(read)


async def restore(store: DynamoDBStore, copy: list[dict[str, Any]]) -> None:
    """Make the table's contents what they were when it was scanned."""
    name = store.options.table_name
    present = await scan(store)

    def write(client: DynamoDBClient) -> None:
        for item in present:
            client.delete_item(TableName=name, Key={"space": item["space"], "name": item["name"]})

    await store.administer(write)
    await fill(store, copy)


async def fill(store: DynamoDBStore, found: list[dict[str, Any]]) -> None:
    """Write what was scanned."""

    def write(client: DynamoDBClient) -> None:
        for item in found:
            client.put_item(TableName=store.options.table_name, Item=item)

    await store.administer(write)


async def forget_the_log(store: DynamoDBStore) -> None:
    """Leave the table as it was written before there was a log."""
    await store.forget_history()

    def strip(client: DynamoDBClient) -> None:
        client.update_item(
            TableName=store.options.table_name,
            Key=items.key_attributes("resources", items.COUNTER),
            UpdateExpression="REMOVE #transaction",
            ExpressionAttributeNames={"#transaction": "transaction"},
        )

    await store.administer(strip)


async def logged(store: DynamoDBStore) -> list[changelog.Entry]:
    """Return the entries of the log of resources."""
    return [changelog.read_entry(item) for item in await scan(store) if item["space"]["S"] == "resources/log"]


async def _names(store: DynamoDBStore, space: str) -> set[str]:
    return {item["name"]["S"] for item in await scan(store) if item["space"]["S"] == space}
