"""Auth looks through recordings in a process of its own, one search at a time, and goes on with all else meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.recording_messages import (
    MAX_RECORDING_BYTES,
    RecordingEnd,
    RecordingPart,
    RecordingPiece,
    RecordingRead,
    RecordingSession,
)
from runtime.api.search_messages import RecordingFinding, RecordingSearch
from runtime.api.wire import MAX_LINE_BYTES
from runtime.audit import search_process
from runtime.audit.events import EventType
from runtime.auth import text_search
from runtime.auth.recordings import Recordings
from runtime.auth.text_search import TextSearch
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import Caller, CallerKind
from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied, InvalidInput, Unavailable
from tests.servers.recorded import Recorded
from tests.unit.auth.world import ADMIN, World, error_of

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NODE = "2d0b1b3e-0000-4000-8000-000000000001"
PLAIN = b"Nov 22 10:00:00 host kernel: something happened with number 12345\r\n"


class Cluster:
    """Recordings of two auth servers with one storage, of which the second does not answer, and the first's search."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "default"
        self.clock = ManualClock(NOON)
        backend = MemoryBackend(clock=self.clock)
        self.recordings = Recordings(self.folder, backend, auth=lambda: "one:3025", elsewhere=self.away)
        self.other = Recordings(folder / "other", backend, auth=lambda: "two:3025")
        self.search = TextSearch(self.recordings)

    async def away(self, server: str, wanted: RecordingRead) -> bytes:
        """Ask the other auth server."""
        raise Unavailable("it does not answer")

    async def record(
        self, recorded: Recorded, *, user: str = "joe", over: bool = True, recordings: Recordings | None = None
    ) -> uuid.UUID:
        """Bring a recording to auth; each began a minute after the one before it."""
        recordings = recordings or self.recordings
        self.clock.advance(timedelta(minutes=1))
        session = RecordingSession(sid=uuid.uuid4(), user=user, login="root", started=self.clock.now())
        files: dict[RecordingPart, bytes] = {"bytes": recorded.printed, "log": recorded.log}
        for part, data in files.items():
            for offset in range(0, len(data) or 1, MAX_RECORDING_BYTES):
                more = data[offset : offset + MAX_RECORDING_BYTES]
                await recordings.append(NODE, RecordingPiece(session=session, part=part, offset=offset, data=more))
        if over:
            sizes = {part: len(data) for part, data in files.items()}
            await recordings.end(NODE, RecordingEnd(session=session, sizes=sizes))
        return session.sid

    async def find(self, text: str, **how: object) -> list[RecordingFinding]:
        """Return what a search tells."""
        wanted = RecordingSearch.model_validate({"text": text, **how})
        async with aclosing(self.search.search(wanted, await self.recordings.all())) as findings:
            return [finding async for finding in findings]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Return two auth servers."""
    return Cluster(tmp_path)


def told(findings: list[RecordingFinding]) -> list[tuple[uuid.UUID, list[tuple[int, str]], str, bool]]:
    """Return what is told of recordings."""
    return [
        (each.recording.session.sid, [(match.ms, match.line) for match in each.matches], each.problem, each.searched)
        for each in findings
        if each.recording
    ]


async def test_all_recordings_are_searched(cluster: Cluster) -> None:
    """The latest first, also of a session that runs; of those without a match nothing is told but the sum."""
    first = await cluster.record(Recorded([(10, b"a needle\r\n"), (20, b"another needle\r\n")]))
    await cluster.record(Recorded([(10, b"hay\r\n")]))
    last = await cluster.record(Recorded([(30, b"one nee"), (40, b"dle")], over=False), over=False)
    findings = await cluster.find("needle")
    assert told(findings) == [
        (last, [(40, "one needle")], "", True),
        (first, [(10, "a needle"), (20, "another needle")], "", True),
    ]
    assert (findings[-1].recordings, findings[-1].bytes, findings[-1].limited) == (3, 10 + 16 + 5 + 10, False)


async def test_not_more_than_asked_for(cluster: Cluster) -> None:
    """It ends with as many, and says so."""
    await cluster.record(Recorded([(10, b"needle\r\n" * 3)]))
    last = await cluster.record(Recorded([(10, b"needle 1\r\nneedle 2\r\nneedle 3\r\n")]))
    findings = await cluster.find("needle", limit=2)
    assert told(findings) == [(last, [(10, "needle 1"), (10, "needle 2")], "", True)]
    assert findings[-1].limited


async def test_as_many_as_one_may_ask_for(cluster: Cluster) -> None:
    """A thousand long lines of the longest characters come in messages that are not too long."""
    sid = await cluster.record(Recorded([(10, ("needle" + "\U0001f600" * 500 + "\r\n").encode() * 1200)]))
    findings = await cluster.find("needle", limit=1000)
    assert sum(len(each.matches) for each in findings) == 1000
    assert {each.recording.session.sid for each in findings if each.recording} == {sid}
    assert max(len(json.dumps(each.model_dump(mode="json"))) for each in findings) < MAX_LINE_BYTES / 2


async def test_recordings_that_cannot_be_read_are_named(cluster: Cluster) -> None:
    """Files that are gone, cut off or nonsense, and those of a server that does not answer; the rest is searched."""
    recorded = Recorded([(10, b"a needle\r\n"), (20, b"more\r\n")])
    whole, cut, gone, nonsense = [await cluster.record(recorded) for _ in range(4)]
    elsewhere = await cluster.record(recorded, recordings=cluster.other)
    (cluster.folder / f"{cut}.session.bytes").write_bytes(recorded.printed[:12])
    for part in ("bytes", "log"):
        (cluster.folder / f"{gone}.session.{part}").unlink()
    (cluster.folder / f"{nonsense}.session.log").write_bytes(b"\xff" * 2_000_000)
    findings = await cluster.find("needle")
    of = {sid: (matches, problem, searched) for sid, matches, problem, searched in told(findings)}
    assert of[whole] == ([(10, "a needle")], "", True)
    assert of[cut][0] == [(10, "a needle")]
    assert "only 12 of 16 bytes are there" in of[cut][1]
    assert (of[gone][0], of[gone][2]) == ([], False)
    assert (of[nonsense][0], of[nonsense][2]) == ([], False)
    assert (of[elsewhere][0], of[elsewhere][2]) == ([], False)
    assert "two:3025" in of[elsewhere][1]
    assert findings[-1].recordings == 2


async def test_what_is_no_expression_is_refused(cluster: Cluster) -> None:
    """Before anything is read; and the next search is served."""
    sid = await cluster.record(Recorded([(10, b"a needle\r\n")]))
    with pytest.raises(InvalidInput, match="is no regular expression"):
        await cluster.find("(", regex=True)
    assert [each[0] for each in told(await cluster.find("n.{4}e", regex=True))] == [sid]


async def test_an_expression_that_takes_for_ever_is_given_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is ended, the search fails and says why, and the next one is served."""
    await cluster.record(Recorded([(10, b"a" * 60 + b"!\r\n")]))
    cluster.search = TextSearch(cluster.recordings, stalled_seconds=1)
    with pytest.raises(Unavailable, match="got nowhere for 1 s") as caught:
        await cluster.find("(a+)+$", regex=True)
    assert "simpler expression" in caught.value.hint
    monkeypatch.setattr(cluster.search, "_stalled_seconds", 30)
    assert len(told(await cluster.find("aaa!"))) == 1


def children() -> set[int]:
    """Return the processes that this one has started and that are still there."""
    return {int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


async def started(before: set[int]) -> int:
    """Wait until the process searches, and return its id."""
    niced = min(19, os.getpriority(os.PRIO_PROCESS, 0) + search_process.NICE)
    async with asyncio.timeout(20):
        while True:
            for pid in children() - before:
                # That it is nice says that Python has started, and the module's own code runs.
                if os.getpriority(os.PRIO_PROCESS, pid) == niced:
                    return pid
            await asyncio.sleep(0.01)


async def test_giving_up_ends_the_process(cluster: Cluster) -> None:
    """Nothing goes on for a caller who is gone, and who waited has the next turn at once."""
    for _ in range(3):
        await cluster.record(Recorded([(10, b"needle\r\n" + PLAIN * 100_000)]))
    before = children()
    wanted = RecordingSearch(text="needle")
    async with aclosing(cluster.search.search(wanted, await cluster.recordings.all())) as findings:
        assert await anext(findings)
        assert len(children() - before) == 1
        waiting = asyncio.create_task(cluster.find("12345", limit=1))
        await asyncio.sleep(0)
        assert len(children() - before) == 1
    assert len(told(await waiting)) == 1
    assert children() == before


async def test_a_call_that_is_cancelled_ends_the_process(cluster: Cluster) -> None:
    """As when the connection is lost in the middle of a long recording."""
    await cluster.record(Recorded([(10, PLAIN * 400_000)]))
    before = children()
    searching = asyncio.create_task(cluster.find("needle"))
    await started(before)
    searching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await searching
    assert children() == before


async def test_too_many_at_a_time(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """One runs, a few wait in order, and one more is sent away."""
    monkeypatch.setattr(text_search, "MAX_WAITING", 2)
    await cluster.record(Recorded([(10, b"needle\r\n" + PLAIN * 100_000)]))
    tasks = [asyncio.create_task(cluster.find("needle")) for _ in range(4)]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(each, Unavailable) for each in done] == [False, False, False, True]
    assert "wait for one another" in str(done[3])


async def test_auth_goes_on_meanwhile(cluster: Cluster) -> None:
    """While some hundred megabytes are looked through, and drawn, the event loop is never away for long.

    What is searched is the slow kind. Only this process's own time counts: the machine may have other things to do.
    """
    await cluster.record(Recorded([(10, (b"\x1b[31mred\x1b[0m 10%\r20%\r\x08\x08\r\n" + PLAIN * 20) * 20_000)]))
    searching = asyncio.create_task(cluster.find("needle"))
    worst, used, began = 0.0, time.process_time(), time.monotonic()
    while not searching.done():
        before = time.thread_time()
        await asyncio.sleep(0.001)
        worst = max(worst, time.thread_time() - before)
    took = time.monotonic() - began
    assert told(await searching) == []
    assert worst < 0.05
    assert time.process_time() - used < took / 2


async def test_it_is_nice_and_has_little(cluster: Cluster) -> None:
    """The process has no environment, few files, a bounded memory, and goes after everybody else."""
    await cluster.record(Recorded([(10, PLAIN * 400_000)]))
    before = children()
    searching = asyncio.create_task(cluster.find("needle"))
    proc = Path(f"/proc/{await started(before)}")
    assert (proc / "environ").read_bytes() == b""
    limits = (proc / "limits").read_text()
    assert "1073741824" in next(line for line in limits.splitlines() if line.startswith("Max address space"))
    assert len(list((proc / "fd").iterdir())) <= 4
    peak = next(line for line in (proc / "status").read_text().splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 100_000
    searching.cancel()
    await asyncio.gather(searching, return_exceptions=True)


async def test_a_caller_who_gives_up_ends_the_process(tmp_path: Path) -> None:
    """Over the wire: Ctrl-C in tctl, or a connection that is lost."""
    world = World()
    world.options = replace(world.options, recordings=tmp_path)
    await world.start()
    node = Caller(CallerKind.NODE, str((await world.join(await world.token())).id), "198.51.100.1")
    session = RecordingSession(sid=uuid.uuid4(), user="joe", login="root", started=NOON)
    piece = RecordingPiece(session=session, part="bytes", offset=0, data=b"x" * 60)
    await world.call(node, methods.RECORDING_APPEND, piece)
    before = children()
    async with world.session(ADMIN) as asking:
        wanted = RecordingSearch(text="(x+x+)+y", regex=True).model_dump(mode="json")  # it would take for ever
        searching = asyncio.create_task(asking.call(methods.RECORDINGS_SEARCH.name, wanted))
        await started(before)
        searching.cancel()
        async with asyncio.timeout(text_search.STALLED_SECONDS / 2):
            while children() != before:  # noqa: ASYNC110 - a process is seen in /proc only
                await asyncio.sleep(0.01)
    await world.stop()


async def test_for_administrators_only() -> None:
    """A node, a proxy, a user and a stranger are refused; so is a search for nothing."""
    world = World()
    await world.start()
    wanted = RecordingSearch(text="needle")
    for kind in (CallerKind.NODE, CallerKind.PROXY, CallerKind.AUTH, CallerKind.USER, CallerKind.NOBODY):
        error = await error_of(world, Caller(kind, str(uuid.uuid4()), "192.0.2.1"), methods.RECORDINGS_SEARCH, wanted)
        assert isinstance(error, AccessDenied)
    await world.call(ADMIN, methods.RECORDINGS_SEARCH, wanted)
    (event,) = world.audit.of(EventType.RECORDINGS_SEARCHED)
    assert (event["by"], event["text"], event["count"]) == (str(ADMIN), "needle", 0)
    for broken in (wanted.model_copy(update={"text": ""}), wanted.model_copy(update={"limit": 10**6})):
        assert isinstance(await error_of(world, ADMIN, methods.RECORDINGS_SEARCH, broken), InvalidInput)
    await world.stop()


async def test_which_recordings(tmp_path: Path) -> None:
    """Those of a user, a node, a session, a time; a session that does not exist is no error."""
    world = World()
    world.options = replace(world.options, recordings=tmp_path)
    await world.start()
    node = await world.join(await world.token())
    other = await world.join(await world.token(), "web")
    sids = []
    for number, (member, user) in enumerate([(node, "joe"), (node, "ann"), (other, "joe")]):
        session = RecordingSession(sid=uuid.uuid4(), user=user, login="root", started=NOON + timedelta(hours=number))
        sids.append(session.sid)
        recorded = Recorded([(10, b"needle\r\n")])
        caller = Caller(CallerKind.NODE, str(member.id), "198.51.100.1")
        for part, data in (("bytes", recorded.printed), ("log", recorded.log)):
            piece = RecordingPiece.model_validate({"session": session, "part": part, "offset": 0, "data": b""})
            await world.call(caller, methods.RECORDING_APPEND, piece.model_copy(update={"data": data}))
        await world.beat(caller, "db" if member is node else "web")

    async def found(**how: object) -> list[int]:
        seen = []
        wanted = RecordingSearch.model_validate({"text": "needle", **how})
        async with world.session(ADMIN) as session:
            params = wanted.model_dump(mode="json")
            async for piece in session.stream(methods.RECORDINGS_SEARCH.name, params):
                finding = RecordingFinding.model_validate(piece)
                seen += [sids.index(finding.recording.session.sid)] if finding.recording else []
        return seen

    assert await found() == [2, 1, 0]
    assert await found(user="joe") == [2, 0]
    assert await found(node="db") == [1, 0]
    assert await found(node=str(other.id)) == [2]
    assert await found(node="nowhere") == []
    assert await found(sids=[sids[1]]) == [1]
    assert await found(sids=[uuid.uuid4()]) == []
    assert await found(since=NOON + timedelta(hours=1)) == [2, 1]
    assert await found(until=NOON + timedelta(hours=1)) == [0]
    await world.stop()
