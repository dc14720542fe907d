"""Text is found in recordings as people saw it, with the time at which it stood there."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from runtime.audit.index import Indexer, extend
from runtime.audit.reading import File
from runtime.audit.text_search import Wanted, search
from runtime.core.errors import InvalidInput
from tests.servers.recorded import Recorded

Found = list[tuple[int, str]]


def look(recorded: Recorded, text: str, *, limit: int = 100, **how: bool) -> tuple[Found, str]:
    """Return what is found, and what is wrong with the recording."""
    matches, problem = search(recorded, Wanted(text, **how).finder(), limit, lambda _: None)
    return [(match.ms, match.line) for match in matches], problem


@pytest.mark.parametrize(
    ("steps", "text", "found"),
    [
        ([(10, b"one\r\n"), (20, b"two words\r\n"), (30, b"three\r\n")], "two", [(20, "two words")]),
        ([(10, b"in tw"), (20, b"o pieces\r\n")], "two", [(20, "in two pieces")]),
        ([(10, b"\x1b[31mse\x1b[0mcret\r\n")], "secret", [(10, "secret")]),
        ([(10, b"$ "), (20, b"s"), (30, b"e"), (40, b"y"), (50, b"\x08t\r\n")], "set", [(50, "$ set")]),
        ([(10, b"$ seq"), (20, b"\x1b[3D\x1b[1P\r\n")], "eq", [(10, "$ eq")]),
        ([(10, b"loading 10%\r"), (20, b"loading 20%\r"), (30, b"done       \r\n")], "20%", [(20, "loading 20%")]),
        ([(10, b"\x1b[2;1Hfirst\x1b[3;1Hsecond")], "first", [(10, "first")]),
        ([(10, b"\x1b[2;1Hfirst\x1b[3;1Hsecond")], "firstsecond", []),
        ([(10, b"no line feed")], "feed", [(10, "no line feed")]),
        ([(10, b"caf\xc3"), (20, b"\xa9\r\n")], "caf\u00e9", [(20, "caf\u00e9")]),
        ([(10, b"bad \xff byte\r\n")], "byte", [(10, "bad \ufffd byte")]),
        ([(10, b"\x1b]0;in the title\x07in the text\r\n")], "in the t", [(10, "in the text")]),
        ([(10, b"one a\none b\r\n"), (20, b"one c")], "one", [(10, "one a"), (10, "one b"), (20, "one c")]),
        ([(10, b"a\tb")], "a\tb", [(10, "a b")]),
        ([(10, b"A.B\r\n"), (20, b"AxB\r\n")], "A.B", [(10, "A.B")]),
        ([], "x", []),
    ],
)
def test_what_is_found(steps: list[tuple[int, bytes]], text: str, found: Found) -> None:
    """Lines as they stood, and those that were drawn over; colours do not count, nor where pieces end."""
    assert look(Recorded(steps), text) == (found, "")


@pytest.mark.parametrize(
    ("text", "how", "found"),
    [
        ("PassWord", {"ignore_case": True}, [(10, "a password"), (20, "b PASSWORD")]),
        ("PassWord", {}, []),
        (r"^\w pass", {"regex": True}, [(10, "a password")]),
        (r"^\w pass", {"regex": True, "ignore_case": True}, [(10, "a password"), (20, "b PASSWORD")]),
        (r"word$", {"regex": True}, [(10, "a password")]),
        (r"\Aa", {"regex": True}, [(10, "a password")]),
        ("STRASSE", {"ignore_case": True}, []),
        ("\u00c9T\u00c9", {"ignore_case": True}, [(30, "\u00e9t\u00e9")]),
    ],
)
def test_how_to_look(text: str, how: dict[str, bool], found: Found) -> None:
    """As it is, whatever the case, or by an expression for one line."""
    steps = [(10, b"a password\r\n"), (20, b"b PASSWORD\r\n"), (30, "\u00e9t\u00e9 stra\u00dfe\r\n".encode())]
    if text == "\u00c9T\u00c9":
        found = [(30, "\u00e9t\u00e9 stra\u00dfe")]
    assert look(Recorded(steps), text, **how) == (found, "")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("(", regex=True), "is no regular expression"),
        (Wanted("a*", regex=True), "is found in every line"),
        (Wanted(""), "is found in every line"),
        (Wanted("a{99999999999}", regex=True), "is no regular expression"),
    ],
)
def test_what_cannot_be_looked_for(wanted: Wanted, message: str) -> None:
    """It is said, with what to do."""
    with pytest.raises(InvalidInput, match=message) as caught:
        wanted.finder()
    assert caught.value.hint


def test_not_more_than_asked_for() -> None:
    """The first so many; a long line is told around its match."""
    recorded = Recorded([(number, f"line {number}\n".encode()) for number in range(50)])
    found, _ = look(recorded, "line", limit=3)
    assert found == [(0, "line 0"), (1, "line 1"), (2, "line 2")]
    ((_, line),), _ = look(Recorded([(1, b"x" * 30_000 + b"needle" + b"y" * 30_000)]), "needle")
    assert "needle" in line
    assert len(line) == 400


def test_a_recording_that_is_not_whole() -> None:
    """What is there is searched, and what is wrong with it is said."""
    steps = [(10, b"one needle\r\n"), (20, b"two\r\n")]
    cut = Recorded(steps)
    cut.printed = cut.printed[:14]
    assert look(cut, "needle") == ([(10, "one needle")], "only 14 of 17 bytes are there")
    endless = Recorded(steps, over=False)
    assert look(endless, "needle") == ([(10, "one needle")], "it has no end")
    no_log = Recorded(steps)
    no_log.log = b""
    assert look(no_log, "needle") == ([(0, "one needle")], "its log cannot be read")
    damaged = Recorded(steps)
    lines = damaged.log.splitlines(True)
    damaged.log = lines[0] + b"\xff garbage\n" + b"".join(lines[1:])
    assert look(damaged, "needle") == ([(10, "one needle")], "")


class Indexed(Recorded):
    """A recording with an index, which counts how much of its log is read."""

    index = b""
    log_read = 0

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Return bytes of a file."""
        if part == "index":
            return self.index[offset : offset + size]
        data = super().read(part, offset, size)
        self.log_read += len(data) * (part == "log")
        return data


def lines() -> Iterator[tuple[int, bytes]]:
    """Yield a long session's output, with needles in it."""
    for number in range(40_000):
        word = b"needle" if number in (20, 20_000, 39_000) else b"hay"
        yield number * 10, b"%06d %s and more of it so that it is long\r\n" % (number, word)


def test_times_of_a_long_recording_are_found_by_its_index() -> None:
    """Each match has its time; with an index most of the log is not read for it, and the answer is the same."""
    recorded = Indexed(lines())
    without, _ = look(recorded, "needle")
    assert [ms for ms, _ in without] == [200, 200_000, 390_000]
    read, recorded.log_read = recorded.log_read, 0
    indexer = Indexer()
    extend(indexer, recorded)
    recorded.index = bytes(indexer.lines)
    recorded.log_read = 0
    assert look(recorded, "needle")[0] == without
    assert recorded.log_read < read / 3


def test_skimming_misses_nothing() -> None:
    """What is found in a long output is what is found in each of its lines alone."""
    chance = random.Random(7)
    parts = [
        b"need",
        b"le",
        b"needle",
        b"\x1b[31m",
        b"\x08",
        b"\r",
        b"\r\n",
        b"\n",
        b"x",
        b" ",
        b"\x1b[K",
        b"\x1b[4D",
        b"\x1b[9;9H",
    ]
    for _ in range(300):
        text = [b"".join(chance.choices(parts, k=chance.randint(0, 12))).replace(b"\n", b"") for _ in range(30)]
        expected = [each for one in text for each in look(Recorded([(1, one + b"\n")]), "needle")[0]]
        assert look(Recorded([(1, b"".join(one + b"\n" for one in text))]), "needle", limit=10_000)[0] == expected


def test_it_is_fast_enough() -> None:
    """Plain output goes by at far more than a disk's pace on a slow day."""
    recorded = Recorded([(1, b"Nov 22 10:00:00 host kernel: something happened with number 12345\r\n" * 150_000)])
    began = time.process_time()
    assert look(recorded, "needle") == ([], "")
    assert len(recorded.printed) / (time.process_time() - began) > 5_000_000
