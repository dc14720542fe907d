"""The event log, the search in it, and recordings, against what they have to reach.

`python -m tests.bench audit [EVENTS]`. Appends: tasks that each log an event and wait until it is on the disk (fsync),
as the handler of what nodes send does. Search: EVENTS events, a million if not given, in segments as auth servers put
them into the storage, which is memory here. Recording: what one second of a session's output costs its node.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from runtime.audit.chain import START, link
from runtime.audit.events import EventType
from runtime.audit.log import EventLog
from runtime.audit.search import Filter
from runtime.auth.events import EventView, StorageSink
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock, SystemClock
from runtime.core.uuid7 import Uuid7
from runtime.node.spool import Spool

APPENDS = 20_000
TASKS = (1, 32, 128)
EVENTS = 1_000_000
SEGMENT = 256
RUNS = 3
RECORDED = 256 * 1024 * 1024
DAY = datetime(2017, 2, 3, tzinfo=UTC)


def run(arguments: list[str]) -> None:
    """Print three tables; the argument is how many events are searched."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        asyncio.run(_appends(Path(name)))
        asyncio.run(_searches(int(arguments[0]) if arguments else EVENTS))
        asyncio.run(_recordings(Path(name)))


async def _appends(folder: Path) -> None:
    print(f"Appends with fsync, {APPENDS} in all (to reach: 10,000 a second, p99 of 20 ms)")
    print(f"{'tasks':>7}{'a second':>11}{'p50 ms':>9}{'p99 ms':>9}")
    for tasks in TASKS:
        log = EventLog(folder / f"log{tasks}", SystemClock())
        took: list[float] = []

        async def append(count: int, log: EventLog = log, took: list[float] = took) -> None:
            for number in range(count):
                start = time.perf_counter()
                log.emit(EventType.EXEC, user="joe", login="root", command=f"echo {number}", exitCode="0")
                await log.durable()
                took.append(time.perf_counter() - start)

        count = max(500, APPENDS // tasks) if tasks > 1 else 500
        start = time.perf_counter()
        await asyncio.gather(*(append(count) for _ in range(tasks)))
        seconds = time.perf_counter() - start
        log.close()
        p50, p99 = (statistics.quantiles(took, n=100)[at] * 1000 for at in (49, 98))
        print(f"{tasks:>7}{len(took) / seconds:>11,.0f}{p50:>9.2f}{p99:>9.2f}")


async def _searches(count: int) -> None:
    clock = ManualClock(DAY)
    backend = MemoryBackend(clock=clock)
    sink = StorageSink(backend, clock.now, server="bench")
    segment: list[bytes] = []
    size = 0
    for line in _events(count, clock):
        segment.append(line)
        size += len(line)
        if len(segment) == SEGMENT:
            await sink.take(segment)
            segment = []
    if segment:
        await sink.take(segment)
    print(f"\nSearch of {count:,} events ({size / 1e6:.0f} MB) in segments (to reach: 1 s); medians of {RUNS} runs")
    print(f"{'what':>28}{'found':>10}{'seconds':>9}")
    view = EventView(backend, clock.now)
    wanted = {
        "one user of 10,000": Filter(fields=(("user", "user77"),), since=DAY),
        "one session": Filter(fields=(("sid", hashlib.md5(b"123").hexdigest()),), since=DAY),  # noqa: S324
        "a type, 1 % of all": Filter(types=frozenset({"auth"}), since=DAY),
        "text, whatever its case": Filter(text="SECRET-9999", since=DAY),
        "a user and two types": Filter(types=frozenset({"auth", "exec"}), fields=(("user", "user77"),), since=DAY),
        "an hour": Filter(since=DAY + timedelta(hours=5), until=DAY + timedelta(hours=6)),
        "all": Filter(since=DAY),
    }
    for what, each in wanted.items():
        took = []
        for _ in range(RUNS):
            start = time.perf_counter()
            found = 0
            async with aclosing(view.search(each)) as pages:
                async for page in pages:
                    found += len(page)
            took.append(time.perf_counter() - start)
        print(f"{what:>28}{found:>10,}{statistics.median(took):>9.2f}")


def _events(count: int, clock: ManualClock) -> Iterator[bytes]:
    """Yield lines like the log's, of one day."""
    rng = random.Random(1)
    ids = Uuid7(rng.getrandbits)
    before = START
    for number in range(count):
        kind = "auth" if rng.random() < 0.01 else "exec"
        now = clock.now()
        sid = hashlib.md5(b"%d" % (number // 10)).hexdigest()  # noqa: S324 - an id that can be asked for again
        line = (
            f'{{"event":"{kind}","uid":"{ids(now)}","time":"{now:%Y-%m-%dT%H:%M:%SZ}",'
            f'"user":"user{rng.randrange(10_000)}","login":"root","sid":"{sid}",'
            f'"addr.remote":"10.0.{rng.randrange(256)}.{rng.randrange(256)}:{rng.randrange(65536)}",'
            f'"command":"ls -l /srv/secret-{number % 10_000}","exitCode":"0","prev":"{before}"}}'
        ).encode()
        before = link(line)
        yield line
        clock.advance(timedelta(days=1) / count)


async def _recordings(folder: Path) -> None:
    print(f"\nRecording of {RECORDED >> 20} MiB of output: what it costs beside the session's own work")
    print(f"{'piece':>9}{'MB a second':>13}")
    for piece in (64, 4096, 32 * 1024, 256 * 1024):
        spool = Spool(folder / f"spool{piece}", limit=2 * RECORDED)
        recorder = spool.begin("00000000-0000-4000-8000-000000000000", time.monotonic)
        data = os.urandom(piece)
        pieces = min(RECORDED // piece, 200_000)
        start = time.perf_counter()
        for number in range(pieces):
            recorder.output(data)
            if number % 64 == 0:
                await asyncio.sleep(0)
        recorder.close({})
        seconds = time.perf_counter() - start
        print(f"{piece:>9}{pieces * piece / seconds / 1e6:>13.0f}")
        for sid in list(spool.sids()):
            spool.remove(sid)
