"""Recordings as auth keeps them: data_dir/log/sessions/default, two files each (manual, "Recorded Sessions").

Which recordings there are, whose, and which auth server has the files, is in the shared storage:
`audit/recordings/SID`. A node appends to recordings of its own sessions, and reads none.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.api import messages as m
from runtime.audit.recording import BYTES, LOG, Part, file_name, verify
from runtime.backend.base import Backend
from runtime.core.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    CorruptState,
    NotFound,
    Unavailable,
)
from runtime.core.keys import AUDIT

logger = logging.getLogger(__name__)

PREFIX = f"{AUDIT}/recordings/"
PARTS: tuple[Part, Part] = (BYTES, LOG)


class Record(BaseModel):
    """What the storage knows of a recording."""

    model_config = ConfigDict(frozen=True)

    session: m.RecordingSession
    node: str
    auth: str
    """The auth server that has the files."""
    over: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """A recording whose files are here; `size` is that of both, in bytes."""

    sid: UUID
    user: str
    started: datetime
    over: bool
    size: int


class Recordings:
    """The recordings that this auth server has, and what is known of all."""

    def __init__(self, folder: Path | None, backend: Backend, *, auth: Callable[[], str]) -> None:
        """Take the folder, None if there is none for recordings, and what says where this auth server is."""
        self._folder = folder
        self._backend = backend
        self._auth = auth
        self._growing: dict[UUID, Record] = {}
        self._turns: dict[UUID, asyncio.Lock] = {}

    async def append(self, node: str, piece: m.RecordingPiece) -> int:
        """Take more of a recording from its node; return how long the file is now.

        What is there already is left out; what does not follow it is not taken. Raises AccessDenied for a session of
        another node, Unavailable when the disk does not take it.
        """
        sid = piece.session.sid
        async with self._turns.setdefault(sid, asyncio.Lock()):
            record = await self._known(node, piece.session)
            if record.over:
                return piece.offset + len(piece.data)
            try:
                return await asyncio.to_thread(self._write, sid, piece.part, piece.offset, piece.data)
            except OSError as error:
                raise Unavailable(f"recordings cannot be written: {error.strerror or error}") from error

    async def end(self, node: str, end: m.RecordingEnd) -> None:
        """Let a recording be over, and outlive this machine. Raises CompareFailed when some of it is missing."""
        sid = end.session.sid
        async with self._turns.setdefault(sid, asyncio.Lock()):
            record = await self._known(node, end.session)
            if not record.over:
                try:
                    sizes, problems = await asyncio.to_thread(self._close, sid)
                except OSError as error:
                    raise Unavailable(f"recordings cannot be written: {error.strerror or error}") from error
                if sizes != end.sizes:
                    raise CompareFailed(f"of recording {sid} there are {sizes} bytes here, not {end.sizes}")
                for problem in problems:
                    logger.error("recording %s of node %s: %s", sid, node, problem)
                record = record.model_copy(update={"over": True, "size": sizes[BYTES]})
                await self._backend.put(_key(sid), record.model_dump_json().encode())
        self._growing.pop(sid, None)
        self._turns.pop(sid, None)

    async def all(self, user: str = "") -> list[m.RecordingEntry]:
        """Return what recordings there are, those of a user if one is named, the latest first."""
        records = [record for record in await self._records() if user in ("", record.session.user)]
        records.sort(key=lambda record: record.session.started, reverse=True)
        return [_entry(record) for record in records]

    async def entry(self, sid: UUID) -> m.RecordingEntry:
        """Return what is known of a recording. Raises NotFound."""
        return _entry(await self._record(sid))

    async def read(self, wanted: m.RecordingRead) -> bytes:
        """Return bytes of a recording. Raises NotFound, and Unavailable when another auth server has it."""
        record = await self._record(wanted.sid)
        try:
            return await asyncio.to_thread(self._read, wanted)
        except FileNotFoundError:
            if record.auth != self._auth():
                raise Unavailable(
                    f"the recording of session {wanted.sid} is on the disk of auth server {record.auth}",
                    hint="Ask that one: tctl --auth-server=HOST; or give all auth servers one folder for recordings.",
                ) from None
            raise NotFound(f"the files of recording {wanted.sid} are gone from this auth server") from None
        except OSError as error:
            raise Unavailable(f"recording {wanted.sid} cannot be read: {error.strerror or error}") from error

    async def stored(self) -> list[Stored]:
        """Return the recordings that this server has, or should have: of some the files may be gone already.

        Raises Unavailable, OSError.
        """
        sizes = await asyncio.to_thread(self._sizes)
        here = self._auth()
        return [
            Stored(sid, record.session.user, record.session.started, record.over, sizes.get(sid, 0))
            for record in await self._records()
            if (sid := record.session.sid) in sizes or record.auth == here
        ]

    async def remove(self, sid: UUID) -> bool:
        """Delete a recording that is over: its files, then what the storage knows; return whether this did it.

        Raises Unavailable, OSError.
        """
        async with self._turns.setdefault(sid, asyncio.Lock()):
            try:
                if not (await self._record(sid)).over:
                    return False
                await asyncio.to_thread(self._unlink, sid)
                await self._backend.delete(_key(sid))
            except NotFound:  # another server on the same folder was first
                return False
            finally:
                self._turns.pop(sid, None)
        return True

    # --- inside --------------------------------------------------------------------------------------------------

    async def _known(self, node: str, session: m.RecordingSession) -> Record:
        """Return the record of a node's session, made if it is new, and this server's from now on."""
        record = self._growing.get(session.sid)
        if record is None:
            new = Record(session=session, node=node, auth=self._auth())
            try:
                await self._backend.create(_key(session.sid), new.model_dump_json().encode())
                record = new
            except AlreadyExists:
                record = await self._record(session.sid)
        if record.node != node:
            raise AccessDenied(f"session {session.sid} is not a session of node {node}")
        if record.auth != self._auth() and not record.over:
            record = record.model_copy(update={"auth": self._auth()})
            await self._backend.put(_key(session.sid), record.model_dump_json().encode())
        self._growing[session.sid] = record
        return record

    async def _records(self) -> list[Record]:
        records = []
        for item in (await self._backend.range(PREFIX)).items:
            try:
                records.append(Record.model_validate_json(item.value))
            except ValidationError:
                logger.warning("%s in the storage is no recording; it is left out", item.key)
        return records

    async def _record(self, sid: UUID) -> Record:
        try:
            item = await self._backend.get(_key(sid))
        except NotFound:
            raise NotFound(f"there is no recording of session {sid}", hint="See tctl recordings ls.") from None
        try:
            return Record.model_validate_json(item.value)
        except ValidationError as error:
            raise CorruptState(f"what the storage knows of recording {sid} cannot be read") from error

    def _open(self, sid: UUID, part: Part, flags: int) -> int:
        """Open a file of a recording under the folder, whatever links somebody may have put there."""
        if self._folder is None:
            raise OSError(errno.ENOENT, "this auth server keeps none")
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return os.open(file_name(str(sid), part), flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640, dir_fd=folder)
        finally:
            os.close(folder)

    def _sizes(self) -> dict[UUID, int]:
        """Return how many bytes each recording takes in the folder."""
        sizes: dict[UUID, int] = {}
        if self._folder is None or not self._folder.is_dir():
            return sizes
        for entry in os.scandir(self._folder):
            sid, dot, _ = entry.name.partition(".")
            with suppress(ValueError, FileNotFoundError):
                if dot and str(UUID(sid)) == sid:
                    sizes[UUID(sid)] = sizes.get(UUID(sid), 0) + entry.stat(follow_symlinks=False).st_size
        return sizes

    def _unlink(self, sid: UUID) -> None:
        if self._folder is None or not self._folder.is_dir():
            return
        for path in self._folder.glob(f"{sid}.session.*"):  # the two, and what is derived from them
            path.unlink(missing_ok=True)

    def _write(self, sid: UUID, part: Part, offset: int, data: bytes) -> int:
        descriptor = self._open(sid, part, os.O_WRONLY | os.O_CREAT)
        try:
            size = os.fstat(descriptor).st_size
            if not offset <= size < offset + len(data):
                return size
            return size + os.pwrite(descriptor, data[size - offset :], size)
        finally:
            os.close(descriptor)

    def _close(self, sid: UUID) -> tuple[dict[Part, int], list[str]]:
        sizes: dict[Part, int] = {}
        for part in PARTS:
            descriptor = self._open(sid, part, os.O_RDWR | os.O_CREAT)
            os.fsync(descriptor)
            sizes[part] = os.fstat(descriptor).st_size
            os.close(descriptor)
        with (
            open(self._open(sid, LOG, os.O_RDONLY), "rb") as log,  # noqa: PTH123 - opened under the folder
            open(self._open(sid, BYTES, os.O_RDONLY), "rb") as printed,  # noqa: PTH123
        ):
            return sizes, verify(log, printed)

    def _read(self, wanted: m.RecordingRead) -> bytes:
        descriptor = self._open(wanted.sid, wanted.part, os.O_RDONLY)
        try:
            return os.pread(descriptor, wanted.size, wanted.offset)
        finally:
            os.close(descriptor)


def _entry(record: Record) -> m.RecordingEntry:
    return m.RecordingEntry(
        session=record.session, node=record.node, over=record.over, size=record.size, auth=record.auth
    )


def _key(sid: UUID) -> str:
    return f"{PREFIX}{sid}"
