"""Events on the own disk until auth has them: in order, across ends of the process, on full and damaged disks."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from runtime.audit import queue as module
from runtime.audit.queue import DAMAGED, FULL, NO_DISK, RETRY_SECONDS, EventQueue
from tests.servers.full_disk import full_disk

MIB = 1024**2


class Moment:
    """A clock to be moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def lines(*numbers: int) -> list[bytes]:
    """Return events."""
    return [b'{"n":%d}' % number for number in numbers]


def fill(queue: EventQueue, *numbers: int) -> None:
    """Put events in."""
    for line in lines(*numbers):
        queue.put(line)


def names(folder: Path) -> set[str]:
    """Return what is in a folder."""
    return {path.name for path in folder.iterdir()}


def files(folder: Path) -> list[Path]:
    """Return the files with events, oldest first."""
    return sorted(folder.glob("*.events"))


async def drain(queue: EventQueue, *, at_a_time: int = 256) -> list[bytes]:
    """Take all out, as one who has brought them to auth."""
    found: list[bytes] = []
    while (batch := await queue.batch(at_a_time)).lines:
        found.extend(batch.lines)
        queue.done(batch)
    return found


async def test_first_in_first_out(tmp_path: Path) -> None:
    """What is not done comes again; what is done does not."""
    queue = EventQueue(tmp_path / "q", limit=MIB)
    fill(queue, 1, 2, 3)
    first = await queue.batch(2)
    assert list(first.lines) == lines(1, 2)
    assert await queue.batch(2) == first
    queue.done(first)
    assert queue.waiting == 1
    fill(queue, 4)
    assert await drain(queue) == lines(3, 4)
    assert queue.waiting == 0
    assert not (await queue.batch(2)).lines
    assert (tmp_path / "q").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "q").iterdir()} == {0o600}
    queue.close()
    queue.close()


async def test_a_successor_goes_on_where_auth_left_off(tmp_path: Path) -> None:
    """Nothing was closed, as after kill -9: what auth has does not come again, the rest does, and then what is new."""
    killed = EventQueue(tmp_path, limit=MIB)
    fill(killed, *range(10))
    killed.done(await killed.batch(4))
    os.close(killed._owned)  # the lock ends with the process
    queue = EventQueue(tmp_path, limit=MIB)
    assert queue.waiting == 6
    fill(queue, 10, 11)
    assert await drain(queue, at_a_time=5) == lines(*range(4, 12))


async def test_files_that_auth_has_are_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While more comes, and the last of them when it is long or all ends; numbers are not used twice."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 100)
    monkeypatch.setattr(module, "TRIM_BYTES", 50)
    queue = EventQueue(tmp_path, limit=MIB)
    fill(queue, *range(100))
    assert len(files(tmp_path)) > 5
    assert await drain(queue, at_a_time=7) == lines(*range(100))
    assert len(files(tmp_path)) <= 1
    fill(queue, 1)
    assert await drain(queue) == lines(1)
    queue.close()
    assert names(tmp_path) == {"position"}
    queue = EventQueue(tmp_path, limit=MIB)
    fill(queue, 2)
    assert await drain(queue) == lines(2)


async def test_a_file_that_was_to_be_deleted(tmp_path: Path) -> None:
    """Killed between the position and the deletion: auth is not told again."""
    queue = EventQueue(tmp_path, limit=MIB)
    fill(queue, 1, 2)
    assert await drain(queue) == lines(1, 2)
    left = tmp_path / f"{1:016}.events"
    content = left.read_bytes()
    queue.close()
    assert not left.exists()
    left.write_bytes(content)
    (tmp_path / f"{0:016}.events").write_bytes(content)
    queue = EventQueue(tmp_path, limit=MIB)
    assert queue.waiting == 0
    fill(queue, 3)
    assert await drain(queue) == lines(3)


async def test_beyond_the_limit_the_oldest_are_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The newest are there, the lost ones are counted exactly, and the disk is never used for more."""
    queue = EventQueue(tmp_path, limit=4000)
    fill(queue, *range(1000))
    lost = queue.lost()
    assert set(lost) == {FULL}
    assert queue.lost() == {}
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 4000
    assert await drain(queue) == lines(*range(lost[FULL], 1000))
    assert 1000 - lost[FULL] > 200
    assert "audit events are lost: more events waited" in caplog.text


async def test_what_is_dropped_on_its_way_to_auth(tmp_path: Path) -> None:
    """Its end at auth does not count for what came after."""
    queue = EventQueue(tmp_path, limit=4000)
    fill(queue, *range(10))
    batch = await queue.batch(10)
    fill(queue, *range(10, 1000))
    left = queue.waiting
    queue.done(batch)
    assert queue.waiting == left == 1000 - queue.lost()[FULL]


async def test_a_full_disk(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Events wait in memory, behind those on the disk, and go there when it has room: none is lost, one entry each."""
    moment = Moment()
    queue = EventQueue(tmp_path, limit=MIB, monotonic=moment)
    fill(queue, 8, 9, 1, 2)
    with full_disk():
        fill(queue, 3, 4)
        moment.now += RETRY_SECONDS
        fill(queue, 5)
        assert (queue.waiting, queue.in_memory) == (7, 3)
        queue.done(await queue.batch(3))
        with pytest.raises(OSError, match="3 events are in memory only"):
            await queue.sync()
    fill(queue, 6)
    assert queue.in_memory == 4  # the disk is not tried for each
    moment.now += RETRY_SECONDS
    fill(queue, 7)
    assert queue.in_memory == 0
    await queue.sync()
    os.close(queue._owned)
    successor = EventQueue(tmp_path, limit=MIB)
    assert await drain(successor, at_a_time=2) == lines(2, 3, 4, 5, 6, 7)
    assert caplog.text.count("audit events wait in memory") == 1
    assert f"does not take them: {os.strerror(errno.ENOSPC)}" in caplog.text
    assert "the disk takes audit events again: 5 waited in memory" in caplog.text


async def test_from_memory_to_auth(tmp_path: Path) -> None:
    """With a disk that stays full, auth gets them all the same, after those on the disk."""
    queue = EventQueue(tmp_path, limit=MIB)
    fill(queue, 1, 2, 3, 4)
    with full_disk():
        fill(queue, 5, 6, 7)
        assert await drain(queue, at_a_time=2) == lines(1, 2, 3, 4, 5, 6, 7)
        assert queue.waiting == 0
    fill(queue, 8)
    assert queue.in_memory == 0
    assert await drain(queue) == lines(8)


async def test_a_full_disk_and_full_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest in memory are lost; how many is told once there is a place to tell it."""
    monkeypatch.setattr(module, "MAX_IN_MEMORY", 3)
    queue = EventQueue(tmp_path, limit=MIB)
    fill(queue, 1, 2, 3, 4)
    with full_disk():
        fill(queue, *range(10))
        assert queue.lost() == {}
        assert await drain(queue) == lines(1, 2, 3, 4, 7, 8, 9)
    assert queue.lost() == {NO_DISK: 7}


async def test_a_folder_that_takes_no_new_file(tmp_path: Path) -> None:
    """It was removed while we run: events wait in memory, and are brought from there."""
    queue = EventQueue(tmp_path / "q", limit=MIB)
    shutil.rmtree(tmp_path / "q")
    fill(queue, 1, 2)
    assert await drain(queue) == lines(1, 2)


@pytest.mark.parametrize("cut", [b'{"n":', b"\x00" * 30])
async def test_half_a_line_of_a_crash(tmp_path: Path, cut: bytes) -> None:
    """It is counted as lost, and keeps nothing else out."""
    queue = EventQueue(tmp_path, limit=MIB)
    fill(queue, 1)
    os.close(queue._owned)
    with (tmp_path / f"{1:016}.events").open("ab") as file:
        file.write(cut)
    queue = EventQueue(tmp_path, limit=MIB)
    fill(queue, 2)
    assert await drain(queue) == lines(1, 2)
    assert queue.lost() == {DAMAGED: 1}


async def test_a_file_that_somebody_cut_or_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is gone is counted, also of the file that is being written; the rest arrives."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 30)
    queue = EventQueue(tmp_path, limit=MIB)
    fill(queue, *range(10))
    first = files(tmp_path)[0]
    count = first.read_bytes().count(b"\n")
    first.unlink()
    assert await drain(queue, at_a_time=3) == lines(*range(count, 10))
    assert queue.lost() == {DAMAGED: count}
    fill(queue, 10)
    last = files(tmp_path)[-1]
    os.truncate(last, 0)
    fill(queue, 11, 12, 13, 14)
    found = await drain(queue)
    assert found[-1:] == lines(14)
    assert len(found) + queue.lost()[DAMAGED] == 5


@pytest.mark.parametrize("content", [b"", b"nonsense", b"1 2\n", b"\xff" * 34])
async def test_a_position_that_cannot_be_read(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """All comes again: auth tells them apart by their uid."""
    queue = EventQueue(tmp_path, limit=MIB)
    fill(queue, 1, 2)
    queue.done(await queue.batch(1))
    os.close(queue._owned)
    (tmp_path / "position").write_bytes(content)
    assert await drain(EventQueue(tmp_path, limit=MIB)) == lines(1, 2)
    assert "position cannot be read" in caplog.text


async def test_a_long_line(tmp_path: Path) -> None:
    """One can be longer than what is read at a time."""
    queue = EventQueue(tmp_path, limit=MIB)
    long = b"x" * (module.READ_BYTES * 2)
    queue.put(long)
    fill(queue, 1)
    assert await drain(queue) == [long, *lines(1)]


async def test_one_process_at_a_time(tmp_path: Path) -> None:
    """The second is told; what is not ours in the folder is left alone."""
    (tmp_path / "README").write_text("hello")
    queue = EventQueue(tmp_path, limit=MIB)
    with pytest.raises(BlockingIOError):
        EventQueue(tmp_path, limit=MIB)
    queue.close()
    EventQueue(tmp_path, limit=MIB).close()
    assert names(tmp_path) == {"README", "position"}


async def test_what_outlives_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is put on the disk, and the folder with its name; what is there already is not again."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(module, "SEGMENT_BYTES", 10)
    queue = EventQueue(tmp_path, limit=MIB)
    fill(queue, 1, 2, 3)
    await queue.sync()
    assert synced == [f"{1:016}.events", f"{2:016}.events", tmp_path.name]
    synced.clear()
    await queue.sync()
    assert synced == []
