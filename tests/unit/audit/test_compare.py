"""A log beside what its server put into the storage: lines cut off at the end, and a log that was written anew."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.audit.chain import PREV, START, link
from runtime.audit.compare import Segment, missing
from runtime.audit.events import EventType
from runtime.audit.files import days
from runtime.audit.log import EventLog
from runtime.audit.outlet import Outlet
from runtime.audit.verify import Problem, removed_before, verify
from runtime.auth.events import EventView, StorageSink
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock

SERVER, OTHER = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
BEGIN = datetime(2017, 2, 3, 22, tzinfo=UTC)


class Server:
    """An auth server's log, and the storage."""

    def __init__(self, folder: Path, backend: MemoryBackend, clock: ManualClock, name: str = SERVER) -> None:
        self.folder, self.clock, self.name = folder, clock, name
        self.log = EventLog(folder, clock)
        self.view = EventView(backend, clock.now)
        self._outlet = Outlet(folder, StorageSink(backend, clock.now, server=name))

    async def work(self, *numbers: int) -> None:
        """Log events, half an hour apart, each put into the storage by itself."""
        for number in numbers:
            self.log.emit(EventType.EXEC, command=str(number))
            while await self._outlet.step():
                pass
            self.clock.advance(timedelta(minutes=30))

    async def segments(self) -> list[Segment]:
        """Return what the storage has of this server."""
        async with aclosing(self.view.segments(self.name, BEGIN)) as found:
            return [segment async for page in found for segment in page]

    async def problems(self) -> list[str]:
        """Return what is wrong with the log."""
        return [problem.what for problem in await self.compared()]

    async def compared(self) -> Sequence[Problem]:
        """Return what is wrong with the log."""
        segments = await self.segments()
        report = verify(self.folder, heads={segment.head for segment in segments})
        return [*report.problems, *missing(report, segments, self.folder)]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Return a server."""
    clock = ManualClock(BEGIN)
    return Server(tmp_path / "log", MemoryBackend(clock=clock), clock)


def edit(folder: Path, keep: int, *, rewrite: bool = False) -> None:
    """Keep the first lines of the last file; or change the one after them, and all links that follow."""
    *_, (_, path) = days(folder)
    lines = path.read_bytes().splitlines()
    if not rewrite:
        path.write_bytes(b"".join(line + b"\n" for line in lines[:keep]))
        return
    lines[keep] = lines[keep].replace(b'"command":"', b'"command":"not ')
    before = link(lines[keep])
    for at in range(keep + 1, len(lines)):
        lines[at] = json.dumps({**json.loads(lines[at]), PREV: before}, separators=(",", ":")).encode()
        before = link(lines[at])
    path.write_bytes(b"".join(line + b"\n" for line in lines))


async def test_a_log_that_is_whole(server: Server, tmp_path: Path) -> None:
    """All segments of this server are found, over midnight; another server's are not looked for."""
    other = Server(tmp_path / "other", server.view._backend, server.clock, OTHER)  # type: ignore[arg-type]
    for number in range(8):
        await server.work(number)
        await other.work(number)
    server.log.emit(EventType.EXEC, command="not put there yet")
    assert len(await server.segments()) == 8
    assert await server.problems() == await other.problems() == []


async def test_the_last_lines_were_cut_off(server: Server) -> None:
    """The chain is whole, and what is missing is named; also once the log has gone on from there."""
    await server.work(*range(8))
    server.log.close()
    edit(server.folder, 2)
    assert verify(server.folder).problems == []
    (problem,) = await server.problems()
    expected = (
        "the cluster's storage has 2 events of this server from 2017-02-04T01:00:00Z to 2017-02-04T01:30:00Z that "
        "are not in this log, or not as they were: lines were cut off, or changed with all links after them"
    )
    assert problem == expected
    (server.folder / ".storage.position").unlink()
    server.log = EventLog(server.folder, server.clock)
    await server.work(8, 9)
    assert verify(server.folder).problems == []
    assert expected in await server.problems()


async def test_a_log_that_was_written_anew(server: Server) -> None:
    """From a line on, with all links: what follows it is named."""
    await server.work(*range(8))
    edit(server.folder, 1, rewrite=True)
    assert verify(server.folder).problems == []
    (problem,) = await server.problems()
    assert "has 3 events of this server from 2017-02-04T00:30:00Z to 2017-02-04T01:30:00Z" in problem


async def test_a_log_that_is_another(server: Server) -> None:
    """All of it was replaced; or there is none."""
    await server.work(*range(8))
    for path in list(server.folder.glob("*.log")):
        path.unlink()
    (problem,) = await server.problems()
    assert "has 8 events of this server from 2017-02-03T22:00:00Z to 2017-02-04T01:30:00Z" in problem
    forged = EventLog(server.folder.parent / "forged", ManualClock(BEGIN + timedelta(hours=3)))
    forged.emit(EventType.EXEC, command="nothing happened")
    ((_, path),) = days(server.folder.parent / "forged")
    path.rename(server.folder / path.name)
    assert verify(server.folder, start=START).problems == []
    (problem,) = await server.problems()
    assert "has 8 events" in problem


async def test_files_that_were_removed_after_their_time(server: Server) -> None:
    """What they held is not missing; what is missing of the rest is."""
    await server.work(*range(12))
    assert removed_before(server.folder) is None
    (_, first), (day, _) = days(server.folder)
    first.unlink()
    assert removed_before(server.folder) == day
    assert await server.problems() == []
    edit(server.folder, 6)
    (problem,) = await server.problems()
    assert "has 2 events" in problem


async def test_a_segment_that_cannot_be_read(server: Server) -> None:
    """It hides no other, and accuses nobody."""
    await server.work(*range(3))
    backend = server.view._backend
    key = next(item.key for item in (await backend.range("audit/events/2017-02-03/22/")).items)
    await backend.put(key, b"nonsense")
    assert len(await server.segments()) == 2
    assert await server.problems() == []


async def test_a_write_that_was_cut_off(server: Server) -> None:
    """It is a line like any other for the comparison, which the chain names."""
    await server.work(0)
    with next(iter(days(server.folder)))[1].open("ab") as file:
        file.write(b'{"event":')
    server.log = await asyncio.to_thread(_reopened, server)
    await server.work(1, 2)
    (problem,) = await server.problems()
    assert "this is no event" in problem


def _reopened(server: Server) -> EventLog:
    server.log.close()
    return EventLog(server.folder, server.clock)
