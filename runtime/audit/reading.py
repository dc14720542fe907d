"""Reading a recording piece by piece, wherever its files are: however long it is, little of it is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from runtime.audit.recording import BYTES, LOG, PRINT, Frame, Part, file_name, frames
from runtime.core.errors import InvalidInput, NotFound

File = Part | Literal["index"]
"""What there is of a recording: its two files, and what is derived from them (`runtime.audit.index`)."""
INDEX: Literal["index"] = "index"

PIECE_BYTES = 256 * 1024
MAX_LINE_BYTES = 1024 * 1024
"""A line of the log that is longer is none."""
MAX_PRINT_BYTES = 1024 * 1024
"""More than a node puts into one entry; a longer one is read as several."""


class Source(Protocol):
    """The files of one recording."""

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Return up to so many bytes from there on; none where there is no more, or no more yet. Blocks.

        Raises NotFound, AccessDenied, Unavailable.
        """
        ...


class FileSource:
    """A recording in a folder: SID.session.bytes, SID.session.log, and the index if there is one."""

    def __init__(self, path: Path) -> None:
        """Take the path of one of the first two. Raises NotFound, InvalidInput."""
        for part in (BYTES, LOG):
            if path.name.endswith(f".session.{part}"):
                self._sid = path.name.removesuffix(f".session.{part}")
                break
        else:
            raise InvalidInput(
                f"{path} is no file of a recording: those end in .session.bytes and .session.log",
                hint="Name one of the two; the other has to lie beside it.",
            )
        self._folder = path.parent
        for part in (BYTES, LOG):
            self.read(part, 0, 1)

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Return bytes of a file."""
        path = self._folder / (f"{self._sid}.session.index" if part == INDEX else file_name(self._sid, part))
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            raise NotFound(
                f"{path} cannot be read: {error.strerror}", hint="A recording is two files, side by side."
            ) from error


def pieces(source: Source, part: File, offset: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield what one file holds from there on, up to `end` if that is given."""
    while end is None or offset < end:
        data = source.read(part, offset, PIECE_BYTES if end is None else min(PIECE_BYTES, end - offset))
        if not data:
            return
        yield data
        offset += len(data)


def copy(source: Source, part: File, file: BinaryIO) -> None:
    """Write all of one file."""
    file.writelines(pieces(source, part))


def lines(source: Source, offset: int = 0, part: File = LOG) -> Iterator[tuple[int, bytes]]:
    """Yield the lines from there on, each with the offset of what follows it; one that has no end yet is none."""
    rest = b""
    for piece in pieces(source, part, offset):
        whole = (rest + piece).split(b"\n")
        rest = whole.pop()
        for line in whole:
            offset += len(line) + 1
            yield offset, line
        if len(rest) > MAX_LINE_BYTES:
            raise InvalidInput(
                f"the {part} of the recording has a line of more than {MAX_LINE_BYTES} bytes at byte {offset}",
                hint="It is damaged from there on.",
            )


def walk(source: Source, log: int = 0) -> Iterator[tuple[int, Frame, bytes]]:
    """Yield the lines of the log from that offset on: the offset of what follows, the line, and what was printed.

    Lines that cannot be read are left out, and what was printed at once is yielded in pieces if it is long. Raises
    what `Source.read` raises, InvalidInput for a log that is none.
    """
    window = Window(source)
    end = 0
    for after, line in lines(source, log):
        for frame in frames([line]):
            if frame.event != PRINT:
                yield after, frame, b""
                continue
            if frame.offset < end:
                continue  # was that already: no line of a log that a node wrote goes back
            end = frame.offset + frame.size
            for start in range(frame.offset, frame.offset + frame.size, MAX_PRINT_BYTES):
                size = min(MAX_PRINT_BYTES, frame.offset + frame.size - start)
                if not (data := window.read(start, size)):
                    break  # a line may claim whatever it likes
                yield after, replace(frame, offset=start, size=size), data


def entries(source: Source, *, log: int = 0) -> Iterator[tuple[Frame, bytes]]:
    """Yield what `walk` yields, without the offsets."""
    for _, frame, data in walk(source, log):
        yield frame, data


class Window:
    """What was printed, read on in pieces: entries are short, and follow one another."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start = 0
        self._data = b""

    def read(self, offset: int, size: int) -> bytes:
        """Return what was printed there; less where the bytes have not come yet, or are gone."""
        end = offset + size
        if not self._start <= offset <= self._start + len(self._data):
            self._start, self._data = offset, b""
        if end > self._start + len(self._data):
            self._data = self._data[offset - self._start :]
            self._start = offset
            while len(self._data) < size:
                more = self._source.read(BYTES, offset + len(self._data), max(PIECE_BYTES, size - len(self._data)))
                if not more:
                    break
                self._data += more
        return self._data[offset - self._start : end - self._start]
