"""The file: who may read it, how it is opened, its schema, and what SQLite's errors mean to us."""

from __future__ import annotations

import logging
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

import apsw

from runtime.core.errors import InvalidSettings, TeleportError, Unavailable

OLDEST_SQLITE = (3, 51, 3)
"""Before it, two connections that write and checkpoint at the same moment could corrupt a WAL database."""

APPLICATION_ID = 0x54_4C_50_54
"""Marks the file as ours, for us and for `file`: TLPT in ASCII."""

SCHEMA_VERSION = 1

_SCHEMA = """
    CREATE TABLE items (
        key      TEXT PRIMARY KEY NOT NULL,
        revision INTEGER NOT NULL,
        expires  INTEGER,              -- milliseconds since 1970 UTC
        value    BLOB NOT NULL
    ) STRICT;
    CREATE INDEX items_expires ON items (expires) WHERE expires IS NOT NULL;
    -- Bounded history: one row for each revision above meta.forgotten. A row without value is a deletion.
    CREATE TABLE changes (
        revision INTEGER PRIMARY KEY,
        key      TEXT NOT NULL,
        expires  INTEGER,
        written  INTEGER NOT NULL,     -- milliseconds since 1970 UTC
        value    BLOB
    ) STRICT;
    CREATE TABLE meta (forgotten INTEGER NOT NULL) STRICT;
    INSERT INTO meta VALUES (0);
"""

_WAL_KEPT_BYTES = 64 * 1024 * 1024
_RETRY_SECONDS = 0.002

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Connections:
    """What one backend holds of one database; `path` has all folders resolved."""

    path: Path
    writer: apsw.Connection
    reader: apsw.Connection
    poller: apsw.Connection

    def close(self) -> None:
        """Close all of them. Blocks."""
        for connection in (self.poller, self.reader, self.writer):
            connection.close()


def open_database(path: Path, *, timeout: float) -> Connections:
    """Open the database, making the file and its schema where they are missing. Blocks.

    The file is private to its owner (0600): it holds the private keys of the authorities. Its folder may be reached
    through a symbolic link, the file itself may not be one.

    Raises InvalidSettings when something else is in its place, Unavailable when it cannot be opened within `timeout`
    seconds.
    """
    _check_sqlite(apsw.sqlite_lib_version())
    try:
        path = _make_private_file(path)
    except OSError as error:
        raise Unavailable(
            f"the sqlite database {path} cannot be opened: {error.strerror}",
            hint="Check that its folder exists and belongs to the user that Teleport runs as.",
        ) from error
    opened: list[apsw.Connection] = []
    deadline = time.monotonic() + timeout
    try:
        opened.append(connect(path, deadline=deadline))
        _prepare_schema(path, opened[0], deadline=deadline)
        opened.extend(connect(path, deadline=deadline, read_only=True) for _ in range(2))
        return Connections(path, *opened)
    except BaseException as error:
        for connection in opened:
            connection.close()
        if isinstance(error, apsw.Error):
            raise translated(error, path) from error
        raise


def connect(path: Path, *, deadline: float, read_only: bool = False) -> apsw.Connection:
    """Open a connection that tries for a lock until `deadline`, in seconds of time.monotonic. Raises apsw.Error."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW)
    connection.set_busy_handler(lambda attempt: time.monotonic() < deadline and pause(attempt))
    # FULL: the log is flushed to the disk before a commit is acknowledged.
    connection.execute(f"PRAGMA synchronous = FULL; PRAGMA journal_size_limit = {_WAL_KEPT_BYTES}")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def pause(attempt: int) -> bool:
    """Sleep before the next attempt at a lock; a busy handler ends with it.

    SQLite's own handler sleeps up to 100 ms and starves beside a process that writes without pause.
    """
    time.sleep(_RETRY_SECONDS)
    return True


def translated(error: apsw.Error, path: Path) -> TeleportError:
    """Return what an error of SQLite means for whoever runs Teleport, with the original as its cause."""
    translation = _translation(error, path)
    translation.__cause__ = error
    return translation


def _translation(error: apsw.Error, path: Path) -> TeleportError:
    name = f"the sqlite database {path}"
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return busy(path)
        case apsw.NotADBError():
            return InvalidSettings(
                f"{path} is not a sqlite database", hint="Name another file, or move this one out of the way."
            )
        case apsw.CorruptError():
            return Unavailable(f"{name} is damaged: {error}", hint="Stop Teleport and restore the file from a backup.")
        case apsw.FullError():
            return Unavailable(f"{name} cannot grow: the disk is full", hint="Make room; nothing else needs doing.")
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError() | apsw.AuthError():
            return Unavailable(
                f"{name} cannot be written: {error}",
                hint="Check that it, its folder and its -wal and -shm files belong to the user that Teleport runs as.",
            )
        case _:
            return Unavailable(f"{name} failed: {error}", hint="Check the disk, its quota and the kernel's log.")


def busy(path: Path) -> Unavailable:
    """Return the error of a call that got no lock, or no answer of the disk, in time."""
    return Unavailable(
        f"the sqlite database {path} did not answer in time: another process holds its lock, or the disk hangs",
        hint=f"Look for a stopped or hanging process with `fuser -v {path}`.",
    )


def _check_sqlite(version: str) -> None:
    if tuple(int(part) for part in version.split(".")) < OLDEST_SQLITE:
        raise Unavailable(
            f"SQLite {version} can corrupt a database that two processes write to",
            hint="Install apsw from its wheel, which brings SQLite {}.{}.{} or newer.".format(*OLDEST_SQLITE),
        )


def _make_private_file(path: Path) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = path.parent.resolve() / path.name
    try:
        # Exclusive: closing a descriptor of a database that is open in this process would drop SQLite's locks on it.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            raise InvalidSettings(
                f"{path} is not a regular file", hint="Name the database itself, not a link or folder."
            ) from None
        _make_private(path)
    return path


def _make_private(path: Path) -> None:
    """Take a file that others may open back to its owner, as fsGroup of a Kubernetes volume and restores need."""
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        try:
            if file.lstat().st_mode & 0o077:
                file.chmod(0o600)
                _log.warning("%s was open to other users; its mode is 0600 now", file)
        except FileNotFoundError:
            continue


def _prepare_schema(path: Path, connection: apsw.Connection, *, deadline: float) -> None:
    _check_owner(path, connection)
    # SQLite does not always call the busy handler for this one: two processes that change the mode at once could
    # wait for each other.
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
    if connection.pragma("user_version") == SCHEMA_VERSION:
        return  # without the write lock: reads are served while somebody else holds it
    connection.execute("BEGIN IMMEDIATE")
    try:
        if connection.pragma("user_version") == 0:
            connection.execute(_SCHEMA)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", SCHEMA_VERSION)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _check_owner(path: Path, connection: apsw.Connection) -> None:
    connection.execute("BEGIN")  # one moment's reading: somebody else may be making the schema right now
    try:
        version = connection.pragma("user_version")
        application = connection.pragma("application_id")
        empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    finally:
        connection.execute("COMMIT")
    if application != APPLICATION_ID and not (empty and application == 0 and version == 0):
        raise InvalidSettings(f"{path} is another application's database", hint="Name another file.")
    if version > SCHEMA_VERSION:
        raise InvalidSettings(
            f"{path} was written by a newer Teleport: schema {version}, and this one knows {SCHEMA_VERSION}",
            hint="Run that version, or restore a backup of the time before it.",
        )
