"""Recordings as auth keeps them: on its disk while they grow, and then there or in an object store (docs/adr/0010).

Which recordings there are, whose, and where the files are, is in the shared storage: `audit/recordings/SID`. A node
appends to recordings of its own sessions, and reads none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.api.recording_messages import (
    MAX_RECORDING_BYTES,
    RecordingEnd,
    RecordingEntry,
    RecordingPiece,
    RecordingRead,
    RecordingSession,
)
from runtime.audit.index import Indexer, extend
from runtime.audit.reading import INDEX, File, Source
from runtime.audit.recording import BYTES, LOG, Part
from runtime.auth.recording_files import ALL, RecordingFolder, name_of
from runtime.backend.base import Backend, Item
from runtime.backend.objects import ObjectStore
from runtime.core.errors import AccessDenied, AlreadyExists, CompareFailed, CorruptState, NotFound, Unavailable
from runtime.core.keys import AUDIT

logger = logging.getLogger(__name__)

PREFIX = f"{AUDIT}/recordings/"
INDEXES = 8
"""Recordings without an index on the disk whose index is kept in memory."""

INDEXING_SECONDS = 2.0
"""How long a call goes on making an index before it answers with what there is; the next goes on."""

Elsewhere = Callable[[str, RecordingRead], Awaitable[bytes]]
"""Reads a recording of the auth server at host:port. Raises Unavailable, NotFound."""


class Place(StrEnum):
    """Where the files of a recording are."""

    DISK = "disk"
    OBJECTS = "objects"


class Record(BaseModel):
    """What the storage knows of a recording."""

    model_config = ConfigDict(frozen=True)

    session: RecordingSession
    node: str
    auth: str
    """The auth server that took it, and has the files if they are on a disk."""
    over: bool = False
    size: int = 0
    """Bytes that were printed."""
    log: int = 0
    """Bytes of its log; 0 while it is not over."""
    total: int = 0
    """Bytes of all its files, once they were put into the object store."""
    head: str = ""
    """The link that a line after the log's last would name; empty before the recording was verified."""
    verified: bool = False
    """Whether all of it was read once it was over, and has an index."""
    place: Place = Place.DISK


@dataclass(frozen=True, slots=True)
class Stored:
    """A recording whose files are here, or in the object store; `size` is that of all its files, in bytes."""

    sid: UUID
    user: str
    started: datetime
    over: bool
    size: int


@dataclass(slots=True)
class _Index:
    """The index of a recording that has none on the disk."""

    indexer: Indexer = field(default_factory=Indexer)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Recordings:
    """The recordings that this auth server has, and what is known of all."""

    def __init__(
        self,
        folder: Path | None,
        backend: Backend,
        *,
        auth: Callable[[], str],
        objects: ObjectStore | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """Take the folder, None if there is none for recordings, and what says where this auth server is.

        `objects` is where recordings go once they are over; `elsewhere` reads those on the disk of another auth server.
        """
        self.folder = RecordingFolder(folder)
        self.objects = objects
        self._backend = backend
        self._auth = auth
        self._elsewhere = elsewhere
        self._growing: dict[UUID, Record] = {}
        self._turns: dict[UUID, asyncio.Lock] = {}
        self._indexes: OrderedDict[UUID, _Index] = OrderedDict()
        self.ended: set[UUID] = set()
        """Sessions whose recordings have come to their end here, for who files them."""
        self.changed = asyncio.Event()
        """Set when there are more of them."""

    @property
    def here(self) -> str:
        """The address of this auth server; empty while it is not known."""
        return self._auth()

    async def append(self, node: str, piece: RecordingPiece) -> int:
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
                return await asyncio.to_thread(self.folder.write, sid, piece.part, piece.offset, piece.data)
            except OSError as error:
                raise Unavailable(f"recordings cannot be written: {error.strerror or error}") from error

    async def end(self, node: str, end: RecordingEnd) -> None:
        """Let a recording be over, and outlive this machine. Raises CompareFailed when some of it is missing.

        Whether it is as the node wrote it, whoever files it looks (`runtime.auth.filing`): that takes a while.
        """
        sid = end.session.sid
        async with self._turns.setdefault(sid, asyncio.Lock()):
            record = await self._known(node, end.session)
            if not record.over:
                try:
                    sizes = await asyncio.to_thread(self.folder.close, sid)
                except OSError as error:
                    raise Unavailable(f"recordings cannot be written: {error.strerror or error}") from error
                if sizes != end.sizes:
                    raise CompareFailed(f"of recording {sid} there are {sizes} bytes here, not {end.sizes}")
                record = record.model_copy(update={"over": True, "size": sizes[BYTES], "log": sizes[LOG]})
                await self._backend.put(_key(sid), record.model_dump_json().encode())
                self.ended.add(sid)
                self.changed.set()
        self._growing.pop(sid, None)
        self._turns.pop(sid, None)

    async def all(self, user: str = "") -> list[RecordingEntry]:
        """Return what recordings there are, those of a user if one is named, the latest first."""
        records = [record for record in await self.records() if user in ("", record.session.user)]
        records.sort(key=lambda record: record.session.started, reverse=True)
        return [_entry(record) for record in records]

    async def entry(self, sid: UUID) -> RecordingEntry:
        """Return what is known of a recording. Raises NotFound."""
        return _entry((await self.record(sid))[0])

    async def read(self, wanted: RecordingRead, *, forward: bool = True) -> bytes:
        """Return bytes of a recording, wherever it is.

        Raises NotFound; Unavailable when the object store does not answer, or the auth server that has the recording,
        which is not asked without `forward`.
        """
        record, _ = await self.record(wanted.sid)
        if record.place is Place.OBJECTS:
            return await self._read_objects(wanted)
        try:
            if record.auth == self._auth() or not forward or await asyncio.to_thread(self.is_whole, record):
                return await self._read_disk(wanted)
        except FileNotFoundError:
            if not record.over:
                return b""  # it has just begun
            if record.auth == self._auth():
                raise NotFound(f"the files of recording {wanted.sid} are gone from this auth server") from None
        except OSError as error:
            raise Unavailable(f"recording {wanted.sid} cannot be read: {error.strerror or error}") from error
        return await self._read_elsewhere(record, wanted, forward=forward)

    def source(self, sid: UUID) -> Source:
        """Return what reads a recording in a thread beside the loop that runs now."""
        return _Source(self, sid, asyncio.get_running_loop())

    async def stored(self) -> list[Stored]:
        """Return the recordings that this server can delete, or should have: of some the files may be gone already.

        Raises Unavailable, OSError.
        """
        sizes = await asyncio.to_thread(self.folder.sizes)
        found = []
        for record in await self.records():
            sid, session = record.session.sid, record.session
            on_disk = sid in sizes or record.auth == self._auth()
            if on_disk if record.place is Place.DISK else self.objects is not None:
                size = sizes.get(sid, 0) + record.total
                found.append(Stored(sid, session.user, session.started, record.over, size))
        return found

    async def remove(self, sid: UUID) -> bool:
        """Delete a recording that is over: its files, then what the storage knows; return whether this did it.

        Raises Unavailable, AccessDenied, OSError.
        """
        async with self._turns.setdefault(sid, asyncio.Lock()):
            try:
                record, _ = await self.record(sid)
                if not record.over:
                    return False
                if record.place is Place.OBJECTS:
                    store = self._store(sid)
                    for part in ALL:
                        await store.delete(name_of(sid, part))
                await asyncio.to_thread(self.folder.unlink, sid)
                await self._backend.delete(_key(sid))
            except NotFound:  # another server was first
                return False
            finally:
                self._turns.pop(sid, None)
        return True

    async def records(self) -> list[Record]:
        """Return what the storage knows of all recordings. Raises Unavailable."""
        records = []
        for item in (await self._backend.range(PREFIX)).items:
            try:
                records.append(Record.model_validate_json(item.value))
            except ValidationError:
                logger.warning("%s in the storage is no recording; it is left out", item.key)
        return records

    def is_whole(self, record: Record) -> bool:
        """Tell whether the folder has all of a recording that is over. Blocks. Raises OSError."""
        # Both: what somebody else was brought to the end, a killed server may have but for the log's last lines.
        wanted: dict[Part, int] = {BYTES: record.size, LOG: record.log}
        return record.over and all(self.folder.size(record.session.sid, part) == wanted[part] for part in wanted)

    async def record(self, sid: UUID) -> tuple[Record, Item]:
        """Return what the storage knows of one, and the item that it is. Raises NotFound, CorruptState."""
        try:
            item = await self._backend.get(_key(sid))
        except NotFound:
            raise NotFound(f"there is no recording of session {sid}", hint="See tctl recordings ls.") from None
        try:
            return Record.model_validate_json(item.value), item
        except ValidationError as error:
            raise CorruptState(f"what the storage knows of recording {sid} cannot be read") from error

    async def change(self, sid: UUID, **update: object) -> None:
        """Note something of a recording that is over. Raises NotFound, CompareFailed: somebody else was first."""
        record, item = await self.record(sid)
        changed = record.model_copy(update=update).model_dump_json().encode()
        await self._backend.compare_and_swap(item.key, changed, revision=item.revision)

    # --- inside --------------------------------------------------------------------------------------------------

    async def _known(self, node: str, session: RecordingSession) -> Record:
        """Return the record of a node's session, made if it is new, and this server's from now on."""
        record = self._growing.get(session.sid)
        if record is None:
            new = Record(session=session, node=node, auth=self._auth())
            try:
                await self._backend.create(_key(session.sid), new.model_dump_json().encode())
                record = new
            except AlreadyExists:
                record, _ = await self.record(session.sid)
        if record.node != node:
            raise AccessDenied(f"session {session.sid} is not a session of node {node}")
        if record.auth != self._auth() and not record.over:
            record = record.model_copy(update={"auth": self._auth()})
            await self._backend.put(_key(session.sid), record.model_dump_json().encode())
        self._growing[session.sid] = record
        return record

    async def _read_disk(self, wanted: RecordingRead) -> bytes:
        try:
            return await asyncio.to_thread(self.folder.read, wanted.sid, wanted.part, wanted.offset, wanted.size)
        except FileNotFoundError:
            if wanted.part != INDEX:
                raise
        return await self._read_index(wanted, _Disk(self.folder, wanted.sid))

    async def _read_index(self, wanted: RecordingRead, files: Source) -> bytes:
        """Return bytes of an index that is not on the disk, for the recording grows, or is older than indexes are."""
        found = self._indexes.setdefault(wanted.sid, _Index())
        self._indexes.move_to_end(wanted.sid)
        if len(self._indexes) > INDEXES:
            self._indexes.popitem(last=False)
        deadline = time.monotonic() + INDEXING_SECONDS

        def enough() -> bool:
            return time.monotonic() > deadline and len(found.indexer.lines) > wanted.offset

        async with found.turn:
            await asyncio.to_thread(extend, found.indexer, files, enough)
        return bytes(found.indexer.lines[wanted.offset : wanted.offset + wanted.size])

    async def _read_objects(self, wanted: RecordingRead) -> bytes:
        store, name = self._store(wanted.sid), name_of(wanted.sid, wanted.part)
        try:
            return await store.read(name, wanted.offset, wanted.size)
        except NotFound:
            with suppress(OSError):  # it was just put there, or is to be deleted from here
                return await asyncio.to_thread(self.folder.read, wanted.sid, wanted.part, wanted.offset, wanted.size)
            raise NotFound(f"{name} is gone from {store.name}") from None

    async def _read_elsewhere(self, record: Record, wanted: RecordingRead, *, forward: bool) -> bytes:
        """Ask the auth server that has a recording; of one that grows, what is here is better than nothing."""
        try:
            if self._elsewhere is None or not forward:
                raise Unavailable("it is not asked from here")
            return await self._elsewhere(record.auth, wanted)
        except Unavailable as error:
            if not record.over:
                with suppress(OSError):
                    return await self._read_disk(wanted)
            raise Unavailable(
                f"the recording of session {wanted.sid} is on the disk of auth server {record.auth}: {error}",
                hint="Start that one again. With audit.recordings_uri in teleport.yaml recordings go where all "
                "auth servers read them.",
            ) from error

    def _store(self, sid: UUID) -> ObjectStore:
        if self.objects is None:
            raise Unavailable(
                f"recording {sid} is in an object store, and this auth server has none",
                hint="Give all auth servers the same audit.recordings_uri in teleport.yaml.",
            )
        return self.objects


class _Disk:
    """The files of one recording in a folder."""

    def __init__(self, folder: RecordingFolder, sid: UUID) -> None:
        self._folder = folder
        self._sid = sid

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Return bytes of a file."""
        try:
            return self._folder.read(self._sid, part, offset, size)
        except FileNotFoundError:
            return b""  # it has just begun
        except OSError as error:
            raise Unavailable(f"recording {self._sid} cannot be read: {error.strerror or error}") from error


class _Source:
    """A recording wherever it is, for threads."""

    def __init__(self, recordings: Recordings, sid: UUID, loop: asyncio.AbstractEventLoop) -> None:
        self._recordings = recordings
        self._sid = sid
        self._loop = loop

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Return bytes of a file."""
        wanted = RecordingRead(sid=self._sid, part=part, offset=offset, size=min(size, MAX_RECORDING_BYTES))
        return asyncio.run_coroutine_threadsafe(self._recordings.read(wanted), self._loop).result()


def _entry(record: Record) -> RecordingEntry:
    return RecordingEntry(
        session=record.session, node=record.node, over=record.over, size=record.size, auth=record.auth, head=record.head
    )


def _key(sid: UUID) -> str:
    return f"{PREFIX}{sid}"
