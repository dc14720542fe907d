"""A recording as it is shown again: in time, and without doing anything to the viewer's terminal but draw."""

from __future__ import annotations

import hashlib
import os
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.audit.events import EventType
from runtime.audit.index import Indexer, extend
from runtime.audit.modes import Modes
from runtime.audit.reading import FileSource
from runtime.audit.recording import Script
from runtime.audit.replay import RESET, SHOWN_BYTES, Harmless, Reel
from tests.servers.recorded import Memory

PIECES = ((1000, b"one "), (2000, b"two "), (62_000, b"three "), (63_000, b"four"))


def recording(*, over: bool = True) -> Memory:
    """Return a session with a pause of a minute."""
    script = Script()
    log = script.event(EventType.SESSION_START, 0, {"user": "joe"})
    for ms, data in PIECES:
        log += script.printed(len(data), hashlib.sha256(data).hexdigest(), ms)
    if over:
        log += script.event(EventType.SESSION_END, 64_000, {})
    return Memory(log, b"".join(data for _, data in PIECES))


@pytest.fixture(scope="module")
def long() -> Memory:
    """Return a session of an hour and 4 MB, with colours and the alternate screen here and there."""
    rng = random.Random(7)
    script, log, printed = Script(), bytearray(), bytearray()
    log += script.event(EventType.SESSION_START, 0, {"user": "joe", "size": "80:25"})
    for number in range(3600):
        colour = b"\x1b[%dm" % rng.choice([0, 1, 7, 31, 42])
        screen = rng.choice([b"", b"", b"", b"\x1b[?1049h", b"\x1b[?1049l\x1b[?25l", b"\x1b[?25h"])
        data = colour + screen + b"%06d " % number + b"x" * rng.randrange(2000) + b"\r\n"
        printed += data
        log += script.printed(len(data), hashlib.sha256(data).hexdigest(), number * 1000)
    log += script.event(EventType.SESSION_END, 3_600_000, {})
    found = Memory(bytes(log), bytes(printed))
    indexer = Indexer()
    extend(indexer, found)
    found.index = bytes(indexer.lines)
    return found


def left(reel: Reel) -> bytes:
    """Return what is still to be shown."""
    shown = b""
    while (coming := reel.peek()) is not None:
        shown += coming[1]
        reel.take()
    return shown


def modes(shown: bytes) -> str:
    """Return the modes of a terminal that was shown this."""
    found = Modes()
    found.feed(shown)
    return found.restore()


def test_from_the_beginning() -> None:
    """What was printed, when, and the end."""
    reel = Reel(recording())
    times = []
    while (coming := reel.peek()) is not None:
        times.append(coming)
        reel.take()
    assert times == list(PIECES)
    assert reel.over
    assert (reel.at, reel.length()) == (64_000, 64_000)


@pytest.mark.parametrize(
    ("at", "shown"), [(0, b""), (1500, b"one "), (2000, b"one "), (62_500, b"one two three "), (99_000, None)]
)
def test_a_place_in_a_short_one(at: int, shown: bytes | None) -> None:
    """All before it is shown at once, from the beginning; what follows, follows."""
    reel = Reel(recording())
    everything = b"one two three four"
    before = everything if shown is None else shown
    assert b"".join(reel.seek(at)) == RESET + before
    assert left(reel) == everything.removeprefix(before)
    assert reel.over


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("second", [0, 1, 250, 1800, 3000, 3599, 3600, 9999])
def test_a_place_in_a_long_one(long: Memory, second: int, indexed: bool) -> None:
    """With an index and without: the modes, and the last of what there was; little is read."""
    source = Memory(long.log, long.printed, long.index if indexed else b"")
    reel = Reel(source)
    shown = b"".join(reel.seek(second * 1000))
    before = long.printed.find(b"%06d " % second)
    before = long.printed.rfind(b"\n", 0, before) + 1 if before >= 0 else len(long.printed)
    assert shown.startswith(RESET)
    assert shown.endswith(long.printed[max(0, before - SHOWN_BYTES) : before])
    assert modes(shown) == modes(long.printed[:before])
    assert len(shown) < 3 * SHOWN_BYTES + 1024
    assert left(reel) == long.printed[before:]
    if indexed and second < 3000:
        assert source.taken - len(long.printed[before:]) < len(long.printed) // 2 + len(long.log)


def test_how_long_a_long_one_is(long: Memory) -> None:
    """Its end is read, and not what is before it."""
    for source in (Memory(long.log, long.printed, long.index), Memory(long.log, long.printed)):
        assert Reel(source).length() == 3_600_000
        assert source.taken < len(long.log) + len(source.index)


@pytest.mark.parametrize("change", [lambda line: line.replace(b'"log":', b'"log":1'), lambda line: b"nonsense\n"])
def test_an_index_that_is_none_of_this_recording(long: Memory, change: object) -> None:
    """It is not believed: places are found without it."""
    assert callable(change)
    wrong = b"".join(change(line) for line in long.index.splitlines(True))
    reel = Reel(Memory(long.log, long.printed, wrong))
    shown = b"".join(reel.seek(1_800_000))
    assert b"001799 " in shown
    assert b"001800 " not in shown


def test_little_is_in_memory(tmp_path: Path) -> None:
    """However long a recording is, and wherever one goes in it."""
    script = Script()
    path = tmp_path / "4c146ec8-eab6-41e6-b1b3-40167e68e931.session.bytes"
    with path.open("wb") as printed, path.with_suffix(".log").open("wb") as log:
        for number in range(2000):
            data = b"%05d" % number + b"x" * 16_000
            printed.write(data)
            log.write(script.printed(len(data), hashlib.sha256(data).hexdigest(), number * 1000))
    tracemalloc.start()
    try:
        reel = Reel(FileSource(path))
        assert sum(map(len, reel.seek(1_000_000))) > SHOWN_BYTES
        while reel.peek() is not None:
            reel.take()
        assert reel.at == reel.length() == 1_999_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024 < path.stat().st_size // 7


def test_one_that_grows() -> None:
    """What comes later is read later; a line that is half there is not one yet."""
    whole = recording()
    growing = Memory(b"", b"")
    reel = Reel(growing)
    shown = b""
    for end in range(0, len(whole.log) + 1, 7):
        growing.log, growing.printed = whole.log[:end], whole.printed
        shown += left(reel)
    growing.log = whole.log
    assert shown + left(reel) == whole.printed
    assert reel.over
    half = Reel(recording(over=False))
    assert left(half)
    assert not half.over


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"\x1b[1mbold\x1b[0m\r\n", b"\x1b[1mbold\x1b[0m\r\n"),
        (b"a\x1b]0;title\x07b\x1b]52;c;cm0gLXJm\x1b\\c", b"abc"),
        (b'a\x1bP$q"p\x1b\\b\x1b_x\x1b\\c', b"abc"),
        (b"a\x1b[6n\x1b[c\x1b[>0c\x1bZ\x05b", b"ab"),
        (b"\x1b[?25l\x1b[2J\x1b[3;4H", b"\x1b[?25l\x1b[2J\x1b[3;4H"),
        ("\u20ac".encode(), "\u20ac".encode()),
    ],
)
def test_nothing_is_done_but_drawing(printed: bytes, shown: bytes) -> None:
    """Also where the output comes in single bytes: a sequence is held back until it is whole."""
    assert Harmless().feed(printed) == shown
    harmless = Harmless()
    assert b"".join(harmless.feed(bytes([byte])) for byte in printed) == shown


@given(st.lists(st.binary(max_size=8)))
def test_however_it_is_cut(pieces: list[bytes]) -> None:
    """What is shown does not depend on where the output was cut, but for what is still held back."""
    harmless = Harmless()
    piecewise = b"".join(map(harmless.feed, pieces))
    assert Harmless().feed(b"".join(pieces)).startswith(piecewise) or piecewise.startswith(
        Harmless().feed(b"".join(pieces))
    )


def test_a_sequence_without_an_end_holds_nothing_up() -> None:
    """Output of a program that prints nonsense goes on after a few thousand bytes."""
    harmless = Harmless()
    shown = harmless.feed(b"\x1b]0;" + os.urandom(0) + b"x" * 10_000)
    shown += harmless.feed(b"y" * 10_000)
    assert shown.endswith(b"y" * 5_000)
