"""Events of a node or proxy on its own disk, until auth has them.

    FOLDER/NUMBER.events    lines, oldest first; the next file begins when one is long enough
    FOLDER/position         up to where auth has them: the number of a file, and bytes from its beginning

A line is with the operating system before `put` returns: no kill of the process loses it. Files that auth has are
deleted. What the disk does not take waits in memory, and goes to the disk as soon as that takes something again.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 1024 * 1024
"""How long a file becomes."""
TRIM_BYTES = 64 * 1024
"""A shorter file stays when auth has all of it, for what comes next."""
READ_BYTES = 256 * 1024
MAX_IN_MEMORY = 10_000
"""Events that wait in memory while the disk takes none; then the oldest of these are lost."""
RETRY_SECONDS = 1.0
"""How often a disk that takes nothing is tried."""

FULL = "more events waited for auth than audit.spool_limit allows"
NO_DISK = "the disk took none of them, and more of them waited for auth than memory holds"
DAMAGED = "what the disk had kept of them cannot be read"

_NAME = re.compile(r"(\d{16})\.events")
_POSITION = re.compile(rb"(\d{16}) (\d{16})\n")


@dataclass(slots=True)
class _Segment:
    path: Path
    number: int
    size: int
    waiting: int
    """Lines of it that auth does not have."""
    synced: int = 0
    """Bytes that outlive the machine."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Lines to bring to auth, and where they end; `number` 0: they were in memory."""

    lines: Sequence[bytes]
    number: int
    end: int


class EventQueue:
    """First in, first out; one process at a time. Of more than `limit` bytes the oldest are lost, and counted."""

    def __init__(self, folder: Path, *, limit: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Take the folder, made (0700) if it is missing. Raises OSError; BlockingIOError if another process has it."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._limit = limit
        self._segment_bytes = min(SEGMENT_BYTES, limit // 4)
        self._monotonic = monotonic
        self._memory: deque[bytes] = deque()
        self._failing = False
        self._retry = 0.0
        self._lost: Counter[str] = Counter()
        self._positions = self._file = -1
        self._folder_synced = False
        self._owned = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._number, self._offset = self._position()
            self._segments = deque(self._left_over())
            self._keep(self._number, self._offset)
            self._bytes = sum(segment.size for segment in self._segments)
        except OSError:
            os.close(self._owned)
            raise

    @property
    def waiting(self) -> int:
        """Events that auth does not have."""
        return len(self._memory) + self._on_disk

    @property
    def in_memory(self) -> int:
        """Those of them that are not on the disk."""
        return len(self._memory)

    def put(self, line: bytes) -> None:
        """Take an event, a line without its newline."""
        if not self._memory:
            try:
                self._write((line,))
            except OSError as error:
                if not self._failing:
                    logger.error("audit events wait in memory: %s", _why(self._folder, error))  # noqa: TRY400 - no bug
                self._retry = self._monotonic() + RETRY_SECONDS
                self._failing = True
            else:
                self._failing = False
                return
        self._memory.append(line)
        self.retry()
        if len(self._memory) > MAX_IN_MEMORY:
            self._memory.popleft()
            self._lost[NO_DISK] += 1

    def retry(self) -> None:
        """Put on the disk what waits in memory, if it is time to try."""
        if not self._memory or self._monotonic() < self._retry:
            return
        try:
            self._write(self._memory)
        except OSError:
            self._retry = self._monotonic() + RETRY_SECONDS
            return
        logger.warning("the disk takes audit events again: %d waited in memory", len(self._memory))
        self._memory.clear()
        self._failing = False

    def lost(self) -> dict[str, int]:
        """Return how many events were lost since this was asked, by the reason; what is going on is told at its end.

        Those that were on their way to auth when they were dropped are counted, and may have arrived.
        """
        told = {reason: count for reason, count in self._lost.items() if reason != NO_DISK or not self._memory}
        for reason in told:
            del self._lost[reason]
        return told

    async def batch(self, lines: int) -> Batch:
        """Return the oldest events, up to so many; none if there are none. Raises OSError."""
        while self._segments:
            segment, offset = self._segments[0], self._begin()
            is_growing = self._file >= 0 and segment is self._segments[-1]
            waiting = segment.waiting
            try:
                data = await asyncio.to_thread(_read, segment.path, offset)
            except FileNotFoundError:
                if self._segments and self._segments[0] is segment:  # not dropped meanwhile: somebody removed it
                    self._damaged(segment, segment.waiting)
                continue
            if not self._segments or self._segments[0] is not segment:
                continue
            found = data.split(b"\n")[:-1][:lines]
            if found:
                return Batch(found, segment.number, offset + sum(map(len, found)) + len(found))
            if waiting:  # half a line, or less than there was: the machine has crashed
                self._damaged(segment, segment.waiting)
            elif is_growing:
                break
            else:
                self._remove()
        return Batch(() if self._on_disk else tuple(islice(self._memory, lines)), 0, 0)

    def lines(self) -> Iterator[bytes]:
        """Yield what auth does not have, oldest first. Blocks. Raises OSError."""
        for segment in self._segments:
            begin = self._offset if segment.number == self._number else 0
            yield from segment.path.read_bytes()[begin:].split(b"\n")[:-1]
        yield from self._memory

    def done(self, batch: Batch) -> None:
        """Remember that auth has a batch."""
        if not batch.number:
            for line in batch.lines:
                if self._memory and self._memory[0] is line:
                    self._memory.popleft()
            return
        if not self._segments or self._segments[0].number != batch.number:  # dropped meanwhile
            return
        segment = self._segments[0]
        segment.waiting = max(0, segment.waiting - len(batch.lines))
        self._keep(batch.number, batch.end)
        if batch.end == segment.size and (segment is not self._segments[-1] or segment.size >= TRIM_BYTES):
            self._remove()

    async def sync(self) -> None:
        """Put on the disk what is here, so that it outlives the machine. Raises OSError."""
        self.retry()
        due = [(segment, segment.size) for segment in self._segments if segment.synced < segment.size]
        await asyncio.to_thread(_sync, [segment.path for segment, _ in due])
        if not self._folder_synced:
            self._folder_synced = True
            await asyncio.to_thread(os.fsync, self._owned)
        for segment, size in due:
            segment.synced = max(segment.synced, size)
        if self._memory:
            raise OSError(errno.EIO, f"{len(self._memory)} events are in memory only")

    def close(self) -> None:
        """Let go of the folder. Safe to call twice."""
        while self._segments and not self.waiting:
            self._remove()
        for descriptor in (self._file, self._positions, self._owned):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._positions = self._owned = -1

    # --- files -------------------------------------------------------------------------------------------------------

    def _write(self, lines: Sequence[bytes] | deque[bytes]) -> None:
        data = b"".join(line + b"\n" for line in lines)
        if self._file < 0 or self._segments[-1].size >= self._segment_bytes:
            self._next()
        while self._bytes + len(data) > self._limit and len(self._segments) > 1:
            self._drop()
        _append(self._file, data)
        self._bytes += len(data)
        self._segments[-1].size += len(data)
        self._segments[-1].waiting += len(lines)

    def _next(self) -> None:
        number = max(self._number, self._segments[-1].number if self._segments else 0) + 1
        path = self._folder / f"{number:016}.events"
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._folder_synced = opened, False
        self._segments.append(_Segment(path, number, 0, 0))

    def _drop(self) -> None:
        segment = self._segments[0]
        if segment.waiting:
            logger.error("%d audit events are lost: %s", segment.waiting, FULL)
            self._lost[FULL] += segment.waiting
        self._remove()

    def _damaged(self, segment: _Segment, events: int) -> None:
        logger.error("%s: about %d audit events are lost: %s", segment.path, events, DAMAGED)
        self._lost[DAMAGED] += events
        self._remove()

    def _remove(self) -> None:
        """Delete the oldest file."""
        segment = self._segments.popleft()
        self._bytes -= segment.size
        self._keep(segment.number, segment.size)
        if not self._segments and self._file >= 0:
            os.close(self._file)
            self._file = -1
        with suppress(FileNotFoundError):
            segment.path.unlink()

    def _keep(self, number: int, offset: int) -> None:
        """Keep the position. In place, which needs no room: on a full disk, too, auth is not told everything again."""
        self._number, self._offset = number, offset
        try:
            if self._positions < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                self._positions = os.open(self._folder / "position", flags, 0o600)
            os.pwrite(self._positions, f"{number:016} {offset:016}\n".encode(), 0)
        except OSError as error:
            logger.warning("auth is told of some events again after a restart: %s", _why(self._folder, error))

    def _position(self) -> tuple[int, int]:
        path = self._folder / "position"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return 0, 0
        if found := _POSITION.fullmatch(content):
            return int(found[1]), int(found[2])
        logger.error("%s cannot be read: auth is told again of all events that are left here", path)
        return 0, 0

    def _left_over(self) -> Iterator[_Segment]:
        """Yield what an earlier process left, oldest first."""
        for path in sorted(self._folder.iterdir()):
            if not (found := _NAME.fullmatch(path.name)):
                continue
            number, content = int(found[1]), path.read_bytes()
            if number < self._number:  # the process was killed before it could delete it
                path.unlink()
                continue
            rest = content[self._offset if number == self._number else 0 :]
            yield _Segment(path, number, len(content), rest.count(b"\n") + (rest[-1:] not in (b"", b"\n")))

    def _begin(self) -> int:
        return self._offset if self._segments[0].number == self._number else 0

    @property
    def _on_disk(self) -> int:
        return sum(segment.waiting for segment in self._segments)


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(READ_BYTES)
        while b"\n" not in data and (more := file.read(READ_BYTES)):  # one line can be longer than that
            data += more
    return data


def _append(descriptor: int, data: bytes) -> None:
    """Write all of it or nothing, where the disk is full or the file at its limit. Raises OSError."""
    done = os.write(descriptor, data)
    if done < len(data):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - done)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _sync(paths: Sequence[Path]) -> None:
    for path in paths:
        with suppress(FileNotFoundError), path.open("rb") as file:
            os.fsync(file.fileno())


def _why(folder: Path, error: OSError) -> str:
    return f"the disk of {folder} does not take them: {error.strerror or error}"
