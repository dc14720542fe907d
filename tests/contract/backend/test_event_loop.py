"""No call blocks the event loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from tests.contract.backend.harness import Store, next_changes, next_snapshot


@pytest.fixture
def blocking_is_an_error(store: Store) -> Iterator[BlockBuster]:
    """Raise where code of ours reads, writes, waits for a lock or sleeps within the loop's thread."""
    gc.collect()  # what earlier tests left is not to be collected, and closed, within this one
    with blockbuster_ctx("runtime") as blockbuster:
        yield blockbuster


@pytest.mark.usefixtures("blocking_is_an_error")
async def test_no_method_blocks_the_loop(store: Store) -> None:
    """From opening to closing, under some load."""
    backend = await store.open()
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        item = await backend.create("resources/a", b"x" * 100_000, expires=datetime.now(UTC) + timedelta(hours=1))
        swapped = await backend.compare_and_swap("resources/a", b"", revision=item.revision)
        assert await backend.get("resources/a") == swapped
        await asyncio.gather(*(backend.put(f"resources/{number}", b"") for number in range(50)))
        await backend.delete("resources/a")
        assert len((await backend.range("resources/")).items) == 50
        await next_changes(watch, 53)
    await backend.close()
