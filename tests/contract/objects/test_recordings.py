"""Recordings in an object store: filed there once they are over, read from there, deleted from there."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from runtime.api.recording_messages import (
    MAX_RECORDING_BYTES,
    RecordingEnd,
    RecordingPart,
    RecordingPiece,
    RecordingSession,
)
from runtime.audit.events import EventType
from runtime.audit.reading import entries
from runtime.audit.recording import Script
from runtime.audit.replay import RESET, Reel
from runtime.auth.filing import Filing
from runtime.auth.pruning import Pruner
from runtime.auth.recordings import Place, Recordings
from runtime.backend.memory import MemoryBackend
from runtime.backend.objects import S3Options
from runtime.backend.s3 import S3Store
from runtime.core.clock import ManualClock
from runtime.core.errors import NotFound, Unavailable
from tests.servers.s3 import CREDENTIALS, REGION, S3
from tests.unit.auth.recorder import Recorder

NOON = datetime(2017, 2, 3, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NODE = "node1"
SECONDS = 60.0
TEXT = b"one \x1b[1mtwo\r\n" * 50_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3]:
    """Run an S3 server."""
    with S3(tmp_path / "s3") as running:
        yield running


async def until(ready: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(SECONDS):
        while True:
            if ready():
                return
            await asyncio.sleep(0.05)


class Auth:
    """The recordings of one auth server."""

    def __init__(self, folder: Path, backend: MemoryBackend, name: str, store: S3Store | None) -> None:
        self.folder = folder / name
        self.recordings = Recordings(self.folder, backend, auth=lambda: f"{name}:3025", objects=store)
        self.filing = Filing(self.recordings, rng=random.Random(1))

    def files(self) -> int:
        """Return how many files are on its disk."""
        return len(list(self.folder.iterdir())) if self.folder.is_dir() else 0

    async def record(self, started: datetime = NOON) -> uuid.UUID:
        """Let a node bring a whole recording."""
        session = RecordingSession(sid=uuid.uuid4(), user="joe", login="root", started=started)
        script = Script()
        log = script.event(EventType.SESSION_START, 0, {"user": "joe"})
        for ms, start in enumerate(range(0, len(TEXT), 50_000)):
            piece = TEXT[start : start + 50_000]
            log += script.printed(len(piece), hashlib.sha256(piece).hexdigest(), ms * 1000)
        log += script.event(EventType.SESSION_END, 60_000, {})
        parts: tuple[tuple[RecordingPart, bytes], ...] = (("bytes", TEXT), ("log", log))
        for part, data in parts:
            for start in range(0, len(data), MAX_RECORDING_BYTES):
                some = data[start : start + MAX_RECORDING_BYTES]
                await self.recordings.append(NODE, RecordingPiece(session=session, part=part, offset=start, data=some))
        sizes: dict[RecordingPart, int] = {part: len(data) for part, data in parts}
        await self.recordings.end(NODE, RecordingEnd(session=session, sizes=sizes))
        return session.sid

    async def shown(self, sid: uuid.UUID) -> bytes:
        """Return all that a recording shows."""
        source = self.recordings.source(sid)
        return b"".join(await asyncio.to_thread(lambda: [data for _, data in entries(source)]))


class World:
    """Two auth servers with one object store."""

    def __init__(self, folder: Path, store: S3Store) -> None:
        self.clock = ManualClock(NOON)
        self.backend = MemoryBackend(clock=self.clock)
        self.store = store
        self.one, self.two = (Auth(folder, self.backend, name, store) for name in ("one", "two"))
        self.without = Auth(folder, self.backend, "without", None)


@pytest.fixture
async def world(server: S3, tmp_path: Path) -> AsyncIterator[World]:
    """Return a world."""
    options = S3Options(server.bucket, "here/", REGION, server.endpoint, timeout=1, put_timeout=3)
    with patch.dict(os.environ, CREDENTIALS):
        store = await S3Store.open(options)
        yield World(tmp_path, store)
        await store.close()


async def test_filed_and_read_by_everybody(world: World, server: S3) -> None:
    """The two files and the index are there, and no longer on the disk; every auth server reads them."""
    sid = await world.one.record()
    assert world.one.files() == 2
    assert await world.one.filing.step() is None
    assert world.one.files() == 0
    assert server.names() == {f"here/{sid}.session.{part}" for part in ("bytes", "log", "index")}
    for auth in (world.one, world.two):
        assert await auth.shown(sid) == TEXT
        reel = Reel(auth.recordings.source(sid))
        shown = b"".join(await asyncio.to_thread(list, reel.seek(7000)))
        assert shown == RESET + TEXT[: 7 * 50_000]
    record, _ = await world.one.recordings.record(sid)
    assert (record.verified, record.place, record.total > len(TEXT)) == (True, Place.OBJECTS, True)
    with pytest.raises(Unavailable, match="is in an object store, and this auth server has none") as caught:
        await world.without.shown(sid)
    assert "audit.recordings_uri" in caught.value.hint


async def test_while_the_store_is_away(world: World, server: S3, caplog: pytest.LogCaptureFixture) -> None:
    """Recordings wait on the disk, are played from there, and are tried again; the log says so once."""
    server.kill()
    running = asyncio.create_task(world.one.filing.run())
    try:
        sids = [await world.one.record(), await world.one.record()]
        await until(lambda: world.one.filing.failures >= 4)
        assert world.one.filing.waiting == set(sids)
        assert [(await world.one.recordings.record(sid))[0].verified for sid in sids] == [True, True]
        assert [await world.one.shown(sid) == TEXT for sid in sids] == [True, True]
        told = [record for record in caplog.records if "wait on this disk" in record.message]
        assert [record.levelno for record in told] == [logging.ERROR]
        await asyncio.to_thread(server.start)
        await until(lambda: not world.one.filing.waiting)
        assert world.one.files() == 0
        assert len(server.names()) == 6
        assert "recordings are filed again" in caplog.text
        server.kill()
        with pytest.raises(Unavailable, match="s3://recordings/here/ cannot be reached"):
            await world.two.shown(sids[0])
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_what_was_there_before_there_was_a_store(world: World, server: S3, tmp_path: Path) -> None:
    """Goes there, too, at the next start; what still grows does not."""
    sid = await world.without.record()
    assert await world.without.filing.step() is None
    assert world.without.files() == 3
    growing = RecordingSession(sid=uuid.uuid4(), user="joe", login="root", started=NOON)
    await world.without.recordings.append(NODE, RecordingPiece(session=growing, part="bytes", offset=0, data=b"begun"))
    again = Auth(tmp_path, world.backend, "without", world.store)
    running = asyncio.create_task(again.filing.run())
    await until(lambda: len(server.names()) == 3 and not again.filing.waiting)
    running.cancel()
    assert world.without.files() == 1
    assert await world.two.shown(sid) == TEXT


async def test_after_a_crash_in_between(world: World, server: S3) -> None:
    """Put there, and not yet noted or not yet deleted here: the next start does what is left to do."""
    sid = await world.one.record()
    with patch.object(world.one.recordings.folder, "unlink", side_effect=OSError("crashed")):
        assert isinstance(await world.one.filing.step(), OSError)
    assert (world.one.files(), len(server.names())) == (3, 3)
    running = asyncio.create_task(Filing(world.one.recordings).run())
    await until(lambda: not world.one.files())
    running.cancel()
    assert await world.one.shown(sid) == TEXT


async def test_a_server_that_has_another_address(world: World, tmp_path: Path) -> None:
    """It notes at its start that what is on its disk is with it, so that others find it."""
    sid = await world.without.record()
    moved = Auth(tmp_path, world.backend, "without", None)
    moved.recordings = Recordings(world.without.folder, world.backend, auth=lambda: "moved:3025")
    running = asyncio.create_task(Filing(moved.recordings).run())
    await until(lambda: world.without.files() == 3)  # with the index
    running.cancel()
    assert (await moved.recordings.record(sid))[0].auth == "moved:3025"


async def test_some_of_one_is_not_filed(world: World, server: S3) -> None:
    """A node that went on with another auth server left some here: that is not put in place of the whole."""
    sid = await world.one.record()
    world.two.folder.mkdir()
    (world.two.folder / f"{sid}.session.bytes").write_bytes(TEXT[:100])
    world.two.recordings.ended.add(sid)
    assert await world.two.filing.step() is None
    assert server.names() == set()
    assert await world.one.filing.step() is None
    assert await world.two.shown(sid) == TEXT


async def test_deleted_while_it_is_filed(world: World, server: S3) -> None:
    """Nothing of it is left in the store, where nobody would look for it again."""
    sid = await world.one.record()
    put = world.store.put

    async def put_and_remove(*arguments: object) -> int:
        size = await put(*arguments)  # type: ignore[arg-type]  # as they come
        await world.one.recordings.remove(sid)
        return size

    with patch.object(world.store, "put", put_and_remove):
        assert await world.one.filing.step() is None
    assert server.names() == set()
    assert world.one.files() == 0


async def test_retention(world: World, server: S3) -> None:
    """By age and by size, as on the disk; one of the servers does it, and tells; the rest stays."""
    old = await world.one.record()
    world.clock.advance(20 * DAY)
    young, younger = [await world.two.record(world.clock.now()) for _ in range(2)]
    for auth in (world.one, world.two):
        assert await auth.filing.step() is None
    world.clock.advance(11 * DAY)
    told = Recorder()
    for auth in (world.one, world.two):
        await Pruner(auth.recordings, told, world.clock.now, retention=30 * DAY, limit=None).prune()
    assert [(fields["sid"], fields["reason"]) for _, fields in told.events] == [(str(old), "age")]
    assert {name.split("/")[1].partition(".")[0] for name in server.names()} == {str(young), str(younger)}
    with pytest.raises(NotFound):
        await world.one.shown(old)
    limit = len(TEXT) + len(TEXT) // 2
    await Pruner(world.two.recordings, told, world.clock.now, retention=None, limit=limit).prune()
    assert len(server.names()) == 3
    assert told.events[-1][1]["reason"] == "size"
    await Pruner(world.without.recordings, told, world.clock.now, retention=DAY, limit=None).prune()
    assert len(server.names()) == 3
