"""Recordings on auth servers: read while they grow, with an index, and from whichever server has them."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.api.recording_messages import (
    MAX_RECORDING_BYTES,
    RecordingEnd,
    RecordingFile,
    RecordingPart,
    RecordingPiece,
    RecordingRead,
    RecordingSession,
)
from runtime.audit.events import EventType
from runtime.audit.recording import Script
from runtime.auth.filing import Filing
from runtime.auth.recordings import Recordings
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import NotFound, Unavailable

NOON = datetime(2017, 2, 3, 12, tzinfo=UTC)
NODE = "node1"
STEP = 100_000


class World:
    """Two auth servers, `one` of which takes a recording; `two` asks it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        backend = MemoryBackend(clock=ManualClock(NOON))
        self.one = Recordings(folder / "one", backend, auth=lambda: "one:3025")
        self.two = Recordings(folder / "two", backend, auth=lambda: "two:3025", elsewhere=self.ask)
        self.apart = Recordings(folder / "apart", backend, auth=lambda: "apart:3025")
        self.session = RecordingSession(sid=uuid.uuid4(), user="joe", login="root", started=NOON)
        self.asked: list[str] = []
        self.away = False
        self.script, self.log, self.printed = Script(), b"", b""

    async def ask(self, server: str, wanted: RecordingRead) -> bytes:
        """Read from `one` as another auth server does."""
        self.asked.append(server)
        if self.away:
            raise Unavailable("nobody listens there")
        return await self.one.read(wanted, forward=False)

    async def grow(self, count: int) -> None:
        """Let the node bring more."""
        log, printed = len(self.log), len(self.printed)
        for number in range(count):
            data = b"\x1b[3%dm" % number + b"x" * STEP
            self.printed += data
            self.log += self.script.printed(len(data), hashlib.sha256(data).hexdigest(), len(self.printed) // 1000)
        await self._bring("bytes", printed, self.printed)
        await self._bring("log", log, self.log)

    async def end(self) -> None:
        """Let the node end it."""
        before = len(self.log)
        self.log += self.script.event(EventType.SESSION_END, len(self.printed) // 1000, {})
        await self._bring("log", before, self.log)
        sizes: dict[RecordingPart, int] = {"bytes": len(self.printed), "log": len(self.log)}
        await self.one.end(NODE, RecordingEnd(session=self.session, sizes=sizes))

    async def _bring(self, part: RecordingPart, offset: int, data: bytes) -> None:
        while offset < len(data):
            piece = data[offset : offset + MAX_RECORDING_BYTES]
            offset = await self.one.append(
                NODE, RecordingPiece(session=self.session, part=part, offset=offset, data=piece)
            )

    def wanted(self, part: RecordingFile, offset: int = 0) -> RecordingRead:
        """Return the request for a part."""
        return RecordingRead(sid=self.session.sid, part=part, offset=offset)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a world."""
    return World(tmp_path)


async def test_an_index_while_it_grows(world: World) -> None:
    """It is made when it is asked for, goes on as the recording does, and is the one that is kept afterwards."""
    await world.grow(10)
    first = await world.one.read(world.wanted("index"))
    assert first.count(b"\n") == 3
    await world.grow(10)
    second = await world.two.read(world.wanted("index"))
    assert second.startswith(first)
    assert second.count(b"\n") == 6
    assert await world.one.read(world.wanted("index", len(first))) == second[len(first) :]
    assert not list((world.folder / "one").glob("*.index"))
    await world.end()
    filing = Filing(world.one)
    assert await filing.step() is None
    assert (world.folder / "one" / f"{world.session.sid}.session.index").read_bytes() == second
    assert await world.two.read(world.wanted("index")) == second
    record, _ = await world.one.record(world.session.sid)
    assert record.verified
    assert filing.waiting == set()


async def test_an_index_that_takes_long(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call answers soon, with what there is of it; the next goes on from there."""
    monkeypatch.setattr("runtime.auth.recordings.INDEXING_SECONDS", 0.0)
    await world.grow(10)
    whole, count = b"", 0
    while piece := await world.one.read(world.wanted("index", len(whole))):
        whole += piece
        count += 1
    assert count == whole.count(b"\n") == 3


async def test_of_another_auth_server(world: World) -> None:
    """The one that has it is asked; that one asks nobody; while it is away, it is said which one that is."""
    await world.grow(1)
    await world.end()
    for part, whole in (("bytes", world.printed), ("log", world.log)):
        assert await world.two.read(RecordingRead(sid=world.session.sid, part=part)) == whole
    assert world.asked == ["one:3025"] * 2
    world.away = True
    for recordings, why in ((world.two, "nobody listens there"), (world.apart, "it is not asked from here")):
        with pytest.raises(Unavailable, match=f"is on the disk of auth server one:3025: {why}") as caught:
            await recordings.read(world.wanted("bytes"))
        assert "audit.recordings_uri" in caught.value.hint
    with pytest.raises(Unavailable):
        await world.two.read(world.wanted("bytes"), forward=False)


async def test_some_of_it_is_here(world: World) -> None:
    """All of it is as good as the other server's; a part that a node left is given only while there may be no more."""
    await world.grow(1)
    here = world.folder / "two" / f"{world.session.sid}.session.bytes"
    here.parent.mkdir()
    here.write_bytes(world.printed[:99])
    assert await world.two.read(world.wanted("bytes")) == world.printed
    world.away = True
    assert await world.two.read(world.wanted("bytes")) == world.printed[:99]
    await world.end()
    with pytest.raises(Unavailable):
        await world.two.read(world.wanted("bytes"))
    here.write_bytes(world.printed)
    log = here.with_suffix(".log")
    for some in (b"", world.log[:-1]):  # all that was printed, and not yet how it ended
        log.write_bytes(some)
        with pytest.raises(Unavailable):
            await world.two.read(world.wanted("bytes"))
    log.write_bytes(world.log)
    assert await world.two.read(world.wanted("bytes")) == world.printed


async def test_what_a_server_has_at_its_start(world: World) -> None:
    """All of a recording makes it the one that is asked, under whatever address; all but the log's end does not."""
    await world.grow(1)
    await world.end()
    path = world.folder / "two" / f"{world.session.sid}.session.log"
    path.parent.mkdir()
    path.with_suffix(".bytes").write_bytes(world.printed)

    async def has_it() -> str:
        await Filing(world.two)._left_over()
        return (await world.one.record(world.session.sid))[0].auth

    path.write_bytes(world.log.rpartition(b"\n")[0].rpartition(b"\n")[0] + b"\n")
    assert await has_it() == "one:3025"
    path.write_bytes(world.log)
    assert await has_it() == "two:3025"


async def test_what_is_not_there(world: World) -> None:
    """No recording; one that has just begun; one whose files somebody deleted."""
    with pytest.raises(NotFound, match="there is no recording of session"):
        await world.one.read(world.wanted("index"))
    await world.one.append(NODE, RecordingPiece(session=world.session, part="log", offset=0, data=b""))
    (world.folder / "one" / f"{world.session.sid}.session.log").unlink()
    parts: tuple[RecordingFile, ...] = ("bytes", "log", "index")
    assert [await world.one.read(world.wanted(part)) for part in parts] == [b"", b"", b""]
    await world.grow(1)
    await world.end()
    for path in (world.folder / "one").iterdir():
        path.unlink()
    with pytest.raises(NotFound, match="are gone from this auth server"):
        await world.one.read(world.wanted("bytes"))


async def test_a_recording_that_was_changed(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Who files it finds that, and says where; a log that is nonsense hinders nobody."""
    await world.grow(2)
    await world.end()
    path = world.folder / "one" / f"{world.session.sid}.session.bytes"
    path.write_bytes(path.read_bytes().replace(b"\x1b[31m", b"\x1b[32m"))
    assert await Filing(world.one).step() is None
    assert "what line 2 of the log says was printed is not what is at byte" in caplog.text
    again = World(world.folder / "again")
    again.log = b'{"event":"x","ms":0,"size":"' + b"9" * 5000 + b':1","y":' + b"[" * 90_000 + b"\n"
    await again._bring("log", 0, again.log)
    await again.end()
    assert await Filing(again.one).step() is None
    assert "line 1 of the log cannot be read" in caplog.text
