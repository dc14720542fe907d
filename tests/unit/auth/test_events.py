"""One view of what several auth servers logged, in their shared storage."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.audit.events import EventType
from runtime.audit.log import EventLog
from runtime.audit.outlet import Outlet
from runtime.audit.search import Filter
from runtime.auth.events import PAGE_LINES, PREFIX, EventView, StorageSink, pages
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock

HOUR = timedelta(hours=1)
SERVERS = ("00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002")


class Servers:
    """Two auth servers on one storage."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(datetime(2017, 2, 3, 20, 30, tzinfo=UTC))
        self.backend = MemoryBackend(clock=self.clock)
        self.view = EventView(self.backend, self.clock.now)
        self.logs = [EventLog(folder / name, self.clock) for name in ("one", "two")]
        self.sinks = [StorageSink(self.backend, self.clock.now, server=server) for server in SERVERS]
        self.outlets = [Outlet(folder / name, sink) for name, sink in zip(("one", "two"), self.sinks, strict=True)]

    def emit(self, server: int, command: str, user: str = "joe") -> None:
        """Log an event at one of them; a second passes."""
        self.logs[server].emit(EventType.EXEC, command=command, user=user)
        self.clock.advance(timedelta(seconds=1))

    async def ship(self) -> None:
        """Let both put their events into the storage."""
        for outlet in self.outlets:
            while await outlet.step():
                pass

    async def found(self, wanted: Filter) -> list[str]:
        """Return the commands of the events that fit."""
        commands = []
        async with aclosing(self.view.search(wanted)) as found:
            async for lines in found:
                commands += [json.loads(line)["command"] for line in lines]
        return commands


@pytest.fixture
def servers(tmp_path: Path) -> Servers:
    """Return two servers."""
    return Servers(tmp_path)


async def test_events_of_all_servers_in_their_order(servers: Servers) -> None:
    """Whichever logged them, and whichever put them there first."""
    for number in range(10):
        servers.emit(number % 2, str(number), user="ann" if number == 3 else "joe")
    await servers.ship()
    assert await servers.found(Filter()) == [str(number) for number in range(10)]
    assert await servers.found(Filter(fields=(("user", "ann"),))) == ["3"]
    assert await servers.found(Filter(types=frozenset({"auth"}))) == []


async def test_without_a_beginning_it_is_a_day(servers: Servers) -> None:
    """And with one, all that is kept; what was kept long enough is gone."""
    servers.emit(0, "old")
    await servers.ship()
    old = servers.clock.now() - HOUR
    servers.clock.advance(timedelta(days=3))
    servers.emit(0, "new")
    await servers.ship()
    assert await servers.found(Filter()) == ["new"]
    assert await servers.found(Filter(since=old)) == ["old", "new"]
    assert await servers.found(Filter(since=old, until=old + 2 * HOUR)) == ["old"]
    servers.clock.advance(timedelta(days=88))
    assert await servers.found(Filter(since=old)) == ["new"]


async def test_an_event_that_arrives_late_is_found_at_its_time(servers: Servers) -> None:
    """A node kept it while auth was away: it is in the segment of a later hour."""
    at = servers.clock.now()
    servers.logs[0].emit(EventType.EXEC, command="late", user="joe", time=f"{at:%Y-%m-%dT%H:%M:%SZ}")
    servers.clock.advance(5 * HOUR)
    await servers.ship()
    assert await servers.found(Filter(since=at - HOUR, until=at + HOUR)) == ["late"]
    assert await servers.found(Filter(since=at + HOUR)) == []


async def test_what_is_put_there_twice_is_told_once(servers: Servers, tmp_path: Path) -> None:
    """A server that crashed before it noted its position puts the same events there again."""
    for number in range(3):
        servers.emit(0, str(number))
    await servers.ship()
    servers.clock.advance(HOUR)
    servers.emit(0, "3")
    (tmp_path / "one" / ".storage.position").unlink()
    servers.outlets[0] = Outlet(tmp_path / "one", servers.sinks[0])
    await servers.ship()
    assert await servers.found(Filter()) == ["0", "1", "2", "3"]


async def test_follow_goes_on_with_what_comes(servers: Servers) -> None:
    """What there is, then each event once as it comes, if it fits."""
    servers.emit(0, "there")
    await servers.ship()
    told: asyncio.Queue[str] = asyncio.Queue()

    async def follow() -> None:
        async with aclosing(servers.view.follow(Filter(fields=(("user", "joe"),)))) as found:
            async for lines in found:
                for line in lines:
                    told.put_nowait(json.loads(line)["command"])

    task = asyncio.create_task(follow())
    async with asyncio.timeout(10):
        assert await told.get() == "there"
        servers.emit(1, "not", user="ann")
        servers.emit(1, "comes")
        await servers.ship()
        assert await told.get() == "comes"
        servers.emit(0, "later")
        await servers.ship()
        assert await told.get() == "later"
    task.cancel()
    await asyncio.wait([task])
    assert told.empty()


async def test_long_events_take_several_segments(servers: Servers) -> None:
    """What cannot be made short enough for one value is put into several; none is lost."""
    rng = random.Random(1)
    for _ in range(30):
        servers.emit(0, rng.randbytes(16_000).hex())
    await servers.ship()
    assert len(await servers.found(Filter())) == 30
    assert len((await servers.backend.range(PREFIX)).items) > 1


async def test_a_segment_that_cannot_be_read_hides_no_other(servers: Servers) -> None:
    """The rest is told."""
    servers.emit(0, "there")
    await servers.ship()
    await servers.backend.put(f"{PREFIX}{servers.clock.now():%Y-%m-%d/%H}/x", b"nonsense")
    assert await servers.found(Filter()) == ["there"]


async def test_lines_that_are_no_events(servers: Servers, tmp_path: Path) -> None:
    """What was cut off or written into the log by hand is in no answer, and keeps nothing out; `verify` names it."""
    servers.emit(0, "before")
    file = next((tmp_path / "one").glob("*.log"))
    uid = json.loads(file.read_text())["uid"]
    cut = f'{{"event":"exec","uid":"{uid}","time":"2017-02-03T20:30:00Z","comm'.encode()
    for line in (b"", b"nonsense", b"\xff\x00\xfe", b"[]", b'{"event":"exec"}', cut, b'{"uid":"short"}'):
        with file.open("ab") as log:
            log.write(line + b"\n")
    servers.emit(0, "after")
    await servers.ship()
    assert await servers.found(Filter()) == ["before", "after"]
    assert await servers.found(Filter(text="nonsense")) == []


async def test_the_id_of_another_event_hides_nothing(servers: Servers) -> None:
    """A node that uses one again is told of twice: it cannot replace what it has told before."""
    uid = "01a205ac-4f09-73a6-99dc-8ab13bc719f6"
    for command in ("rm -rf /", "true"):
        servers.logs[0].emit(EventType.EXEC, command=command, uid=uid)
        servers.logs[1].emit(EventType.EXEC, command=command, uid=uid)
    await servers.ship()
    assert sorted(await servers.found(Filter())) == ["rm -rf /", "true"]


@pytest.mark.parametrize(
    ("sizes", "counts"), [([], []), ([1] * 1200, [PAGE_LINES, PAGE_LINES, 200]), ([300_000] * 3, [1] * 3)]
)
def test_pages_fit_into_a_message(sizes: Sequence[int], counts: Sequence[int]) -> None:
    """Neither too many lines nor too long."""
    assert [len(page) for page in pages([b"x" * size for size in sizes])] == counts
