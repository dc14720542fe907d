"""Recordings on the node's disk, while they are made and until auth has them."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from runtime.audit.events import EventType
from runtime.audit.recording import BYTES, LOG, TRUNCATED, Field, Part, Script, file_name, frames
from runtime.core.errors import Unavailable

logger = logging.getLogger(__name__)

COALESCE_SECONDS = 0.05
"""Output of so long becomes one entry: nobody sees the difference, and a log of single letters would be a long one."""
COALESCE_BYTES = 64 * 1024
RESERVE_BYTES = 4096
"""What is kept free within the limit for the lines that say how a recording ended."""


class Spool:
    """The folder of recordings that auth does not have yet, and how many bytes it may hold."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder
        self._limit = limit
        self._used = sum(path.stat().st_size for path in folder.iterdir())
        self.changed = asyncio.Event()
        """Set when there is more to bring to auth."""
        self._open: set[str] = set()
        self._owed: dict[str, bytes] = {}
        """Ends of logs that the disk did not take: auth gets them from here."""

    @property
    def used(self) -> int:
        """Bytes of all recordings here."""
        return self._used

    def begin(self, sid: str, now: Callable[[], float]) -> Recorder:
        """Start the recording of a session. Raises Unavailable when the disk does not take it."""
        files: dict[Part, int] = {}
        try:
            for part in (LOG, BYTES):
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                files[part] = os.open(self.folder / file_name(sid, part), flags, 0o600)
        except OSError as error:
            for descriptor in files.values():
                os.close(descriptor)
            self.remove(sid)
            raise _failed(error) from error
        self._open.add(sid)
        return Recorder(self, sid, files, now)

    @property
    def busy(self) -> bool:
        """Whether any recording is being made."""
        return bool(self._open)

    def is_open(self, sid: str) -> bool:
        """Tell whether a recording is still being made."""
        return sid in self._open

    def sids(self) -> Iterator[str]:
        """Yield the sessions whose recordings are here."""
        for path in sorted(self.folder.glob(f"*.session.{LOG}")):
            sid = path.name.partition(".")[0]
            try:
                if str(uuid.UUID(sid)) == sid:
                    yield sid
            except ValueError:
                logger.warning("%s is no recording; it is left alone", path)

    def read(self, sid: str, part: Part, offset: int, size: int) -> bytes:
        """Return up to so many bytes of a recording from there on; none at its end. Blocks. Raises OSError."""
        owed = self._owed.get(sid, b"") if part == LOG else b""  # looked at first: what follows it is owed too
        with (self.folder / file_name(sid, part)).open("rb") as file:
            file.seek(offset)
            data = file.read(size)
            if owed and len(data) < size:
                begin = max(0, offset - os.fstat(file.fileno()).st_size)
                data += owed[begin : begin + size - len(data)]
        return data

    def sizes(self, sid: str) -> dict[Part, int]:
        """Return how long the files of a recording are. Raises OSError."""
        log, shown = ((self.folder / file_name(sid, part)).stat().st_size for part in (LOG, BYTES))
        return {LOG: log + len(self._owed.get(sid, b"")), BYTES: shown}

    def recover(self, sid: str) -> bool:
        """End a recording whose session was lost with the process that made it; remove one that had not begun.

        Returns whether there is a recording. Blocks. Raises OSError, ValueError.
        """
        lines = (self.folder / file_name(sid, LOG)).read_bytes().split(b"\n")
        if len(lines) == 1 and not self._shown(sid):
            self.remove(sid)
            return False
        script = Script()
        printed = ended = 0
        for line in lines[:-1]:
            for frame in frames([line]):
                printed = frame.offset + frame.size if frame.size else printed
                ended = frame.ms
                if frame.event == EventType.SESSION_END:
                    return True
            script.resume(line)
        script.offset = printed
        path = self.folder / file_name(sid, BYTES)
        with (self.folder / file_name(sid, LOG)).open("r+b") as log, path.open("rb") as shown:
            log.seek(0, os.SEEK_END)
            if lines[-1]:  # half a line
                log.truncate(log.tell() - len(lines[-1]))
                log.seek(0, os.SEEK_END)
            before = log.tell()
            shown.seek(printed)
            rest = shown.read()
            if rest:
                log.write(script.printed(len(rest), hashlib.sha256(rest).hexdigest(), ended))
            log.write(script.event(EventType.SESSION_END, ended, {"lost": True}))
            self._used += log.tell() - before - len(lines[-1])
        return True

    def remove(self, sid: str) -> None:
        """Delete a recording that auth has."""
        for part in (BYTES, LOG):
            path = self.folder / file_name(sid, part)
            try:
                size = path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                continue
            self._used -= size
        self._owed.pop(sid, None)

    def add_line(self, sid: str, descriptor: int, line: bytes, *, reserve: int = 0) -> None:
        """Write a line of a recording's log, or keep it until auth has it: the next one names it.

        Raises Unavailable for one that was not written.
        """
        if sid in self._owed:
            self._owed[sid] += line
            return
        try:
            self.write(descriptor, line, reserve=reserve)
        except Unavailable:
            self._owed[sid] = line
            raise

    def write(self, descriptor: int, data: bytes, *, reserve: int) -> None:
        """Write all of it, or nothing. Raises Unavailable beyond the limit, or when the disk does not take it."""
        if self._used + len(data) > self._limit - reserve:
            raise Unavailable(
                f"{self._used} bytes of recordings wait for auth, as many as ssh_service.spool_limit allows",
                hint="They are brought to auth once it can be reached.",
            )
        try:
            written = os.write(descriptor, data)
            if written < len(data):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise _failed(error) from error
        self._used += len(data)
        self.changed.set()

    def ended(self, sid: str) -> None:
        """Let a recording be over."""
        self._open.discard(sid)
        self.changed.set()

    def _shown(self, sid: str) -> bool:
        """Tell whether anything was shown of a session. Raises OSError."""
        try:
            return bool((self.folder / file_name(sid, BYTES)).stat().st_size)
        except FileNotFoundError:
            return False


class Recorder:
    """The recording of one session.

    `event` and `output` raise Unavailable when the disk does not take it; what follows is then not recorded.
    """

    def __init__(self, spool: Spool, sid: str, files: Mapping[Part, int], now: Callable[[], float]) -> None:
        self._spool = spool
        self._sid = sid
        self._files = dict(files)
        self._now = now
        self._began = now()
        self._script = Script()
        self._size = 0
        self._sum = hashlib.sha256()
        self._since = 0
        self._timer: asyncio.TimerHandle | None = None
        self._error: Unavailable | None = None

    def event(self, event: str, fields: Mapping[str, Field]) -> None:
        """Record something that happened beside the output."""
        self._entry()
        self._check()
        line = self._script.event(event, self._ms(), fields)
        self._spool.add_line(self._sid, self._files[LOG], line, reserve=RESERVE_BYTES)

    def output(self, data: bytes) -> None:
        """Record what the session prints, before anybody sees it."""
        self._check()
        try:
            self._spool.write(self._files[BYTES], data, reserve=RESERVE_BYTES)
        except Unavailable as error:
            self._error = error
            raise
        if not self._size:
            self._since = self._ms()
            self._timer = asyncio.get_running_loop().call_later(COALESCE_SECONDS, self._entry)
        self._size += len(data)
        self._sum.update(data)
        if self._size >= COALESCE_BYTES:
            self._entry()

    def truncated(self, reason: str) -> None:
        """Record that nothing more is recorded, and why."""
        self._entry()
        self._last(TRUNCATED, {"reason": reason})

    def close(self, fields: Mapping[str, Field]) -> None:
        """End the recording with the session's last event. Safe to call twice."""
        if not self._files:
            return
        self._entry()
        self._last(EventType.SESSION_END, fields)
        self._let_go()

    def discard(self) -> None:
        """Leave nothing of a recording that did not begin."""
        self._let_go()
        self._spool.remove(self._sid)

    def _let_go(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        self._spool.ended(self._sid)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _entry(self) -> None:
        """Write the line of what was printed since the last one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._size:
            return
        line = self._script.printed(self._size, self._sum.hexdigest(), self._since)
        self._size, self._sum = 0, hashlib.sha256()
        try:
            self._spool.add_line(self._sid, self._files[LOG], line)
        except Unavailable as error:
            self._error = error

    def _last(self, event: str, fields: Mapping[str, Field]) -> None:
        try:
            self._spool.add_line(self._sid, self._files[LOG], self._script.event(event, self._ms(), fields))
        except Unavailable as error:
            logger.warning("the end of recording %s waits in memory for auth: %s", self._sid, error)

    def _ms(self) -> int:
        return int((self._now() - self._began) * 1000)


def _failed(error: OSError) -> Unavailable:
    return Unavailable(f"the recording cannot be written: {error.strerror or error}", hint="Look at the node's disk.")
