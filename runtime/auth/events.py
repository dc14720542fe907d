"""One view of what all auth servers logged: each puts its events into the shared storage, in segments.

    audit/events/HOUR/UID    up to 256 events in the order in which one server logged them: lines, compressed

HOUR is when they were put there, UID that of the first of them. Which events the local files hold, and whether they are
whole, `runtime.audit` says (docs/adr/0009).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from itertools import islice

from runtime.audit.search import Filter, uid_of
from runtime.backend.base import MAX_VALUE_BYTES, Backend, Item, Put, Snapshot
from runtime.core.defaults import EVENT_RETENTION
from runtime.core.keys import AUDIT

PREFIX = f"{AUDIT}/events/"
LATEST = timedelta(days=1)
"""How much later than it happened an event may arrive: a node keeps its events while auth is away."""
DEFAULT_SPAN = timedelta(days=1)
"""How far back a search goes that does not say."""
PAGE_LINES = 500
REMEMBERED = 100_000
"""Events that are remembered to be told once."""

_HOUR = timedelta(hours=1)
_COMPRESSION = 2
"""Less than usual: a tenth longer, and read faster by more than that, which is most of what a search does."""
_BLOCK_BYTES = 128 * 1024
"""What a segment usually has, so that room for it is made once."""
_THREADS = 2
"""Which look for events at a time: most of the work is to decompress them, which does not hold up other threads."""


class StorageSink:
    """Puts events into the storage (`runtime.audit.outlet.Sink`)."""

    name = "storage"

    def __init__(self, backend: Backend, now: Callable[[], datetime], retention: timedelta = EVENT_RETENTION) -> None:
        self._backend = backend
        self._now = now
        self._retention = retention

    async def take(self, lines: Sequence[bytes]) -> None:
        """Put lines into one segment, or several where they are long. Raises Unavailable.

        The same lines that come again, after a crash, replace those there, or are the same events once more.
        """
        value = zlib.compress(b"\n".join(lines), _COMPRESSION)
        if len(value) > MAX_VALUE_BYTES and len(lines) > 1:
            half = len(lines) // 2
            await self.take(lines[:half])
            await self.take(lines[half:])
            return
        now = self._now()
        name = uid_of(lines[0]).decode() or f"{zlib.crc32(value):08x}"
        await self._backend.put(f"{_prefix(now)}{name}", value, expires=now + self._retention)


class EventView:
    """Finds events in the storage."""

    def __init__(self, backend: Backend, now: Callable[[], datetime]) -> None:
        self._backend = backend
        self._now = now

    async def search(self, wanted: Filter) -> AsyncGenerator[Sequence[bytes], None]:
        """Yield the events that fit, hour by hour, each once and ordered by uid. Raises Unavailable."""
        now = self._now()
        since = wanted.since or now - DEFAULT_SPAN
        until = min(now, wanted.until + LATEST) if wanted.until else now
        seen: dict[bytes, None] = {}
        hour = since.replace(minute=0, second=0, microsecond=0)
        while hour <= until:
            items = (await self._backend.range(_prefix(hour))).items
            if items and (found := await _find(items, wanted, seen)):
                yield found
            _forget(seen)
            hour += _HOUR

    async def follow(self, wanted: Filter) -> AsyncGenerator[Sequence[bytes], None]:
        """Yield what fits of what there is, then of what comes, for ever. Raises Unavailable before that begins."""
        # What is put there while we search comes twice: once is left out.
        revision = (await self._backend.range(f"{AUDIT}/none/")).revision
        seen: dict[bytes, None] = {}
        async with aclosing(self.search(wanted)) as pages:
            async for page in pages:
                seen.update(dict.fromkeys(map(uid_of, page)))
                yield page
        async with aclosing(self._backend.watch(PREFIX, after=revision)) as events:
            async for event in events:
                match event:
                    case Put(item):
                        found = await _find([item], wanted, seen)
                    case Snapshot(items):
                        found = await _find(items, wanted, seen)
                    case _:
                        continue
                if found:
                    yield found
                _forget(seen)


def pages(lines: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Yield lines in pieces that a message can hold."""
    page: list[bytes] = []
    size = 0
    for line in lines:
        if page and (len(page) == PAGE_LINES or size + len(line) > MAX_VALUE_BYTES):
            yield page
            page, size = [], 0
        page.append(line)
        size += len(line)
    if page:
        yield page


async def _find(items: Sequence[Item], wanted: Filter, seen: dict[bytes, None]) -> list[bytes]:
    """Return the events that fit and were not seen, in their order; they are seen from now on."""
    shares = [items[start::_THREADS] for start in range(min(_THREADS, len(items)))]
    found: dict[bytes, bytes] = {}
    for share in await asyncio.gather(*(asyncio.to_thread(_matches, share, wanted) for share in shares)):
        found.update(share)
    new = sorted(uid for uid in found if uid not in seen)
    seen.update(dict.fromkeys(new))
    return [found[uid] for uid in new]


def _matches(items: Iterable[Item], wanted: Filter) -> dict[bytes, bytes]:
    return {uid_of(line): line for item in items for line in wanted.within(_block(item.value))}


def _forget(seen: dict[bytes, None]) -> None:
    """Keep the ids that may still come twice: those of late."""
    if len(seen) > REMEMBERED:
        for uid in list(islice(seen, len(seen) - REMEMBERED // 2)):
            del seen[uid]


def _block(value: bytes) -> bytes:
    try:
        return zlib.decompress(value, bufsize=_BLOCK_BYTES)
    except zlib.error:  # one that cannot be read hides no other
        return b""


def _prefix(at: datetime) -> str:
    return f"{PREFIX}{at:%Y-%m-%dT%H}/"
