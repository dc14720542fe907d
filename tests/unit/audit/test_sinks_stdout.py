"""Events to a pipe that is read, that is not read for a while, and that nobody will read again."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from runtime.audit.sinks import stdout
from runtime.audit.sinks.stdout import StdoutSink
from runtime.core.errors import Unavailable


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Yield a pipe to read from and to write to, and close it."""
    monkeypatch.setattr(stdout, "WAIT_SECONDS", 0.05)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    for end in (reading, writing):
        try:
            os.close(end)
        except OSError:
            assert end == reading  # the test has closed it


def drained(reading: int) -> bytes:
    """Return what there is to read."""
    data = b""
    while True:
        try:
            data += os.read(reading, 65536)
        except BlockingIOError:
            return data


async def test_lines_as_they_are(pipe: tuple[int, int]) -> None:
    """One line each, at once."""
    sink = StdoutSink(pipe[1])
    await sink.take([b'{"a":1}', b'{"b":2}'])
    assert drained(pipe[0]) == b'{"a":1}\n{"b":2}\n'
    await sink.take([b'{"a":1}'])
    assert drained(pipe[0]) == b'{"a":1}\n'


async def test_a_reader_that_stalls(pipe: tuple[int, int]) -> None:
    """The events wait; the batch that comes again, grown meanwhile, goes on in the middle of its line."""
    sink = StdoutSink(pipe[1])
    lines = [b"%d" % number * 3000 for number in range(30)]
    with pytest.raises(Unavailable, match="nobody reads stdout"):
        await sink.take(lines)
    seen = drained(pipe[0])
    assert 0 < len(seen) < sum(map(len, lines))
    with pytest.raises(Unavailable):
        await sink.take([*lines, b"more"])
    seen += drained(pipe[0])
    await sink.take([*lines, b"more"])
    seen += drained(pipe[0])
    assert seen.split(b"\n") == [*lines, b"more", b""]


async def test_a_reader_that_is_gone(pipe: tuple[int, int]) -> None:
    """It is told as what it is; the process lives."""
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        await StdoutSink(pipe[1]).take([b"x"])
