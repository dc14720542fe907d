"""The modes of a terminal, followed through output, and set again: a terminal that is given them is in the same."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.audit.modes import HELD_BACK, Modes

SEQUENCES = (
    b"\x1b[0m", b"\x1b[m", b"\x1b[1;31m", b"\x1b[22m", b"\x1b[4m", b"\x1b[24;39m", b"\x1b[38;5;208m",
    b"\x1b[48;2;1;2;3m",
    b"\x1b[97;100m", b"\x1b[49m", b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?47h", b"\x1b[?25l", b"\x1b[?25h", b"\x1b[?7l",
    b"\x1b[4h", b"\x1b[4l", b"\x1b[?5;6h", b"\x1b[3;20r", b"\x1b[r", b"\x1b(0", b"\x1b(B", b"\x1b)0", b"\x0e", b"\x0f",
    b"\x1b[!p", b"\x1bc", b"text\r\n", b"\x1b[2J", b"\x1b[H", b"\x1b]0;title\x07", b"\xe2\x82\xac", b"\x1b[?1000h",
)  # fmt: skip


def after(*output: bytes) -> str:
    """Return what restores the modes that this output leaves a terminal in."""
    modes = Modes()
    for piece in output:
        modes.feed(piece)
    return modes.restore()


@pytest.mark.parametrize(
    ("output", "restored"),
    [
        (b"hello\r\n", ""),
        (b"\x1b[1mbold", "\x1b[1m"),
        (b"\x1b[1;4;31;42mx\x1b[22m", "\x1b[4;31;42m"),
        (b"\x1b[01;03;22m", "\x1b[3m"),
        (b"\x1b[31m\x1b[39m\x1b[7m", "\x1b[7m"),
        (b"\x1b[1m\x1b[0;32m", "\x1b[32m"),
        (b"\x1b[1m\x1b[m", ""),
        (b"\x1b[38;5;208;1m", "\x1b[1;38;5;208m"),
        (b"\x1b[38;2;1;2;3;48;5;9m", "\x1b[38;2;1;2;3;48;5;9m"),
        (b"\x1b[38:2::1:2:3m\x1b[4:3m", "\x1b[4;38:2::1:2:3m"),
        (b"\x1b[58;5;9;3m", "\x1b[3m"),
        (b"\x1b[91;102m", "\x1b[91;102m"),
        (b"\x1b[21m\x1b[5m\x1b[25m", "\x1b[21m"),
        (b"\x1b[?1049h\x1b[?25l\x1b[2;10r", "\x1b[?1049h\x1b[2;10r\x1b[?25l"),
        (b"\x1b[?1049h\x1b[?1049l", ""),
        (b"\x1b[?25l\x1b[?25h\x1b[?7l", "\x1b[?7l"),
        (b"\x1b[?7;25l", "\x1b[?25l\x1b[?7l"),
        (b"\x1b[?1;1000;2004h\x1b[6n", ""),
        (b"\x1b(0\x1b)0\x0e", "\x1b(0\x1b)0\x0e"),
        (b"\x1b(0\x1b(B\x0e\x0f", ""),
        (b"\x0e\x1bc", ""),
        (b"\x1b[1m\x1b[?1049h\x1b[?25l\x1b[!p", "\x1b[?1049h"),
        (b"\x1b[1m\x1b[?1049h\x1b[?25l\x1bc\x1b[4m", "\x1b[4m"),
        (b"\x1b]0;\x1b[1", ""),
        (b"\x1b[38m\x1b[38;5m\x1b[;m\x1b[999m\x1b[?h", ""),
    ],
)
def test_what_is_restored(output: bytes, restored: str) -> None:
    """No more than differs from a terminal that was reset; also where the output comes in single bytes."""
    assert after(output) == restored
    assert after(*(bytes([byte]) for byte in output)) == restored


@given(st.lists(st.sampled_from(SEQUENCES), max_size=40), st.lists(st.integers(1, 9), max_size=40))
def test_however_it_is_cut(sequences: list[bytes], cuts: list[int]) -> None:
    """At once, one after the other, or cut anywhere: the same. What is restored restores itself."""
    whole = b"".join(sequences)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(whole[at : at + cut])
        at += cut
    restored = after(whole)
    assert after(*sequences) == after(*pieces, whole[at:]) == restored
    assert after(restored.encode()) == restored


def test_half_a_sequence() -> None:
    """It is known that something is to come; what never comes is no sequence."""
    modes = Modes()
    modes.feed(b"text\x1b[3")
    assert not modes.settled
    modes.feed(b"1m")
    assert modes.settled
    assert modes.restore() == "\x1b[31m"
    modes.feed(b"\x1b]" + b"x" * 2 * HELD_BACK)
    assert modes.settled


@given(st.binary(max_size=400))
def test_nonsense(output: bytes) -> None:
    """Whatever a program prints: what is restored is printable sequences, and not long."""
    restored = after(output)
    assert len(restored) < 400 + len(output)
    assert restored.isascii()


def test_it_is_quick() -> None:
    """Nothing in output makes it take long, as what backtracks would."""
    begin = time.process_time()
    for nasty in (
        b"\x1b[" * 100_000,
        b"\x1b[1;" * 60_000,
        b"\x1b]" * 100_000,
        b"1;" * 100_000,
        b"\x1b[" + b"1;" * 100_000,
    ):
        after(*[nasty] * 4)
    assert time.process_time() - begin < 20
