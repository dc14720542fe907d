"""One view of what all auth servers logged: each puts its events into the shared storage, in segments.

    audit/events/DAY/HOUR/UID.SERVER    up to 256 events in the order in which one server logged them: lines, compressed

DAY and HOUR are when they were put there, UID that of the first of them, SERVER the auth server's id. Which events the
local files hold, and whether they are whole, `runtime.audit` says (docs/adr/0009).
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from itertools import islice

from runtime.audit import segment
from runtime.audit.chain import PREV, link
from runtime.audit.compare import Segment
from runtime.audit.search import Filter, time_of, uid_of
from runtime.backend.base import MAX_VALUE_BYTES, Backend, Item, Put, Snapshot
from runtime.core.defaults import EVENT_RETENTION
from runtime.core.keys import AUDIT

PREFIX = f"{AUDIT}/events/"
LATEST = timedelta(days=1)
"""How much later than it happened an event may arrive: a node keeps its events while auth is away."""
AHEAD = timedelta(hours=1)
"""How far the clock of another auth server may be ahead, or this one's may have been before it was set right."""
DEFAULT_SPAN = timedelta(days=1)
"""How far back a search goes that does not say."""
PAGE_LINES = 500
REMEMBERED = 100_000
"""Events that are remembered to be told once."""

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_QUIET_DAY = 100
"""Segments of a day after which the next one is read at once too: most of its hours are empty."""
_LINK = f',"{PREV}":'.encode()
_THREADS = 2
"""Which look for events at a time: most of the work is to decompress them, which does not hold up other threads."""


class StorageSink:
    """Puts events into the storage (`runtime.audit.outlet.Sink`)."""

    name = "storage"

    def __init__(
        self, backend: Backend, now: Callable[[], datetime], retention: timedelta = EVENT_RETENTION, *, server: str
    ) -> None:
        """Take what it needs; `server` is the id of the auth server whose events they are."""
        self._backend = backend
        self._server = server
        self._now = now
        self._retention = retention

    async def take(self, lines: Sequence[bytes]) -> None:
        """Put lines into one segment, or several where they are long. Raises Unavailable.

        The same lines that come again, after a crash, replace those there, or are the same events once more.
        """
        value = segment.pack(lines)
        if len(value) > MAX_VALUE_BYTES and len(lines) > 1:
            half = len(lines) // 2
            await self.take(lines[:half])
            await self.take(lines[half:])
            return
        now = self._now()
        name = uid_of(lines[0]).decode() or f"{zlib.crc32(value):08x}"
        await self._backend.put(f"{_prefix(now)}{name}.{self._server}", value, expires=now + self._retention)


class EventView:
    """Finds events in the storage."""

    def __init__(self, backend: Backend, now: Callable[[], datetime]) -> None:
        self._backend = backend
        self._now = now

    async def search(self, wanted: Filter) -> AsyncGenerator[Sequence[bytes], None]:
        """Yield the events that fit, hour by hour, each once and ordered by uid. Raises Unavailable."""
        now = self._now()
        since = wanted.since or now - DEFAULT_SPAN
        until = now + AHEAD
        if wanted.until is not None:
            until = min(until, wanted.until + LATEST)
        seen: dict[bytes, None] = {}
        async with aclosing(self._between(since, until)) as stretches:
            async for items in stretches:
                if found := await _find(items, wanted, seen):
                    yield found
                _forget(seen)

    async def segments(self, server: str, since: datetime) -> AsyncGenerator[Sequence[Segment], None]:
        """Yield what one auth server put into the storage, hour by hour. Raises Unavailable."""
        async with aclosing(self._between(since, self._now() + AHEAD)) as stretches:
            async for items in stretches:
                own = [item.value for item in items if item.key.endswith(f".{server}")]
                if found := await asyncio.to_thread(_segments, own):
                    yield found

    async def _between(self, since: datetime, until: datetime) -> AsyncGenerator[Sequence[Item], None]:
        """Yield what was put there, in its order: hour by hour, and whole days where little happens."""
        at = since.replace(minute=0, second=0, microsecond=0)
        quiet = False
        while at <= until:
            whole_day = quiet and at.hour == 0 and at + _DAY <= until
            items = (await self._backend.range(_prefix(at)[: -len("HH/")] if whole_day else _prefix(at))).items
            if items:
                yield items
            quiet = len(items) <= (_QUIET_DAY if whole_day else 1)
            at += _DAY if whole_day else _HOUR

    async def follow(self, wanted: Filter) -> AsyncGenerator[Sequence[bytes], None]:
        """Yield what fits of what there is, then of what comes, for ever. Raises Unavailable before that begins."""
        # What is put there while we search comes twice: once is left out.
        revision = (await self._backend.range(f"{AUDIT}/none/")).revision
        seen: dict[bytes, None] = {}
        async with aclosing(self.search(wanted)) as pages:
            async for page in pages:
                seen.update(dict.fromkeys(map(_identity, page)))
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
    """Return the events that fit and were not seen, in their order; they are seen from now on.

    An event that came twice is told once: it has the same id, and says the same. One that only has the id of another
    hides nothing.
    """
    shares = [items[start::_THREADS] for start in range(min(_THREADS, len(items)))]
    found: dict[bytes, bytes] = {}
    for share in await asyncio.gather(*(asyncio.to_thread(_matches, share, wanted) for share in shares)):
        found.update(share)
    new = sorted(each for each in found if each not in seen)
    seen.update(dict.fromkeys(new))
    return [found[each] for each in new]


def _matches(items: Iterable[Item], wanted: Filter) -> dict[bytes, bytes]:
    sieve = segment.Sieve(wanted)
    values = (item.value for item in items if sieve.passes(item.value))
    found = (line for value in values for line in wanted.within(segment.unpack(value)))
    return {_identity(line): line for line in found if uid_of(line) and line.endswith(b"}")}


def _identity(line: bytes) -> bytes:
    """Return what tells one event from all others: its id, which sorts by time, and what it says but for its link."""
    said = line.rpartition(_LINK)[0]
    return uid_of(line) + hash(said).to_bytes(8, "big", signed=True)


def _segments(values: Iterable[bytes]) -> list[Segment]:
    found = []
    for value in values:
        lines = segment.unpack(value).split(b"\n")
        times = sorted(filter(None, map(time_of, lines)))
        if times:  # one that cannot be read is compared with nothing
            first, last = (datetime.fromisoformat(at.decode()) for at in (times[0], times[-1]))
            found.append(Segment(head=link(lines[-1]), first=first, last=last, events=len(lines)))
    return found


def _forget(seen: dict[bytes, None]) -> None:
    """Keep the ids that may still come twice: those of late."""
    if len(seen) > REMEMBERED:
        for uid in list(islice(seen, len(seen) - REMEMBERED // 2)):
            del seen[uid]


def _prefix(at: datetime) -> str:
    return f"{PREFIX}{at:%Y-%m-%d/%H}/"
