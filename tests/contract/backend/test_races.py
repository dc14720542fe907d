"""Many writers of one key: tasks, backends and processes."""

from __future__ import annotations

import asyncio

from runtime.backend.base import Backend, Item
from runtime.core.errors import AlreadyExists, CompareFailed
from tests.contract.backend.harness import Store, begin, finish, on_shared_stores, writer

KEY = "resources/Role/contested"
WRITERS = 50
COUNTERS = 20


async def test_of_fifty_creators_one_wins(store: Store) -> None:
    """Over five backends at once: one item, 49 AlreadyExists, and the winner's value is what is stored."""
    backends = [await store.open() for _ in range(5)]
    results = await asyncio.gather(
        *(backends[number % 5].create(KEY, str(number).encode()) for number in range(WRITERS)), return_exceptions=True
    )
    winners = [result for result in results if isinstance(result, Item)]
    assert len(winners) == 1
    assert sum(isinstance(result, AlreadyExists) for result in results) == WRITERS - 1
    assert await backends[0].get(KEY) == winners[0]


@on_shared_stores
async def test_of_creators_in_two_processes_one_wins(store: Store) -> None:
    """25 tasks in each of two processes create the same key."""
    async with (
        writer(store.options, create=KEY, tasks=WRITERS // 2) as one,
        writer(store.options, create=KEY, tasks=WRITERS // 2) as other,
    ):
        begin(one)
        begin(other)
        wins = await finish(one) + await finish(other)
    item = await (await store.open()).get(KEY)
    assert wins == [(KEY, item.revision)]


async def test_of_two_swappers_one_loses(store: Store) -> None:
    """Both read the same revision; the second to write is told."""
    one, other = await store.open(), await store.open()
    item = await one.create(KEY, b"")
    results = await asyncio.gather(
        one.compare_and_swap(KEY, b"one", revision=item.revision),
        other.compare_and_swap(KEY, b"other", revision=item.revision),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["CompareFailed", "Item"]


async def test_a_counter_of_twenty_tasks_is_exact(store: Store) -> None:
    """Each adds one by compare-and-swap, reading again when it lost; no addition is lost."""
    backends = [await store.open() for _ in range(2)]
    await backends[0].create(KEY, b"0")
    await asyncio.gather(*(_add_one(backends[number % 2]) for number in range(COUNTERS)))
    assert (await backends[0].get(KEY)).value == str(COUNTERS).encode()


async def _add_one(backend: Backend) -> None:
    while True:
        item = await backend.get(KEY)
        try:
            await backend.compare_and_swap(KEY, str(int(item.value) + 1).encode(), revision=item.revision)
        except CompareFailed:
            continue
        return


async def test_of_two_deleters_of_one_revision_one_loses(store: Store) -> None:
    """Exactly one deletes it."""
    one, other = await store.open(), await store.open()
    item = await one.create(KEY, b"")
    results = await asyncio.gather(
        one.delete(KEY, revision=item.revision), other.delete(KEY, revision=item.revision), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["CompareFailed", "NoneType"]
