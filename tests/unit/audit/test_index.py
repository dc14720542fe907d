"""The index of a recording: what it says is so, and it is as good made at once as bit by bit."""

from __future__ import annotations

import hashlib
import io
import json
import random

import pytest

from runtime.audit.events import EventType
from runtime.audit.index import EVERY_BYTES, EVERY_LOG_BYTES, Checkpoint, Indexer, checkpoints, extend
from runtime.audit.modes import Modes
from runtime.audit.reading import MAX_LINE_BYTES, MAX_PRINT_BYTES, copy, entries
from runtime.audit.recording import Script, frames, verify
from runtime.core.errors import InvalidInput, NotFound
from tests.servers.recorded import Memory


def recording(entry: int, total: int) -> Memory:
    """Return a session whose entries are about so long."""
    rng = random.Random(3)
    script, printed = Script(), bytearray()
    log = bytearray(script.event(EventType.SESSION_START, 0, {"user": "joe", "size": "80:25"}))
    ms = 0
    while len(printed) < total:
        data = (b"\x1b[3%dm" % rng.randrange(10) + b"word " * rng.randrange(1, 9)) * (entry // 20 + 1)
        ms += rng.randrange(100)
        log += script.printed(len(data), hashlib.sha256(data).hexdigest(), ms)
        printed += data
        if rng.random() < 0.05:
            log += script.event(EventType.RESIZE, ms, {"size": f"{rng.randrange(20, 200)}:40"})
    log += script.event(EventType.SESSION_END, ms, {})
    return Memory(bytes(log), bytes(printed))


@pytest.mark.parametrize(
    ("entry", "total"), [(5, 200_000), (3000, 2_000_000), (60_000, 3_000_000), (3_000_000, 9_000_000)]
)
def test_what_it_says_is_so(entry: int, total: int) -> None:
    """Of each checkpoint: times, bytes, lines, size and modes are what one finds by reading all before it."""
    source = recording(entry, total)
    indexer = Indexer()
    extend(indexer, source)
    source.index = bytes(indexer.lines)
    found = [checkpoint for _, checkpoint in checkpoints(source)]
    assert len(found) >= max(total // EVERY_BYTES // 13, len(source.log) // EVERY_LOG_BYTES // 2, 1)
    for checkpoint in found:
        before = list(frames(source.log[: checkpoint.log].splitlines()))
        assert source.log[checkpoint.log - 1 : checkpoint.log] == b"\n"
        assert checkpoint.ms == before[-1].ms
        assert checkpoint.bytes == sum(frame.size for frame in before)
        assert checkpoint.size == [f"{size[0]}:{size[1]}" for frame in before if (size := frame.terminal)][-1]
        modes = Modes()
        modes.feed(source.printed[: checkpoint.bytes])
        assert checkpoint.modes == modes.restore()


def test_at_once_or_bit_by_bit() -> None:
    """While a recording grows, while it is verified, or afterwards: the same index, and it only grows."""
    whole = recording(2000, 1_500_000)
    at_once, bit_by_bit, verified = Indexer(), Indexer(), Indexer()
    extend(at_once, whole)
    growing = Memory(b"", b"")
    for end in range(0, len(whole.log) + 20_000, 20_000):
        growing.log, growing.printed = whole.log[:end], whole.printed
        before = bytes(bit_by_bit.lines)
        extend(bit_by_bit, growing)
        assert bit_by_bit.lines.startswith(before)
    assert verify(io.BytesIO(whole.log), io.BytesIO(whole.printed), verified) == []
    assert at_once.lines == bit_by_bit.lines == verified.lines
    assert at_once.lines.count(b"\n") > 3


def test_a_part_of_it_at_a_time() -> None:
    """Who has no more time goes on later."""
    whole = recording(2000, 1_500_000)
    at_once, little_by_little = Indexer(), Indexer()
    extend(at_once, whole)
    times = 0
    while little_by_little.place != at_once.place:
        before = len(little_by_little.lines)
        extend(little_by_little, whole, lambda before=before: len(little_by_little.lines) > before)  # type: ignore[misc]  # bound at once
        times += 1
    assert times == at_once.lines.count(b"\n") + 1
    assert little_by_little.lines == at_once.lines


def test_an_index_is_read_on() -> None:
    """From where it was read to; half a line is not there yet."""
    lines = [json.dumps({"ms": n, "bytes": n, "log": n, "size": "", "modes": ""}).encode() + b"\n" for n in range(4)]
    source = Memory(b"", b"", b"".join(lines[:2]) + lines[2][:9])
    found = list(checkpoints(source))
    assert [checkpoint.ms for _, checkpoint in found] == [0, 1]
    source.index = b"".join(lines)
    assert [checkpoint.ms for _, checkpoint in checkpoints(source, offset=found[-1][0])] == [2, 3]


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[]",
        b'{"ms":1}',
        b'{"ms":-1,"bytes":1,"log":1,"size":"","modes":""}',
        b'{"ms":true,"bytes":1,"log":1,"size":"","modes":""}',
        b'{"ms":1,"bytes":1,"log":1,"size":7,"modes":""}',
        b'{"ms":0,"bytes":0,"log":0,"size":"","modes":""}',
    ],
)
def test_an_index_ends_where_it_cannot_be_true(line: bytes) -> None:
    """What is before that holds."""
    good = b'{"ms":1,"bytes":5,"log":9,"size":"80:25","modes":"x"}\n'
    found = list(checkpoints(Memory(b"", b"", good + line + b"\n" + good)))
    assert [checkpoint for _, checkpoint in found] == [Checkpoint(1, 5, 9, "80:25", "x")]


def test_without_an_index() -> None:
    """There are no checkpoints."""

    class Bare(Memory):
        def read(self, part: object, offset: int, size: int) -> bytes:
            raise NotFound("there is none")

    assert list(checkpoints(Bare(b"", b""))) == []


def test_all_entries_from_anywhere() -> None:
    """Each with what was printed; a long one in pieces; from the beginning, or a checkpoint on."""
    source = recording(3_000_000, 9_000_000)
    indexer = Indexer()
    extend(indexer, source)
    source.index = bytes(indexer.lines)
    whole = list(entries(source))
    assert b"".join(data for _, data in whole) == source.printed
    assert max(len(data) for _, data in whole) == MAX_PRINT_BYTES
    assert all(len(data) == frame.size for frame, data in whole)
    *_, (_, place) = checkpoints(source)
    assert b"".join(data for _, data in entries(source, log=place.log)) == source.printed[place.bytes :]
    copied = io.BytesIO()
    copy(source, "log", copied)
    assert copied.getvalue() == source.log


def test_a_line_that_claims_too_much() -> None:
    """Where the bytes are not there, nothing is yielded, and nothing waits; a line without an end is refused."""
    script = Script()
    log = script.printed(10**15, "0" * 64, 5) + script.event(EventType.SESSION_END, 9, {})
    found = list(entries(Memory(log, b"abc")))
    assert [(frame.event, data) for frame, data in found] == [("print", b"abc"), ("session.end", b"")]
    indexer = Indexer()
    extend(indexer, Memory(log, b"abc"))
    assert indexer.place == (3, len(log))
    assert "says was printed is not what is at byte 0" in verify(io.BytesIO(log), io.BytesIO(b"abc"))[0]
    again = (
        script.printed(0, "", 10).replace(b'"bytes":0', b'"bytes":3').replace(b'"offset":%d' % 10**15, b'"offset":0')
    )
    assert [data for _, data in entries(Memory(log + again * 3, b"abc"))] == [b"abc", b""]
    with pytest.raises(InvalidInput, match="has a line of more than"):
        list(entries(Memory(b"x" * 2 * MAX_LINE_BYTES, b"")))
    assert len(verify(io.BytesIO(b"x\n" * 1000), io.BytesIO(b""))) < 110
