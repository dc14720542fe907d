"""Old recordings are deleted by age and by size: only what is over, files and record, and the log says so."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runtime.api.recording_messages import RecordingEnd, RecordingPiece, RecordingSession
from runtime.audit.events import EventType
from runtime.auth.pruning import Pruner, due
from runtime.auth.recordings import PREFIX, Recordings, Stored
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from runtime.core.errors import NotFound
from tests.unit.auth.recorder import Recorder

NOON = datetime(2017, 2, 3, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NODE = "node1"


def stored(age: int, size: int, *, over: bool = True) -> Stored:
    """Return a recording of so many days ago."""
    return Stored(uuid.uuid4(), "joe", NOON - age * DAY, over, size)


@pytest.mark.parametrize(
    ("retention", "limit", "expected"),
    [
        (None, None, []),
        (30, None, [(40, "age")]),
        (40, None, []),
        (1, None, [(40, "age"), (20, "age"), (10, "age")]),
        (None, 1000, []),
        (None, 750, []),
        (None, 749, [(40, "size")]),
        (None, 640, [(40, "size"), (20, "size")]),
        (None, 1, [(40, "size"), (20, "size"), (10, "size")]),
        (30, 649, [(40, "age"), (20, "size")]),
        (30, 650, [(40, "age")]),
    ],
)
def test_what_is_due(retention: int | None, limit: int | None, expected: list[tuple[int, str]]) -> None:
    """The oldest first, until the rest fits; what still grows takes room, and stays."""
    there = [stored(10, 50), stored(40, 100), stored(20, 100), stored(50, 500, over=False)]
    found = due(there, NOON, retention=None if retention is None else retention * DAY, limit=limit)
    assert [((NOON - each.started) // DAY, reason) for each, reason in found] == expected


class World:
    """Recordings of one auth server, and a clock that moves by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "default"
        self.clock = ManualClock(NOON)
        self.backend = MemoryBackend(clock=self.clock)
        self.recordings = self.server(self.folder, "one:3025")
        self.audit = Recorder()
        self.pruner = Pruner(self.recordings, self.audit, self.clock.now, retention=30 * DAY, limit=None)

    def server(self, folder: Path, address: str) -> Recordings:
        """Return the recordings of an auth server."""
        return Recordings(folder, self.backend, auth=lambda: address)

    async def record(self, *, over: bool = True) -> uuid.UUID:
        """Bring a recording that starts now to auth."""
        session = RecordingSession(sid=uuid.uuid4(), user="joe", login="root", started=self.clock.now())
        for part in ("bytes", "log"):
            piece = RecordingPiece(session=session, part=part, offset=0, data=b"12345")
            await self.recordings.append(NODE, piece)
        if over:
            await self.recordings.end(NODE, RecordingEnd(session=session, sizes={"bytes": 5, "log": 5}))
        return session.sid

    async def left(self) -> set[str]:
        """Return the sessions that the storage knows."""
        return {item.key.removeprefix(PREFIX) for item in (await self.backend.range(PREFIX)).items}

    def files(self) -> set[str]:
        """Return the sessions of which there are files."""
        return {path.name.partition(".")[0] for path in self.folder.iterdir()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a world."""
    return World(tmp_path)


async def test_what_is_old_goes(world: World) -> None:
    """Files and record, with an event each; what is not over, what is young and what is no recording stays."""
    old, growing = await world.record(), await world.record(over=False)
    world.clock.advance(20 * DAY)
    young = await world.record()
    (world.folder / "notes.txt").write_text("of an administrator")
    world.clock.advance(11 * DAY)
    await world.pruner.prune()
    assert await world.left() == {str(growing), str(young)}
    assert world.files() == {str(growing), str(young), "notes"}
    ((event, fields),) = world.audit.events
    assert event == EventType.RECORDING_DELETED
    assert fields == {
        "sid": str(old), "user": "joe", "started": "2017-02-03T12:00:00Z", "bytes": 10, "reason": "age",
    }  # fmt: skip
    with pytest.raises(NotFound):
        await world.recordings.entry(old)


async def test_what_is_not_over_is_not_removed(world: World) -> None:
    """Not even when it is asked for: a node may be bringing it."""
    growing = await world.record(over=False)
    assert not await world.recordings.remove(growing)
    assert not await world.recordings.remove(uuid.uuid4())
    assert world.files() == await world.left() == {str(growing)}


async def test_after_a_crash_in_between(world: World) -> None:
    """Files that are gone already, with the record still there: the next look deletes that, and tells of it."""
    old = await world.record()
    for path in world.folder.iterdir():
        path.unlink()
    world.clock.advance(31 * DAY)
    await world.pruner.prune()
    assert await world.left() == set()
    assert [fields["sid"] for _, fields in world.audit.events] == [str(old)]


async def test_another_server(world: World, tmp_path: Path) -> None:
    """It leaves alone what is on this one's disk; on a folder that they share, one of them deletes it, and tells."""
    await world.record()
    world.clock.advance(31 * DAY)
    told = Recorder()
    apart = Pruner(world.server(tmp_path / "other", "two:3025"), told, world.clock.now, retention=30 * DAY, limit=None)
    await apart.prune()
    assert len(await world.left()) == 1
    shared = Pruner(world.server(world.folder, "two:3025"), told, world.clock.now, retention=30 * DAY, limit=None)
    await shared.prune()
    await world.pruner.prune()
    assert (len(told.events), len(world.audit.events)) == (1, 0)
    assert world.files() == set()
