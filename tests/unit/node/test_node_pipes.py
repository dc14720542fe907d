"""A child's descriptors in the event loop: nothing is lost, nobody is flooded, everything is closed."""

from __future__ import annotations

import asyncio
import errno
import os
import pty
import tty
from collections.abc import Callable

import pytest

from runtime.node.pipes import CONGESTED_BYTES, Sink, Source


class Reading:
    """A source over one end of a pipe, and what came out of it."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.data = b""
        self.over = asyncio.Event()
        self.source = Source(fd, received=self._received, ended=self.over.set)

    def _received(self, data: bytes) -> None:
        assert not self.over.is_set()
        self.data += data


def is_open(fd: int) -> bool:
    """Tell whether a descriptor is open."""
    try:
        os.fstat(fd)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go round until something is so."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what the kernel does has no event
            await asyncio.sleep(0)


async def test_all_that_was_written_comes_before_the_end() -> None:
    """Also when the writer is gone before the reader begins; then the descriptor is closed."""
    theirs, ours = os.pipe()
    reading = Reading(theirs)
    os.write(ours, b"x" * 60_000)
    os.close(ours)
    reading.source.resume()
    await asyncio.wait_for(reading.over.wait(), 20)
    assert reading.data == b"x" * 60_000
    assert not is_open(theirs)


async def test_a_paused_source_reads_nothing() -> None:
    """It goes on where it stopped."""
    theirs, ours = os.pipe()
    reading = Reading(theirs)
    reading.source.resume()
    os.write(ours, b"one")
    await until(lambda: reading.data == b"one")
    reading.source.pause()
    os.write(ours, b"two")
    for _ in range(10):
        await asyncio.sleep(0)
    assert reading.data == b"one"
    reading.source.resume()
    os.close(ours)
    await asyncio.wait_for(reading.over.wait(), 20)
    assert reading.data == b"onetwo"


@pytest.mark.parametrize("paused", [False, True])
async def test_finish_takes_what_is_there_for_all(paused: bool) -> None:
    """Others may keep the other side open for ever; a paused source finishes once it goes on."""
    theirs, ours = os.pipe()
    reading = Reading(theirs)
    if not paused:
        reading.source.resume()
    os.write(ours, b"x" * 60_000)
    reading.source.finish()
    if paused:
        await asyncio.sleep(0)
        assert not reading.over.is_set()
        reading.source.resume()
    await asyncio.wait_for(reading.over.wait(), 20)
    assert reading.data == b"x" * 60_000
    os.close(ours)


async def test_a_terminal_that_nobody_has_open_any_more_has_ended() -> None:
    """Linux says EIO there."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    reading = Reading(master)
    reading.source.resume()
    os.write(slave, b"last words")
    os.close(slave)
    await asyncio.wait_for(reading.over.wait(), 20)
    assert reading.data == b"last words"


async def test_a_closed_source_is_silent() -> None:
    """It calls nobody, and closing it twice closes no descriptor of somebody else's."""
    theirs, ours = os.pipe()
    reading = Reading(theirs)
    reading.source.resume()
    os.write(ours, b"too late")
    reading.source.close()
    reused = os.dup(ours)
    reading.source.close()
    assert is_open(reused)
    await asyncio.sleep(0)
    assert reading.data == b""
    assert not reading.over.is_set()
    os.close(ours)
    os.close(reused)


async def test_a_sink_keeps_what_comes_before_its_descriptor() -> None:
    """Input of a session whose child is still being started is not lost, and its end neither."""
    told: list[bool] = []
    sink = Sink(told.append)
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    sink.write(b"early")
    sink.end()
    sink.attach(ours)
    assert os.read(theirs, 100) == b"early"
    assert os.read(theirs, 100) == b""
    assert not is_open(ours)
    assert told == []
    os.close(theirs)


async def test_a_sink_says_when_to_hold_and_loses_nothing() -> None:
    """More than a pipe holds: the sender is told once to hold, and once to go on when all has been taken."""
    told: list[bool] = []
    sink = Sink(told.append)
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    os.set_blocking(theirs, False)
    sink.attach(ours)
    data = os.urandom(CONGESTED_BYTES * 5)
    sink.write(data[:-5])
    sink.write(data[-5:])
    sink.end()
    assert told == [True]
    taken = b""

    def take() -> bool:
        nonlocal taken
        try:
            piece = os.read(theirs, 10_000)
        except BlockingIOError:
            return False
        taken += piece
        return not piece

    await until(take)
    assert taken == data
    assert told == [True, False]
    os.close(theirs)


async def test_a_sink_says_when_to_hold_however_small_the_pieces() -> None:
    """What counts is all that waits, also when the first piece alone was no reason."""
    told: list[bool] = []
    sink = Sink(told.append)
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    sink.attach(ours)
    pieces = 0
    while not told and pieces < 1000:
        sink.write(b"x" * 1000)
        pieces += 1
        await asyncio.sleep(0)
    assert told == [True]
    assert pieces < 250  # what a pipe holds, and what may wait
    sink.close()
    os.close(theirs)


async def test_a_child_that_reads_no_more_stops_nobody() -> None:
    """What is written to it is dropped, and the sender may go on."""
    told: list[bool] = []
    sink = Sink(told.append)
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    sink.attach(ours)
    sink.write(b"x" * CONGESTED_BYTES * 4)
    assert told == [True]
    os.close(theirs)
    await until(lambda: told == [True, False])
    sink.write(b"more")
    sink.end()
    assert not is_open(ours)


async def test_a_sink_closed_before_its_descriptor_came_closes_it() -> None:
    """Nobody else would."""
    sink = Sink(lambda _: None)
    sink.close()
    theirs, ours = os.pipe()
    sink.attach(ours)
    assert not is_open(ours)
    os.close(theirs)
