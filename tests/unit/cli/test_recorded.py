"""Recordings of the cluster as tsh reads them: in blocks, some kept, the next one read ahead."""

from __future__ import annotations

import os
import threading

import pytest

from runtime.audit.reading import File
from runtime.cli.recorded import BLOCK_BYTES, BLOCKS, ReadAhead
from runtime.core.errors import Unavailable
from tests.servers.recorded import Memory

SECONDS = 60.0


class Slow:
    """A source that counts what it is asked for, gives a few KiB at a time, and can be away."""

    def __init__(self, source: Memory) -> None:
        self.source = source
        self.asked: list[tuple[File, int]] = []
        self.away = False
        self.idle = threading.Condition()

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Return some bytes."""
        with self.idle:
            self.asked.append((part, offset // BLOCK_BYTES))
            self.idle.notify_all()
        if self.away:
            raise Unavailable("the proxy is away")
        return self.source.read(part, offset, min(size, 100_000))

    def wait_for(self, part: File, number: int) -> None:
        """Wait until a block is asked for."""
        with self.idle:
            assert self.idle.wait_for(lambda: (part, number) in self.asked, SECONDS)


def test_the_next_block_is_read_ahead() -> None:
    """While one is used, once one reads on; what is asked for again is not read again."""
    data = os.urandom(5 * BLOCK_BYTES)
    slow = Slow(Memory(b"", data))
    ahead = ReadAhead(slow)
    assert ahead.read("bytes", 5, 10) == data[5:15]
    assert ahead.read("bytes", BLOCK_BYTES - 3, 10) == data[BLOCK_BYTES - 3 : BLOCK_BYTES]
    assert ahead.read("bytes", BLOCK_BYTES, 7) == data[BLOCK_BYTES : BLOCK_BYTES + 7]
    slow.wait_for("bytes", 2)
    assert ahead.read("bytes", 2 * BLOCK_BYTES, 7) == data[2 * BLOCK_BYTES : 2 * BLOCK_BYTES + 7]
    assert [slow.asked.count(("bytes", number)) for number in range(3)] == [6, 6, 6]
    assert b"".join(ahead.read("bytes", at, BLOCK_BYTES) for at in range(0, len(data), BLOCK_BYTES)) == data
    assert ahead.read("bytes", len(data), 10) == b""


def test_what_grows_is_read_anew() -> None:
    """The end of what there is is not kept; nor is what was read ahead when there was less."""
    memory = Memory(b"one\n", b"")
    ahead = ReadAhead(Slow(memory))
    assert ahead.read("log", 0, 99) == b"one\n"
    assert ahead.read("log", 4, 99) == b""
    memory.log += b"two\n"
    assert ahead.read("log", 4, 99) == b"two\n"
    memory.log = b"x" * 2 * BLOCK_BYTES
    slow = Slow(memory)
    ahead = ReadAhead(slow)
    ahead.read("log", 0, 1)
    ahead.read("log", BLOCK_BYTES, 1)
    slow.wait_for("log", 2)
    memory.log += b"more"
    assert ahead.read("log", 2 * BLOCK_BYTES, 9) == b"more"


def test_little_is_kept() -> None:
    """However much is read."""
    memory = Memory(b"", bytes(2 * BLOCKS * BLOCK_BYTES))
    ahead = ReadAhead(memory)
    for at in range(0, len(memory.printed), BLOCK_BYTES):
        ahead.read("bytes", at, 1)
    assert len(ahead._kept) <= BLOCKS
    assert len(ahead._coming) <= 3


def test_a_proxy_that_goes_away() -> None:
    """Who reads what was read ahead in vain is told."""
    slow = Slow(Memory(b"", bytes(5 * BLOCK_BYTES)))
    ahead = ReadAhead(slow)
    for at in range(2):
        ahead.read("bytes", at * BLOCK_BYTES, 1)
    slow.wait_for("bytes", 2)
    slow.away = True
    with pytest.raises(Unavailable):
        ahead.read("bytes", 3 * BLOCK_BYTES, 1)
    slow.away = False
    assert len(ahead.read("bytes", 3 * BLOCK_BYTES, 5)) == 5
