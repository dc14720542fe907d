"""Backends: operations a second by one task and by many, a range of 10,000 items, and how soon a watch tells.

`python -m tests.bench backends [STORE…]` with stores of memory, sqlite, etcd and dynamodb; without one, all.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from importlib import import_module
from pathlib import Path

from runtime.backend.base import Backend, Put
from tests.contract.backend.harness import ALL_STORES, Store

SECONDS = 2.0
TASKS = 32
RANGE_ITEMS = 10_000
RANGES = 5
WATCHED_WRITES = 300
VALUE = b"x" * 500

COLUMNS = "{:<10}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>12}{:>9}{:>9}"


def run(arguments: list[str]) -> None:
    """Print the table."""
    print(f"Operations a second with values of {len(VALUE)} bytes, by 1 task and by {TASKS}; times in milliseconds;")
    print("a watch's time is from the call of put on one backend to the event on another.")
    print(COLUMNS.format("", "get", "", "put", "", "cas", "", "range of", "watch", ""))
    print(COLUMNS.format("", "1", TASKS, "1", TASKS, "1", TASKS, f"{RANGE_ITEMS:,}", "p50", "p99"))
    for name in arguments or ALL_STORES:
        print(asyncio.run(_row(name)), flush=True)


async def _row(name: str) -> str:
    module = import_module(f"tests.contract.backend.{name}_store")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        (server_folder := Path(folder, "server")).mkdir()
        with module.server(server_folder) as server:
            async with module.open_store(server, Path(folder)) as store:
                return COLUMNS.format(name, *[f"{number:,.0f}" for number in await _rates(store)], *await _times(store))


async def _rates(store: Store) -> list[float]:
    backend = await store.open()
    operations = [await make(backend) for make in (_get, _put, _compare_and_swap)]
    return [await _rate(operation, tasks) for operation in operations for tasks in (1, TASKS)]


async def _rate(operation: Callable[[int], Awaitable[object]], tasks: int) -> float:
    start = time.perf_counter()
    done = 0

    async def work(task: int) -> None:
        nonlocal done
        while time.perf_counter() - start < SECONDS:
            await operation(task)
            done += 1

    await asyncio.gather(*(work(task) for task in range(tasks)))
    return done / (time.perf_counter() - start)


async def _get(backend: Backend) -> Callable[[int], Awaitable[object]]:
    for task in range(TASKS):
        await backend.put(f"resources/get/{task}", VALUE)
    return lambda task: backend.get(f"resources/get/{task}")


async def _put(backend: Backend) -> Callable[[int], Awaitable[object]]:
    numbers = itertools.count()
    return lambda task: backend.put(f"resources/put/{next(numbers) % 1000}", VALUE)


async def _compare_and_swap(backend: Backend) -> Callable[[int], Awaitable[object]]:
    items = [await backend.put(f"resources/swap/{task}", VALUE) for task in range(TASKS)]

    async def swap(task: int) -> None:
        key = items[task].key
        items[task] = await backend.compare_and_swap(key, VALUE, revision=items[task].revision)

    return swap


async def _times(store: Store) -> list[str]:
    return [f"{seconds * 1000:.1f}" for seconds in [await _range(await store.open()), *await _watch(store)]]


async def _range(backend: Backend) -> float:
    numbers = iter(range(RANGE_ITEMS))

    async def fill() -> None:
        for number in numbers:
            await backend.put(f"resources/range/{number:05}", VALUE)

    await asyncio.gather(*(fill() for _ in range(TASKS)))
    times = []
    for _ in range(RANGES):
        start = time.perf_counter()
        assert len((await backend.range("resources/range/")).items) == RANGE_ITEMS
        times.append(time.perf_counter() - start)
    return statistics.median(times)


async def _watch(store: Store) -> tuple[float, float]:
    writer, reader = await store.open(), await store.open()
    times = []
    async with aclosing(reader.watch("resources/watch/")) as watch:
        await anext(watch)
        for number in range(WATCHED_WRITES):
            start = time.perf_counter()
            written = asyncio.ensure_future(writer.put("resources/watch/key", str(number).encode()))
            event = await anext(watch)
            times.append(time.perf_counter() - start)
            assert event == Put(await written)
    return statistics.median(times), statistics.quantiles(times, n=100)[98]
