"""The files of recordings in a folder of this machine (manual, "Recorded Sessions"). Everything here blocks.

A session's id is a UUID before it becomes a name, and a file is opened under its folder, whatever links somebody may
have put there.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from runtime.audit.chain import link
from runtime.audit.files import last_line
from runtime.audit.index import Indexer
from runtime.audit.reading import INDEX, File
from runtime.audit.recording import BYTES, LOG, Part, file_name, verify

PARTS: tuple[Part, Part] = (BYTES, LOG)
ALL: tuple[File, ...] = (*PARTS, INDEX)
_NEW = ".new"


class RecordingFolder:
    """Recordings of this auth server, or of several that share a folder. Its methods raise OSError."""

    def __init__(self, folder: Path | None) -> None:
        """Take the folder, None if none are kept; it is made when it is needed."""
        self._folder = folder

    def read(self, sid: UUID, part: File, offset: int, size: int) -> bytes:
        """Return bytes of a file."""
        descriptor = self._open(name_of(sid, part), os.O_RDONLY)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def write(self, sid: UUID, part: Part, offset: int, data: bytes) -> int:
        """Write what is not there yet, if it follows what is; return how long the file is then."""
        descriptor = self._open(name_of(sid, part), os.O_WRONLY | os.O_CREAT)
        try:
            size = os.fstat(descriptor).st_size
            if not offset <= size < offset + len(data):
                return size
            return size + os.pwrite(descriptor, data[size - offset :], size)
        finally:
            os.close(descriptor)

    def close(self, sid: UUID) -> dict[Part, int]:
        """Put both files on the disk, and return how long they are."""
        sizes: dict[Part, int] = {}
        for part in PARTS:
            descriptor = self._open(name_of(sid, part), os.O_RDWR | os.O_CREAT)
            try:
                os.fsync(descriptor)
                sizes[part] = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
        return sizes

    def verify(self, sid: UUID) -> list[str]:
        """Return what is wrong with a recording, and leave its index beside it."""
        indexer = Indexer()
        with self.open(sid, LOG) as log, self.open(sid, BYTES) as printed:
            problems = verify(log, printed, indexer)
        name = name_of(sid, INDEX)
        descriptor = self._open(name + _NEW, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - opened under the folder
            file.write(indexer.lines)
        folder = self._open_folder()
        try:
            os.replace(name + _NEW, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(folder)
        return problems

    def head(self, sid: UUID) -> str:
        """Return the link that a line after the log's last would name: nobody who rewrites both files keeps it."""
        descriptor = self._open(name_of(sid, LOG), os.O_RDONLY)
        try:
            return link(last_line(descriptor)[0])
        finally:
            os.close(descriptor)

    def open(self, sid: UUID, part: File) -> BinaryIO:
        """Open a file for reading."""
        return open(self._open(name_of(sid, part), os.O_RDONLY), "rb")  # noqa: PTH123 - opened under the folder

    def size(self, sid: UUID, part: File) -> int:
        """Return how long a file is."""
        descriptor = self._open(name_of(sid, part), os.O_RDONLY)
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    def sizes(self) -> dict[UUID, int]:
        """Return how many bytes each recording takes."""
        sizes: dict[UUID, int] = {}
        if self._folder is None or not self._folder.is_dir():
            return sizes
        for entry in os.scandir(self._folder):
            sid, dot, _ = entry.name.partition(".")
            with suppress(ValueError, FileNotFoundError):
                if dot and str(UUID(sid)) == sid:
                    sizes[UUID(sid)] = sizes.get(UUID(sid), 0) + entry.stat(follow_symlinks=False).st_size
        return sizes

    def unlink(self, sid: UUID) -> None:
        """Delete a recording: the two files, and what is derived from them."""
        if self._folder is None or not self._folder.is_dir():
            return
        for path in self._folder.glob(f"{sid}.session.*"):
            path.unlink(missing_ok=True)

    def _open(self, name: str, flags: int) -> int:
        folder = self._open_folder()
        try:
            return os.open(name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640, dir_fd=folder)
        finally:
            os.close(folder)

    def _open_folder(self) -> int:
        if self._folder is None:
            raise OSError(errno.ENOENT, "this auth server keeps none")
        self._folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        return os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def name_of(sid: UUID, part: File) -> str:
    """Return the name of a recording's file."""
    return f"{sid}.session.index" if part == INDEX else file_name(str(sid), part)
