"""A recording written for other programs, to stdout or to a file that is there as a whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from runtime.audit.asciicast import asciicast
from runtime.audit.page import page, player
from runtime.audit.plain_text import as_text
from runtime.audit.reading import Source, copy, entries, lines, pieces
from runtime.audit.recording import BYTES, LOG
from runtime.cli import console
from runtime.core.errors import InvalidInput

Write = Callable[[Source, BinaryIO], None]


def writer(shape: str, *, idle_limit: float | None, to_terminal: bool) -> Write:
    """Return what writes a recording in a format. Raises InvalidInput, Unavailable where it cannot be had here.

    What goes to a terminal has nothing in it that a terminal obeys.
    """
    match shape:
        case "asciicast":
            return lambda source, file: _encoded(
                file, (f"{line}\n" for line in asciicast(entries(source), idle_limit=idle_limit))
            )
        case "html":
            built = player()
            return lambda source, file: _encoded(file, page(entries(source), built, idle_limit=idle_limit))
        case "text":
            return lambda source, file: _encoded(file, as_text(pieces(source, BYTES)))
        case "log" if to_terminal:
            return lambda source, file: _encoded(
                file, (f"{console.visible(line.decode('utf-8', 'replace'))}\n" for _, line in lines(source))
            )
        case "bytes" if to_terminal:
            raise InvalidInput(
                "the bytes of a session would do to this terminal what they did to that one",
                hint="Write them to a file with -o, or see them with tsh play.",
            )
        case _:
            return lambda source, file: copy(source, LOG if shape == "log" else BYTES, file)


@contextmanager
def target(output: Path | None) -> Iterator[BinaryIO]:
    """Yield the file to write: `output`, which appears when all is written, or stdout for None and `-`.

    Nobody but its owner may read a new file. Raises InvalidInput when it cannot be written.
    """
    if output is None or str(output) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        if output.exists() and not output.is_file():  # /dev/null, a pipe: not to be replaced
            with output.open("wb") as file:
                yield file
            return
        with _replacing(Path(os.path.realpath(output))) as file:
            yield file
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written: {error.strerror}", hint="Name another file.") from error


@contextmanager
def _replacing(output: Path) -> Iterator[BinaryIO]:
    descriptor, name = tempfile.mkstemp(prefix=f".{output.name[:100]}.", suffix=".part", dir=output.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(output)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _encoded(file: BinaryIO, text: Iterator[str]) -> None:
    file.writelines(piece.encode("utf-8", "replace") for piece in text)
