"""A store that freezes, restarts or stays away: a clear error in time, then recovery with the same backend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import pytest

from runtime.backend.base import Event, Put
from runtime.core.errors import TeleportError, Unavailable
from tests.contract.backend.harness import (
    PATIENCE_SECONDS,
    QUICK_SECONDS,
    SHORT_REQUEST_SECONDS,
    Store,
    next_event,
    next_snapshot,
    on_servers,
    on_shared_stores,
)

FREEZE_SECONDS = 10.0

STALL_SECONDS = SHORT_REQUEST_SECONDS / 2
"""What waits for the store in the loop's thread stalls the loop for a request's whole timeout."""

READS_WHILE_FROZEN = {"sqlite"}
"""Stores whose readers do not wait for a writer."""


T = TypeVar("T")


@on_shared_stores
async def test_a_frozen_store_is_unavailable_in_time_and_recovers(store: Store) -> None:
    """Every call ends in its timeout with a message that names the store, while the event loop never stalls.

    After 10 s of that the same backend works again, and its watch goes on without a gap.
    """
    item = await (await store.open()).put("resources/a", b"before")
    backend = await _answered(lambda: store.open(timeout=SHORT_REQUEST_SECONDS))
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        thawed = asyncio.Event()
        stall = asyncio.ensure_future(_longest_stall(thawed))
        thaw_at = time.monotonic() + FREEZE_SECONDS
        await asyncio.to_thread(store.freeze)
        try:
            errors = await _refused_in_time(
                backend.put("resources/b", b"frozen"),
                backend.create("resources/c", b"frozen"),
                backend.compare_and_swap("resources/d", b"frozen", revision=item.revision),
                backend.delete("resources/e"),
            )
            assert all(store.name in str(error) and error.hint for error in errors)
            if store.name in READS_WHILE_FROZEN:
                assert await backend.get("resources/a") == item
                assert (await backend.range("resources/")).items == (item,)
            else:
                await _refused_in_time(backend.get("resources/a"), backend.range("resources/"))
            await asyncio.sleep(thaw_at - time.monotonic())  # it is to be frozen for that long
        finally:
            await asyncio.to_thread(store.thaw)
            thawed.set()
        assert await stall < STALL_SECONDS
        await _answered(lambda: backend.put("resources/a", b"after"))
        assert (await _answered(lambda: backend.get("resources/a"))).value == b"after"
        # The writes that ended as Unavailable may be carried out, even now: what counts is a state, no gap up to it.
        state = (await _answered(lambda: backend.range("resources/"))).items
        newest = max(state, key=lambda item: item.revision)
        seen = {item.key: item} | {put.item.key: put.item for put in await _puts_until(watch, Put(newest))}
        assert tuple(seen[key] for key in sorted(seen)) == state


@on_shared_stores
async def test_closing_a_backend_of_a_frozen_store_returns(store: Store) -> None:
    """Also while a call and a watch wait; the call ends as Unavailable."""
    backend = await store.open(timeout=60)
    watch = backend.watch("resources/")
    await next_snapshot(watch)
    await asyncio.to_thread(store.freeze)
    try:
        call = asyncio.ensure_future(backend.put("resources/a", b""))
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.1)  # long enough for the call to be under way; not what is tested
        async with asyncio.timeout(PATIENCE_SECONDS):
            await backend.close()
            with pytest.raises(Unavailable):
                await call
            with pytest.raises(StopAsyncIteration):
                await waiting
    finally:
        await asyncio.to_thread(store.thaw)


@on_servers
async def test_a_watch_survives_a_restart_of_the_server_without_a_gap(store: Store) -> None:
    """What was written before, and by others after it, comes once each and in order."""
    backend = await store.open()
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        before = [await backend.put(f"resources/{number}", b"before") for number in range(5)]
        await store.restart()
        after = [await _answered(lambda: backend.put("resources/back", b"after"))]
        other = await store.open()
        after += [await other.put(f"resources/{number}", b"after") for number in range(5)]
        expected = [Put(item) for item in before + after]
        # A put that ended as Unavailable while the server was away may have been carried out beside these.
        assert [put for put in await _puts_until(watch, expected[-1]) if put in expected] == expected
    assert (await backend.get("resources/0")).value == b"after"


@on_servers
async def test_a_watch_whose_history_went_with_the_restart_gets_a_snapshot(store: Store) -> None:
    """Restarted and compacted while a consumer was away: it learns the state, and goes on from there."""
    backend = await store.open()
    first = await backend.put("resources/a", b"1")
    last = await backend.put("resources/a", b"2")
    await store.restart()
    await _answered(lambda: backend.put("resources/b", b"3"))
    await store.forget_history()
    async with aclosing(backend.watch("resources/", after=first.revision)) as watch:
        snapshot = await next_snapshot(watch)
        assert snapshot.items[0] == last
        change = await backend.put("resources/a", b"4")
        assert await next_event(watch) == Put(change)


async def _longest_stall(until: asyncio.Event) -> float:
    """Return by how many seconds at most the event loop was late to run what was due."""
    longest = 0.0
    while not until.is_set():
        due = time.monotonic() + 0.01
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - due)
    return longest


async def _refused_in_time(*calls: Awaitable[object]) -> list[TeleportError]:
    """Return the errors of calls made at once, all of which must be Unavailable within the timeout."""
    start = time.monotonic()
    async with asyncio.timeout(PATIENCE_SECONDS):
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert time.monotonic() - start <= SHORT_REQUEST_SECONDS + QUICK_SECONDS
    errors = [result for result in results if isinstance(result, Unavailable)]
    assert len(errors) == len(calls)
    return list(errors)


async def _answered(call: Callable[[], Awaitable[T]]) -> T:
    """Return what the call returns, made again until the store answers it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await call()
            except Unavailable:
                await asyncio.sleep(0.1)


async def _puts_until(watch: AsyncGenerator[Event, None], last: Put) -> list[Put]:
    """Return the events up to and with `last`: puts with rising revisions, each once."""
    puts: list[Put] = []
    while not puts or puts[-1] != last:
        event = await next_event(watch)
        assert isinstance(event, Put)
        assert not puts or event.revision > puts[-1].revision
        puts.append(event)
    return puts
