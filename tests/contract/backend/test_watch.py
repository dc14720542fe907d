"""Following changes: from the start, from a revision, across processes, without gap or repetition."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from runtime.backend.base import Backend, Delete, Event, Put
from tests.contract.backend.harness import (
    PATIENCE_SECONDS,
    QUICK_SECONDS,
    Store,
    begin,
    finish,
    heavy,
    next_changes,
    next_event,
    next_snapshot,
    on_shared_stores,
    values,
    writer,
)

WRITES = 1_000


async def test_a_watch_starts_with_a_snapshot(backend: Backend) -> None:
    """Of what is there, which may be nothing; then come the changes."""
    async with aclosing(backend.watch("resources/")) as watch:
        assert (await next_snapshot(watch)).items == ()
        one = await backend.put("resources/b", b"1")
        assert await next_event(watch) == Put(one)
    two = await backend.put("resources/a", b"2")
    async with aclosing(backend.watch("resources/")) as watch:
        snapshot = await next_snapshot(watch)
        assert snapshot.items == (two, one)
        assert snapshot.revision >= two.revision
        three = await backend.put("resources/a", b"3")
        assert await next_event(watch) == Put(three)


async def test_a_watch_after_a_revision_gives_exactly_what_followed(backend: Backend) -> None:
    """Each put and delete above it, in order, from any point of history."""
    changes: list[Put | Delete] = [Put(await backend.put("resources/a", b"1"))]
    changes += [Put(await backend.create("resources/b", b"2"))]
    changes += [Put(await backend.compare_and_swap("resources/a", b"3", revision=changes[0].revision))]
    await backend.delete("resources/b")
    deleted = (await backend.range("resources/")).revision
    changes += [Delete("resources/b", deleted), Put(await backend.put("resources/b", b"5"))]
    for index, change in enumerate(changes):
        async with aclosing(backend.watch("resources/", after=change.revision)) as watch:
            assert await next_changes(watch, len(changes) - index - 1) == changes[index + 1 :]
            marker = await backend.put("resources/marker", str(index).encode())
            while (event := await next_event(watch)) != Put(marker):
                assert isinstance(event, Put)
                assert event.item.key == "resources/marker"


async def test_a_watch_after_a_snapshot_goes_on_from_it(backend: Backend) -> None:
    """A range's revision is a place in history, also when nothing happened since, or ever."""
    async with aclosing(backend.watch("resources/", after=(await backend.range("resources/")).revision)) as watch:
        one = await backend.put("resources/a", b"")
        assert await next_event(watch) == Put(one)
    async with aclosing(backend.watch("resources/", after=(await backend.range("resources/")).revision)) as watch:
        two = await backend.put("resources/a", b"")
        assert await next_event(watch) == Put(two)


async def test_a_watch_sees_its_prefix_only(backend: Backend) -> None:
    """Neither a longer name of the same beginning, nor the prefix itself as a key, nor another space."""
    async with aclosing(backend.watch("resources/a/")) as watch:
        await next_snapshot(watch)
        for key in ("resources/a", "resources/ab/c", "resources/b/a", "presence/a/b"):
            await backend.put(key, b"")
        await backend.delete("resources/ab/c")
        seen = await backend.put("resources/a/b", b"")
        assert await next_event(watch) == Put(seen)


async def test_a_watch_tells_of_deletes(backend: Backend) -> None:
    """With the key and a revision above the item's; a write that failed tells nothing."""
    item = await backend.put("resources/a", b"")
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        await asyncio.gather(
            backend.delete("resources/absent"),
            backend.delete("resources/a", revision=item.revision + 1),
            backend.create("resources/a", b""),
            backend.compare_and_swap("resources/a", b"", revision=item.revision + 1),
            return_exceptions=True,
        )
        await backend.delete("resources/a", revision=item.revision)
        event = await next_event(watch)
        assert event == Delete("resources/a", event.revision)
        assert event.revision > item.revision


async def test_two_watches_see_the_same(store: Store) -> None:
    """In the same order, on one backend and on another, while 10 tasks write."""
    one, other = await store.open(), await store.open()
    async with (
        aclosing(one.watch("resources/")) as first,
        aclosing(one.watch("resources/")) as second,
        aclosing(other.watch("resources/")) as third,
    ):
        watches = (first, second, third)
        for watch in watches:
            await next_snapshot(watch)
        written = await asyncio.gather(
            *((one, other)[number % 2].put(f"resources/{number % 7}", str(number).encode()) for number in range(100))
        )
        seen = [await next_changes(watch, len(written)) for watch in watches]
    assert seen[0] == sorted((Put(item) for item in written), key=lambda put: put.revision)
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


@heavy
@on_shared_stores
async def test_a_watch_follows_two_writing_processes_without_gap_or_repetition(store: Store) -> None:
    """1,000 writes of two other processes: each once, in the order of revisions; and the same again from history."""
    backend = await store.open()
    async with (
        writer(store.options, put=WRITES // 2, name="one", tasks=5) as one,
        writer(store.options, put=WRITES // 2, name="other", tasks=5) as other,
        aclosing(backend.watch("resources/Node/")) as watch,
    ):
        start = (await next_snapshot(watch)).revision
        begin(one)
        begin(other)
        seen = await next_changes(watch, WRITES)
        written = await finish(one) + await finish(other)
        assert [(change.item.key, change.revision) for change in seen if isinstance(change, Put)] == sorted(
            written, key=lambda write: write[1]
        )
        marker = await backend.put("resources/Node/marker", b"")
        assert await next_event(watch) == Put(marker)
    async with aclosing(backend.watch("resources/Node/", after=start)) as watch:
        assert await next_changes(watch, WRITES + 1) == [*seen, Put(marker)]


async def test_forgotten_history_is_replaced_by_a_snapshot(store: Store) -> None:
    """It equals the state, deletes included, and the changes after it follow."""
    backend = await store.open()
    first = await backend.put("resources/a", b"1")
    await backend.put("resources/b", b"2")
    await backend.delete("resources/b")
    last = await backend.put("resources/c", b"3")
    await store.forget_history()
    async with aclosing(backend.watch("resources/", after=first.revision)) as watch:
        snapshot = await next_snapshot(watch)
        assert snapshot.items == (first, last)
        assert snapshot.revision >= last.revision
        change = await backend.put("resources/a", b"4")
        assert await next_event(watch) == Put(change)


async def test_a_watch_after_a_revision_that_never_was_gets_a_snapshot(backend: Backend) -> None:
    """As after the restore of an older copy: what the consumer knows did not happen."""
    item = await backend.put("resources/a", b"1")
    async with aclosing(backend.watch("resources/", after=item.revision + 1_000_000)) as watch:
        assert (await next_snapshot(watch)).items == (item,)
        change = await backend.put("resources/a", b"2")
        assert await next_event(watch) == Put(change)


async def test_closing_a_waiting_watch_returns_at_once_and_leaves_nothing(backend: Backend) -> None:
    """The consumer's task is cancelled while it waits; the backend goes on and no task of the watch is left."""
    warm = backend.watch("resources/")
    await next_snapshot(warm)
    await warm.aclose()
    before = asyncio.all_tasks()
    watch = backend.watch("resources/")
    await next_snapshot(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(QUICK_SECONDS):
        await asyncio.wait([waiting])
        await watch.aclose()
        while asyncio.all_tasks() - before:  # noqa: ASYNC110  # tasks that just ended leave the set without an event
            await asyncio.sleep(0.01)
    item = await backend.put("resources/a", b"")
    assert await backend.get("resources/a") == item


async def test_closing_the_backend_ends_its_watches(store: Store) -> None:
    """A waiting one, and one that has events left to give."""
    backend, other = await store.open(), await store.open()
    waiting, busy = backend.watch("resources/"), backend.watch("resources/")
    await next_snapshot(waiting)
    await next_snapshot(busy)
    rest = asyncio.ensure_future(_collect(waiting))
    await asyncio.sleep(0)
    await backend.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await rest == []
        await other.put("resources/a", b"")
        assert await _collect(busy) == []


@heavy
async def test_a_slow_consumer_misses_nothing(store: Store) -> None:
    """Events wait for it, in order, while the writer goes on."""
    backend = await store.open()
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        written = [await backend.put(f"resources/{number % 3}", str(number).encode()) for number in range(300)]
        assert await next_changes(watch, len(written)) == [Put(item) for item in written]
    assert values((await backend.range("resources/")).items) == {
        "resources/0": b"297",
        "resources/1": b"298",
        "resources/2": b"299",
    }


async def _collect(watch: AsyncGenerator[Event, None]) -> list[Event]:
    return [event async for event in watch]
