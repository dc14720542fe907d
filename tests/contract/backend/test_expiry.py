"""Items that end: absent to the millisecond by the backend's clock, and deleted in real time."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta, timezone

import pytest

from runtime.backend.base import EXPIRY_LAG_SECONDS, Delete, Put, from_millis, to_millis
from runtime.core.errors import AlreadyExists, CompareFailed, NotFound
from tests.contract.backend.harness import Store, next_changes, next_event, next_snapshot, start_clock, values

KEY = "presence/node/one"
HOUR = timedelta(hours=1)
MILLISECOND = timedelta(milliseconds=1)


async def test_an_item_is_there_until_its_expiry_and_not_at_it(store: Store) -> None:
    """One millisecond before, every method finds it; at that millisecond, none does."""
    clock = start_clock()
    backend = await store.open(clock)
    item = await backend.put(KEY, b"alive", expires=clock.now() + HOUR)
    clock.advance(HOUR - MILLISECOND)
    assert await backend.get(KEY) == item
    assert (await backend.range("presence/")).items == (item,)
    with pytest.raises(AlreadyExists):
        await backend.create(KEY, b"")
    clock.advance(MILLISECOND)
    with pytest.raises(NotFound):
        await backend.get(KEY)
    assert (await backend.range("presence/")).items == ()
    with pytest.raises(NotFound):
        await backend.delete(KEY)
    with pytest.raises(CompareFailed):
        await backend.delete(KEY, revision=item.revision)
    with pytest.raises(CompareFailed):
        await backend.compare_and_swap(KEY, b"", revision=item.revision)
    async with aclosing(backend.watch("presence/")) as watch:
        assert (await next_snapshot(watch)).items == ()


async def test_an_expired_key_can_be_created(store: Store) -> None:
    """From its expiry on, with a higher revision; the new item has no expiry."""
    clock = start_clock()
    backend = await store.open(clock)
    old = await backend.create(KEY, b"old", expires=clock.now() + HOUR)
    clock.advance(HOUR)
    new = await backend.create(KEY, b"new")
    assert new.revision > old.revision
    assert new.expires is None
    clock.advance(HOUR)
    assert await backend.get(KEY) == new


async def test_an_expired_key_can_be_put(store: Store) -> None:
    """As if it were absent."""
    clock = start_clock()
    backend = await store.open(clock)
    await backend.put(KEY, b"old", expires=clock.now() + HOUR)
    clock.advance(HOUR)
    new = await backend.put(KEY, b"new", expires=clock.now() + HOUR)
    assert await backend.get(KEY) == new


async def test_what_has_expired_when_it_is_written_is_absent(store: Store) -> None:
    """The write succeeds, and nobody finds the item."""
    clock = start_clock()
    backend = await store.open(clock)
    await backend.put(KEY, b"", expires=clock.now())
    with pytest.raises(NotFound):
        await backend.get(KEY)
    assert (await backend.range("presence/")).items == ()


async def test_put_clears_the_expiry(store: Store) -> None:
    """A put without one makes the item last."""
    clock = start_clock()
    backend = await store.open(clock)
    await backend.put(KEY, b"", expires=clock.now() + HOUR)
    item = await backend.put(KEY, b"")
    assert item.expires is None
    clock.advance(2 * HOUR)
    assert await backend.get(KEY) == item


async def test_compare_and_swap_sets_the_expiry_anew(store: Store) -> None:
    """It keeps it when it is passed on, moves it when another is given and clears it otherwise."""
    clock = start_clock()
    backend = await store.open(clock)
    first = await backend.put(KEY, b"1", expires=clock.now() + HOUR)
    kept = await backend.compare_and_swap(KEY, b"2", revision=first.revision, expires=first.expires)
    assert kept.expires == first.expires
    moved = await backend.compare_and_swap(KEY, b"3", revision=kept.revision, expires=clock.now() + 2 * HOUR)
    clock.advance(HOUR)
    assert await backend.get(KEY) == moved
    cleared = await backend.compare_and_swap(KEY, b"4", revision=moved.revision)
    clock.advance(2 * HOUR)
    assert await backend.get(KEY) == cleared


async def test_an_expiry_is_kept_to_the_millisecond_in_utc(store: Store) -> None:
    """Rounded down, whatever zone it was given in, from every method that returns it."""
    clock = start_clock()
    backend = await store.open(clock)
    exact = from_millis(to_millis(clock.now())) + HOUR + timedelta(milliseconds=7)
    given = (exact + timedelta(microseconds=999)).astimezone(timezone(timedelta(hours=5, minutes=30)))
    async with aclosing(backend.watch("presence/")) as watch:
        await next_snapshot(watch)
        item = await backend.put(KEY, b"", expires=given)
        assert await next_changes(watch, 1) == [Put(item)]
    assert item.expires == exact
    assert item.expires.tzinfo is UTC
    assert await backend.get(KEY) == item
    assert (await backend.range("presence/")).items == (item,)


async def test_an_expiry_without_a_zone_is_refused(store: Store) -> None:
    """A local time would be an hour off twice a year."""
    backend = await store.open()
    with pytest.raises(ValueError, match="aware"):
        await backend.put(KEY, b"", expires=datetime(2030, 1, 1))  # noqa: DTZ001  # what is tested
    with pytest.raises(NotFound):
        await backend.get(KEY)


async def test_expiry_is_told_to_watches_in_time(store: Store) -> None:
    """A Delete comes after the expiry and at most EXPIRY_LAG_SECONDS later; what was renewed is not deleted."""
    backend, other = await store.open(), await store.open()
    loop = asyncio.get_running_loop()
    async with aclosing(other.watch("presence/")) as watch:
        await next_snapshot(watch)
        expires = datetime.now(UTC) + timedelta(seconds=3)  # enough for three writes on a busy machine
        renewed = await backend.put("presence/node/renewed", b"", expires=expires)
        lasting = await backend.put("presence/node/renewed", b"")
        short = await backend.put("presence/node/short", b"", expires=expires)
        start = loop.time() + (expires - datetime.now(UTC)).total_seconds()
        assert await next_changes(watch, 3) == [Put(renewed), Put(lasting), Put(short)]
        gone = await next_event(watch)
        assert -0.001 <= loop.time() - start <= EXPIRY_LAG_SECONDS
        assert isinstance(gone, Delete)
        assert gone.key == short.key
        assert gone.revision > short.revision
        # Its order in history shows that the renewed item was not deleted at its first expiry.
        last = await backend.put("presence/node/last", b"")
        assert await next_changes(watch, 1) == [Put(last)]
    assert list(values((await backend.range("presence/")).items)) == ["presence/node/last", "presence/node/renewed"]
