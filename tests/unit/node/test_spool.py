"""Recordings from a session to auth: nothing shown is lost, whatever is away, full, or killed."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.recording_messages import RecordingEnd, RecordingPiece, RecordingQuery, RecordingRead, RecordingSession
from runtime.api.session import Stream
from runtime.api.wire import Json
from runtime.audit.events import EventType
from runtime.audit.log import EventLog
from runtime.audit.recording import BYTES, LOG, verify
from runtime.auth.server import AuthOptions, AuthService, open_authorities
from runtime.backend.memory import MemoryBackend
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.errors import AccessDenied, CompareFailed, InvalidInput, NotFound, Unavailable
from runtime.node import uploader
from runtime.node.recording import Recordings
from runtime.node.spool import RESERVE_BYTES, Recorder, Spool
from runtime.node.uploader import Uploader
from runtime.service.sections.ssh import Recording

CLOCK = SystemClock()
NODE, OTHER = (str(uuid.uuid4()) for _ in range(2))
START = {"user": "joe", "login": "root", "time": "2017-02-04T00:46:00Z", "size": "80:25"}


class World:
    """An auth service that keeps recordings, and a node's spool."""

    def __init__(self, folder: Path) -> None:
        self.kept = folder / "sessions" / "default"
        self.backend = MemoryBackend(clock=CLOCK)
        self.log = EventLog(folder / "log", CLOCK)
        self.spool = Spool(folder / "spool", limit=1024**2)
        self.now = 0.0
        self.clients: list[AuthClient] = []

    async def start(self) -> None:
        """Make the service."""
        options = AuthOptions(address="127.0.0.1", port=0, cluster_name="main", recordings=self.kept)
        self.service = AuthService(
            options,
            backend=self.backend,
            authorities=await open_authorities(self.backend, options, CLOCK),
            clock=CLOCK,
            audit=self.log,
            auth_servers=tuple,
        )

    async def stop(self) -> None:
        """End it."""
        for client in self.clients:
            await client.close()
        await self.service.stop()
        self.log.close()

    def client(self, kind: CallerKind = CallerKind.NODE, name: str = NODE) -> AuthClient:
        """Return a client of a member."""
        client = self.service.local.client(lambda: (kind, name))
        self.clients.append(client)
        return client

    def begin(self, sid: str = "") -> tuple[str, Recorder]:
        """Start a recording."""
        sid = sid or str(uuid.uuid4())
        recorder = self.spool.begin(sid, lambda: self.now)
        recorder.event(EventType.SESSION_START, {"sid": sid, **START})
        return sid, recorder

    def problems(self, folder: Path, sid: str) -> list[str]:
        """Return what is wrong with a recording in a folder."""
        with (folder / f"{sid}.session.log").open("rb") as log, (folder / f"{sid}.session.bytes").open("rb") as printed:
            return verify(log, printed)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Yield the world."""
    world = World(tmp_path)
    await world.start()
    yield world
    await world.stop()


async def until(true: Callable[[], bool]) -> None:
    """Wait for a condition, ten seconds at most."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def test_from_the_session_to_auth(world: World) -> None:
    """The two files are the manual's, of mode 0640; then the spool is empty, and the recording is listed and read."""
    sid, recorder = world.begin()
    for piece in (b"$ ", b"ls\r\n", b"x" * 200_000):
        recorder.output(piece)
        world.now += 1
    recorder.event(EventType.RESIZE, {"size": "120:40"})
    upload = Uploader(world.spool, world.client())
    await upload.step()
    admin = world.client(CallerKind.ADMIN, str(uuid.uuid4()))
    (entry,) = (await admin.call(methods.RECORDINGS_LIST, RecordingQuery())).recordings
    assert (str(entry.session.sid), entry.session.user, entry.node, entry.over) == (sid, "joe", NODE, False)
    recorder.output(b"bye")
    recorder.close({"exitCode": 0})
    recorder.close({})
    await upload.step()
    assert list(world.spool.folder.iterdir()) == []
    assert world.spool.used == 0
    assert sorted(path.name for path in world.kept.iterdir()) == [f"{sid}.session.bytes", f"{sid}.session.log"]
    assert {path.stat().st_mode & 0o777 & ~0o640 for path in world.kept.iterdir()} == {0}
    assert world.problems(world.kept, sid) == []
    (entry,) = (await admin.call(methods.RECORDINGS_LIST, RecordingQuery(user="joe"))).recordings
    assert (entry.over, entry.size) == (True, 200_009)
    assert entry.session.started == datetime(2017, 2, 4, 0, 46, tzinfo=UTC)
    read = await admin.call(methods.RECORDING_READ, RecordingRead(sid=uuid.UUID(sid), part="bytes", offset=200_000))
    assert read.data == b"xxxxxxbye"
    assert (await admin.call(methods.RECORDINGS_LIST, RecordingQuery(user="eve"))).recordings == ()


async def test_output_within_a_moment_is_one_entry(world: World) -> None:
    """Single letters make no line each; what is not entered yet is entered by itself a moment later."""
    sid, recorder = world.begin()
    for letter in b"hello":
        recorder.output(bytes([letter]))
    log = world.spool.folder / f"{sid}.session.log"
    await until(lambda: b'"print"' in log.read_bytes())
    recorder.close({})
    events = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert [event.get("bytes") for event in events] == [None, 5, None]
    assert world.problems(world.spool.folder, sid) == []


async def test_auth_is_away(world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Recordings wait, and all of them arrive when it is back."""
    monkeypatch.setattr(uploader, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(uploader, "MAX_PAUSE_SECONDS", 0.01)
    sids = []
    for _ in range(3):
        sid, recorder = world.begin()
        recorder.output(b"hello")
        recorder.close({})
        sids.append(sid)
    client = world.client()

    async def away(_: str) -> Stream:
        raise Unavailable("nobody is there")

    dial, client._dial = client._dial, away
    task = asyncio.create_task(Uploader(world.spool, client).run())
    await until(lambda: "recordings wait for auth" in caplog.text)
    client._dial = dial
    await until(lambda: not list(world.spool.folder.iterdir()))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [world.problems(world.kept, sid) for sid in sids] == [[], [], []]


@pytest.mark.parametrize("cut", [0, 1, 30])
async def test_a_killed_node_ends_what_it_left(world: World, cut: int) -> None:
    """All that was shown is there, also what had no line yet; the end says that the session was lost."""
    sid, recorder = world.begin()
    recorder.output(b"hello")
    recorder._entry()
    recorder.output(b" world")  # no line of it is written before the process is killed
    assert recorder._timer is not None
    recorder._timer.cancel()
    for descriptor in recorder._files.values():
        os.close(descriptor)
    log = world.spool.folder / f"{sid}.session.log"
    if cut:
        os.truncate(log, log.stat().st_size - cut)
    again = Spool(world.spool.folder, limit=1024**2)
    task = asyncio.create_task(Uploader(again, world.client()).run())
    await until(lambda: not list(again.folder.iterdir()))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert again.used == 0
    assert (world.kept / f"{sid}.session.bytes").read_bytes() == b"hello world"
    assert world.problems(world.kept, sid) == []
    last = json.loads((world.kept / f"{sid}.session.log").read_bytes().splitlines()[-1])
    assert (last["event"], last["lost"]) == ("session.end", True)


async def test_beyond_the_limit_nothing_is_taken(world: World, tmp_path: Path) -> None:
    """The session learns of it; the recording says why it ends there, and stays whole."""
    world.spool = Spool(tmp_path / "small", limit=RESERVE_BYTES + 2000)
    sid, recorder = world.begin()
    recorder.output(b"x" * 1000)
    with pytest.raises(Unavailable, match=r"ssh_service\.spool_limit"):
        recorder.output(b"x" * 1000)
    with pytest.raises(Unavailable):
        recorder.output(b"x")
    recorder.truncated("the disk is full")
    recorder.close({})
    assert world.problems(world.spool.folder, sid) == []
    assert b'"event":"truncated"' in (world.spool.folder / f"{sid}.session.log").read_bytes()


async def test_a_full_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what it took is taken back, so that the files agree."""
    sid, recorder = world.begin()
    recorder.output(b"hello")
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:3]))
    with pytest.raises(Unavailable, match="No space left"):
        recorder.output(b" world")
    monkeypatch.undo()
    recorder.truncated("No space left on device")
    recorder.close({})
    assert (world.spool.folder / f"{sid}.session.bytes").read_bytes() == b"hello"
    assert world.problems(world.spool.folder, sid) == []


async def test_a_node_touches_no_session_of_another(world: World) -> None:
    """Neither more of it nor its end is taken from another node; nodes read nothing."""
    sid, recorder = world.begin()
    recorder.output(b"hello")
    await Uploader(world.spool, world.client()).step()
    session = RecordingSession(sid=uuid.UUID(sid), user="joe", login="root", started=CLOCK.now())
    other = world.client(name=OTHER)
    with pytest.raises(AccessDenied, match="not a session of node"):
        await other.call(methods.RECORDING_APPEND, RecordingPiece(session=session, part="log", offset=0, data=b"x"))
    with pytest.raises(AccessDenied, match="not a session of node"):
        await other.call(methods.RECORDING_END, RecordingEnd(session=session, sizes={}))
    for kind in (CallerKind.NODE, CallerKind.USER, CallerKind.NOBODY):
        with pytest.raises(AccessDenied):
            await world.client(kind).call(methods.RECORDING_READ, RecordingRead(sid=uuid.UUID(sid), part="bytes"))
    recorder.close({})


@pytest.mark.parametrize("sid", ["../../etc/passwd", "x", "", "4c146ec8-eab6-41e6-b1b3-40167e68e931/../x"])
async def test_a_session_id_is_a_uuid(world: World, sid: str) -> None:
    """No other comes near a path."""
    session: dict[str, Json] = {"sid": sid, "user": "joe", "login": "joe", "started": "2017-02-04T00:46:00Z"}
    conversation = await world.client()._connected()
    with pytest.raises(InvalidInput, match="valid UUID"):
        await conversation.session.call(methods.RECORDING_END.name, {"session": session, "sizes": {}})
    assert not world.kept.exists()


async def test_pieces_twice_late_or_of_a_file_that_is_a_link(world: World, tmp_path: Path) -> None:
    """What is there already is left out, what does not follow is not taken, and no link is followed."""
    node = world.client()
    session = RecordingSession(sid=uuid.uuid4(), user="joe", login="root", started=CLOCK.now())

    async def send(offset: int, data: bytes) -> int:
        piece = RecordingPiece(session=session, part="bytes", offset=offset, data=data)
        return (await node.call(methods.RECORDING_APPEND, piece)).size

    assert [await send(0, b"hello"), await send(0, b"hello"), await send(3, b"lo wo"), await send(99, b"x")] == [
        5,
        5,
        8,
        8,
    ]
    assert (world.kept / f"{session.sid}.session.bytes").read_bytes() == b"hello wo"
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    session = session.model_copy(update={"sid": uuid.uuid4()})
    (world.kept / f"{session.sid}.session.bytes").symlink_to(target)
    with pytest.raises(Unavailable):
        await send(0, b"theirs")
    assert target.read_bytes() == b"mine"


async def test_another_auth_server_takes_over(world: World) -> None:
    """One that has nothing of it yet says so, and gets all of it from the spool."""
    sid, recorder = world.begin()
    recorder.output(b"hello")
    upload = Uploader(world.spool, world.client())
    await upload.step()
    for path in world.kept.iterdir():
        path.unlink()
    recorder.output(b" world")
    recorder.close({})
    await upload.step()
    assert world.problems(world.kept, sid) == []
    with pytest.raises(NotFound):
        await world.client(CallerKind.ADMIN).call(methods.RECORDING_READ, RecordingRead(sid=uuid.uuid4(), part="log"))


async def test_what_is_no_recording_stays_where_it_is(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A strange file, or one whose beginning is lost, keeps no other from auth."""
    strange = world.spool.folder / f"{uuid.uuid4()}.session.log"
    strange.write_bytes(b"nonsense\n")
    (world.spool.folder / "x.session.log").write_bytes(b"")
    (world.spool.folder / strange.name.replace("log", "bytes")).write_bytes(b"x")
    sid, recorder = world.begin()
    recorder.close({})
    await Uploader(world.spool, world.client()).step()
    assert world.problems(world.kept, sid) == []
    assert strange.exists()
    assert "its first line cannot be read" in caplog.text
    assert (BYTES, LOG) == ("bytes", "log")


async def test_another_auth_server_takes_over_at_the_end(world: World) -> None:
    """All was brought to one that is killed before it is told of the end: the next one gets all of it."""
    sid, recorder = world.begin()
    recorder.output(b"hello")
    recorder.close({})
    whole, whole_recorder = world.begin()
    whole_recorder.close({})
    upload = Uploader(world.spool, world.client())
    upload._spool._open.add(sid)  # so that the end is still to come
    await upload.step()
    for path in world.kept.glob(f"{sid}*"):
        path.unlink()
    upload._spool._open.discard(sid)
    with pytest.raises(CompareFailed):
        await upload.step()
    assert world.problems(world.kept, whole) == []
    await upload.step()
    assert world.problems(world.kept, sid) == []
    assert list(world.spool.folder.iterdir()) == []


@pytest.mark.parametrize("room", [0, 1, 100])
async def test_a_disk_without_room_for_another_byte(world: World, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """What the recording has to say of that waits in memory, and auth gets it: why it is truncated, and its end."""
    sid, recorder = world.begin()
    recorder.output(b"hello")
    write = os.write

    def full(file: int, data: bytes) -> int:
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data[:room])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unavailable, match="No space left"):
        recorder.event(EventType.RESIZE, {"size": "120:40"})
    with pytest.raises(Unavailable, match="No space left"):
        recorder.output(b" world")
    recorder.truncated("No space left on device")
    recorder.close({})
    await Uploader(world.spool, world.client()).step()
    assert list(world.spool.folder.iterdir()) == []
    assert world.spool.used == 0
    assert world.problems(world.kept, sid) == []
    events = [json.loads(line)["event"] for line in (world.kept / f"{sid}.session.log").read_bytes().splitlines()]
    assert events == ["session.start", "print", "truncated", "session.end"]


@pytest.mark.parametrize("left", ["a file", "both files", "half a line"])
async def test_a_node_killed_before_a_recording_begins(world: World, left: str) -> None:
    """Nobody has seen anything of that session: nothing of it is left."""
    log = world.spool.folder / f"{uuid.uuid4()}.session.log"
    log.write_bytes(b'{"event":"sess' if left == "half a line" else b"")
    if left != "a file":
        log.with_suffix(".bytes").touch()
    task = asyncio.create_task(Uploader(world.spool, world.client()).run())
    await until(lambda: not list(world.spool.folder.iterdir()))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_recording_that_cannot_begin_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where the disk makes no file, nor where it takes no line."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    recordings = Recordings(world.spool, Recording.STRICT)
    opened = os.open
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(Unavailable, match="No space left"):
            recordings.begin(str(uuid.uuid4()), EventType.SESSION_START, START)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda path, *rest: full() if "bytes" in str(path) else opened(path, *rest))
        with pytest.raises(Unavailable, match="No space left"):
            recordings.begin(str(uuid.uuid4()), EventType.SESSION_START, START)
    assert list(world.spool.folder.iterdir()) == []
    assert not world.spool.busy
