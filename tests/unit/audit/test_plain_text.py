"""A terminal's output as text to read and to search."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.audit.plain_text import MAX_LINE_BYTES, Chunks, as_text, drawn, edited, skim

UNITS = (
    "a|b c|\n|\r\n|\r|\x08|\t|\x00|\x1b|\u20ac|\x1b[K|\x1b[1K|\x1b[2D|\x1b[9C|\x1b[3P|\x1b[2@|\x1b[31m|"
    "\x1b[5;1H|\x1b[?1049h|\x1b]0;x\x07"
)
OUTPUT = st.lists(st.sampled_from([b"\xc2", b"\xff", *(unit.encode() for unit in UNITS.split("|"))])).map(b"".join)


def plain_text(printed: bytes) -> str:
    """Return output as text."""
    return "".join(as_text([printed]))


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (b"hello\r\nworld\n", "hello\nworld\n"),
        (b"\x1b[1;31mred\x1b[0m \x1b[2J\x1b[?25lx", "red x"),
        (b"\x1b]0;root@db1: ~\x07$ \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "$ link"),
        (b"\x1bP1;2q#0\x1b\\after\x1b(B\x1b=", "after"),
        (b"10%\r50%\r100%\r\ndone", "100%\ndone"),
        (b"long line\rshort", "shortline"),
        (b"long line\rshort\x1b[K", "short"),
        (b"ls secrey\x08t\r\n", "ls secret\n"),
        (b"ls abc\x08\x08\x08\x1b[Kxyz\r\n", "ls xyz\n"),
        (b"cat fil\x1b[3D\x1b[1@x\x1b[C\x1b[1P", "cat xfl"),
        (b"a\x1b[5Cb\x1b[2Gc\x1b[1X", "ac    b"),
        (b"abc\x1b[1K\x1b[2D-", " - "),
        (b"abc\x1b[2Kd", "   d"),
        (b"\x1b[H\x1b[2Jtop\x1b[5;1Hfoo\x1b[6;3Hbar\x1bMup", "top\nfoo\nbar\nup"),
        (b"shell\x1b[?1049h\x1b[Heditor\x1b[?1049lshell", "shell\neditor\nshell"),
        (b"tab\tbell\x07 back\x08 ", "tab\tbell bac "),
        ("\u20ac \u65e5".encode() + b"\xff", "\u20ac \u65e5\ufffd"),
        ("a\u009b1mb".encode(), "a1mb"),
        (b"\x1b]0;without an end\nnext", "\nnext"),
        (b"\x1b[99999999999999999999Cx", " " * 1024 + "x"),
        (b"", ""),
    ],
)
def test_what_is_left(printed: bytes, text: str) -> None:
    """Letters, tabs and lines, as they stood in the end."""
    assert plain_text(printed) == text


def test_pieces_make_no_difference() -> None:
    """A sequence, a character or a word that lies across pieces is one."""
    printed = "one \x1b[1mtw\x1b[0mo \u20ac\r\n\x1b]0;t\x07three fou\x08\x08our".encode()
    whole = plain_text(printed)
    for cut in range(len(printed)):
        assert "".join(as_text([printed[:cut], printed[cut:]])) == whole


def test_long_lines_are_cut_between_sequences() -> None:
    """A line of any length takes little memory, and no sequence or character is torn."""
    unit = "\x1b[31mx\u20ac".encode()
    chunks = Chunks()
    printed = unit * 50_000
    told = [piece for at in range(0, len(printed), 9973) for piece in chunks.feed(printed[at : at + 9973])]
    told += chunks.end()
    assert len(told) > 3
    assert all(len(piece) < 2 * MAX_LINE_BYTES for piece in told)
    assert b"".join(told) == printed
    assert "".join(line.text for piece in told for line in drawn(piece)) == "x\u20ac" * 50_000


def test_where_each_character_was() -> None:
    """Each tells behind which byte it was there, counted from the begin of the recording."""
    (line,) = drawn("a\x1b[1m\u20acb\x08c".encode(), 100)
    assert (line.text, line.ends) == ("a\u20acc", [101, 108, 111])


def test_what_was_drawn_over_is_remembered() -> None:
    """A progress bar's earlier states; of a line that only returns to its begin nothing."""
    first, second = drawn(b"10% of x\r20%\r\nplain\r\r\n")
    assert (first.text, [each.text for each in first.earlier]) == ("20% of x", ["10% of x", "20%"])
    assert (second.text, second.earlier) == ("plain", [])
    (typed,) = drawn(b"$ rm /tnp\x08\x08mp\r$ ls    \x08\x08")
    assert [each.text for each in typed.earlier] == ["$ rm /tmp"]


@given(OUTPUT)
def test_skimming_and_drawing_agree(output: bytes) -> None:
    """Where nothing is edited within a line, they tell the same; what one character is has an end for each."""
    lines = list(drawn(output))
    assert all(len(line.text) == len(line.ends) for line in lines)
    assert all(line.ends == [] or max(line.ends) <= len(output) for line in lines)
    if next(edited(output), None) is None:
        told = [line.text for line in lines if line.text]
        assert [text for text in skim(output).split("\n") if text] == told


def test_hostile_output_takes_no_longer() -> None:
    """A megabyte of sequences that never end, or edit for ever, is read in a moment."""
    began = time.process_time()
    for unit in (b"\x1b]", b"\x1b[", b"\xc2", b"\x1b[1000@", b"\x1b[P", b"\rx", b"\x08x", b"\x1b[1K", b"x\x1b[4096C"):
        for before, size in ((1000, 50_000), (60_000, 150_000)):
            plain_text(b"y" * before + unit * (size // len(unit)))
    assert time.process_time() - began < 8
