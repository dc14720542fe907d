"""A recording is written piece by piece: however long it is, little of it is in memory."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pytest

from runtime.audit.reading import File
from runtime.cli.tctl.exporting import target, writer
from runtime.cli.tctl.recordings import FORMATS
from runtime.core.errors import InvalidInput, Unavailable
from tests.servers.recorded import Recorded

LINE = b"2026-11-22 20:15:00 a line of a log that goes on and on and on and on\r\n"
ENTRY = LINE * 800
ENTRIES = 300


class Long:
    """A recording of which only one entry exists, as often as is asked for."""

    def __init__(self) -> None:
        short = Recorded([(1, ENTRY)], over=False)
        start, entry = short.log.splitlines(True)
        fields = json.loads(entry)
        self._log = start + b"".join(
            json.dumps({**fields, "ms": number * 50, "offset": number * len(ENTRY)}).encode() + b"\n"
            for number in range(ENTRIES)
        )

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Return bytes of a file."""
        if part != "bytes":
            return self._log[offset : offset + size] if part == "log" else b""
        size = max(0, min(size, ENTRIES * len(ENTRY) - offset))
        begin = offset % len(ENTRY)
        return (ENTRY * (size // len(ENTRY) + 2))[begin : begin + size]


class Counting(io.RawIOBase):
    """A file that forgets."""

    written = 0

    def writable(self) -> bool:
        """Say that it takes anything."""
        return True

    def write(self, data: object) -> int:
        """Count it."""
        assert isinstance(data, bytes)
        self.written += len(data)
        return len(data)


@pytest.mark.parametrize("shape", FORMATS)
def test_a_long_recording_takes_little_memory(shape: str) -> None:
    """17 MB are written in each format without a tenth of it being held."""
    source, file = Long(), Counting()
    write = writer(shape, idle_limit=None, to_terminal=False)
    tracemalloc.start()
    write(source, file)  # type: ignore[arg-type]  # all that is used of a file it has
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000
    if shape not in ("log", "html"):
        assert file.written > 0.9 * ENTRIES * len(ENTRY)


def fail(output: Path, error: BaseException) -> None:
    """Write half a file, and fail."""
    with target(output) as file:
        file.write(b"half")
        raise error


def test_a_failure_in_the_middle_leaves_what_was_there(tmp_path: Path) -> None:
    """Auth goes away, the disk fills up: the file is as it was, and nothing lies beside it."""
    output = tmp_path / "there"
    output.write_text("before")
    for error in (Unavailable("auth is away"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(output, error)
    with pytest.raises(InvalidInput, match="cannot be written: No space left"):
        fail(output, OSError(28, "No space left on device"))
    assert output.read_text() == "before"
    assert list(tmp_path.iterdir()) == [output]


def test_bytes_are_not_for_terminals() -> None:
    """They would do there what they did to the first; in a file they are as they were."""
    with pytest.raises(InvalidInput, match="would do to this terminal"):
        writer("bytes", idle_limit=None, to_terminal=True)
    file = io.BytesIO()
    writer("bytes", idle_limit=None, to_terminal=False)(Recorded([(1, b"\x1b]0;x\x07")]), file)
    assert file.getvalue() == b"\x1b]0;x\x07"
    forged = Recorded([])
    forged.log += b'{"event":"\x1b]0;x\x07"}\n'
    file = io.BytesIO()
    writer("log", idle_limit=None, to_terminal=True)(forged, file)
    assert b"\x1b" not in file.getvalue()
    assert rb"\x1b]0;x" in file.getvalue()
