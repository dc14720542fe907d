"""The event log: data_dir/log, one file a UTC day named as in the manual, one JSON object a line, chained.

Source: manual, "SSH Events" (`2017-01-23.00:00:00.log`, 0640, the common fields `event`, `time`, `user`, …). Ours are
`uid`, a UUID that sorts by time, and `prev`, the link to the line before (`runtime.audit.chain`).
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import logging
import os
import secrets
import threading
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from runtime.audit.chain import PREV, START, link
from runtime.audit.events import EventType
from runtime.audit.files import days, file_of, last_line
from runtime.core.clock import Clock
from runtime.core.uuid7 import Uuid7

logger = logging.getLogger(__name__)

Field = str | int | bool | list[str]

INTERVAL_SECONDS = 1.0
"""How often `Sync.INTERVAL` puts the log on the disk."""


class Audit(Protocol):
    """Takes events. Returns once the event is with the operating system."""

    def emit(self, event: EventType, **fields: Field) -> None:
        """Log one event with its fields; time and id are added."""
        ...

    async def durable(self) -> None:
        """Wait until what was logged so far outlives the machine."""
        ...


class Sync(StrEnum):
    """When the log is put on the disk (fsync); before that a crash of the machine, not of teleport, may lose it."""

    ALWAYS = "always"
    INTERVAL = "interval"
    NEVER = "never"


class EventLog:
    """Writes events to the day's file under `folder`, which is made (0700) if it is missing. There is one writer."""

    def __init__(self, folder: Path, clock: Clock, *, sync: Sync = Sync.ALWAYS) -> None:
        """Take the folder. Raises OSError; BlockingIOError when another process writes there."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._clock = clock
        self._sync = sync
        self._ids = Uuid7(secrets.randbits)
        self._lock = threading.Lock()
        self._owned = self._own()
        self._day: date | None = None
        self._file = -1
        self._link = START
        self._written = 0
        self._synced = 0
        self._syncing: asyncio.Task[None] | None = None

    def emit(self, event: EventType, **fields: Field) -> None:
        """Log one event with its fields; time and id are added. Raises OSError when the disk does not take it."""
        now = self._clock.now()
        with self._lock:
            # A clock that goes back does not reopen a day that is over: the chain goes on in the file that is open, or
            # after a start in the latest that there is.
            if self._day is None:
                self._open(max(now.date(), self._latest(now.date())))
            elif self._day < now.date():
                self._open(now.date())
            record = {"event": str(event), "uid": str(self._ids(now)), "time": f"{now:%Y-%m-%dT%H:%M:%SZ}", **fields}
            # ASCII: a name with a control character or a right-to-left mark cannot disguise itself in a terminal.
            line = json.dumps({**record, PREV: self._link}, ensure_ascii=True, separators=(",", ":")).encode()
            _write(self._file, line + b"\n")
            self._link = link(line)
            self._written += 1

    async def durable(self) -> None:
        """Wait until what was logged so far is on the disk, as far as `sync` asks for that. Raises OSError.

        All who wait at a time share one fsync.
        """
        if self._sync is Sync.NEVER:
            return
        due = self._written
        while self._synced < due:
            if self._syncing is None or self._syncing.done():
                self._syncing = asyncio.create_task(self._put_on_disk())
            if self._sync is Sync.INTERVAL:
                return
            await asyncio.shield(self._syncing)

    def close(self) -> None:
        """Close the day's file, on the disk. Safe to call twice."""
        with self._lock:
            self._close()
            if self._owned >= 0:
                os.close(self._owned)
            self._owned, self._day = -1, None

    async def _put_on_disk(self) -> None:
        if self._sync is Sync.INTERVAL:
            await asyncio.sleep(INTERVAL_SECONDS)
        with self._lock:
            if self._file < 0:
                return
            due, file = self._written, os.dup(self._file)
        try:
            await asyncio.to_thread(os.fsync, file)
        finally:
            os.close(file)
        self._synced = max(self._synced, due)

    def _own(self) -> int:
        """Lock the folder: two writers would each go on from the same line."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    def _latest(self, today: date) -> date:
        """Return the day of the latest file; a day that is to come was the clock's mistake, or is it now."""
        latest = max((day for day, _ in days(self._folder)), default=today)
        if latest > today:
            logger.warning("%s is of a day to come: events go on there until then", file_of(self._folder, latest))
        return latest

    def _open(self, day: date) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        opened = os.open(file_of(self._folder, day), flags, 0o640)
        try:
            self._link = self._resume(opened, day)
        except OSError:
            os.close(opened)
            raise
        self._close()
        os.fsync(self._owned)  # that the file has its name
        self._file, self._day = opened, day

    def _resume(self, opened: int, day: date) -> str:
        """Return the link to go on with: to the file's last line, or to that of the day before it."""
        line, whole = last_line(opened)
        if not whole:
            # A crash cut the last write off. What there is of it stays, as a line of its own, for `verify` to name.
            logger.error("the last line of %s was cut off; it is kept as it is", file_of(self._folder, day))
            _write(opened, b"\n")
        if line:
            return link(line)
        if self._file >= 0:
            return self._link
        for earlier, path in reversed(list(days(self._folder))):
            if earlier < day and (line := _last_line_of(path)):
                return link(line)
        return START

    def _close(self) -> None:
        if self._file >= 0:
            if self._sync is not Sync.NEVER:
                os.fsync(self._file)
                self._synced = self._written
            os.close(self._file)
        self._file = -1


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it; in one go, unless the disk is full or the file at its limit."""
    done = os.write(descriptor, data)
    if done < len(data):
        # Not half a line: what follows would hang on to it.
        os.ftruncate(descriptor, os.fstat(descriptor).st_size - done)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _last_line_of(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return last_line(descriptor)[0]
    finally:
        os.close(descriptor)
