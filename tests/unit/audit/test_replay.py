"""A recording as it is shown again: in time, and without doing anything to the viewer's terminal but draw."""

from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.audit.events import EventType
from runtime.audit.recording import Script
from runtime.audit.replay import Harmless, Timeline

PIECES = ((1000, b"one "), (2000, b"two "), (62_000, b"three "), (63_000, b"four"))


def recording() -> tuple[bytes, bytes]:
    """Return log and bytes of a session with a pause of a minute."""
    script = Script()
    log = script.event(EventType.SESSION_START, 0, {"user": "joe"})
    for ms, data in PIECES:
        log += script.printed(len(data), hashlib.sha256(data).hexdigest(), ms)
    return log + script.event(EventType.SESSION_END, 64_000, {}), b"".join(data for _, data in PIECES)


@pytest.mark.parametrize(
    ("idle", "times", "seconds"),
    [(None, [1, 2, 62, 63], 64), (2.0, [1, 2, 4, 5], 6), (0.0, [0, 0, 0, 0], 0)],
)
def test_pauses_can_be_shorter(idle: float | None, times: list[float], seconds: float) -> None:
    """None becomes longer than was asked for; those that are shorter stay."""
    timeline = Timeline(*recording(), idle=idle)
    assert [entry.at for entry in timeline.entries] == times
    assert timeline.seconds == seconds


def test_what_was_shown_by_a_time() -> None:
    """All before it, from the beginning."""
    timeline = Timeline(*recording())
    assert [timeline.until(at) for at in (0, 1.5, 2, 62.5, 99)] == [
        b"",
        b"one ",
        b"one ",
        b"one two three ",
        b"one two three four",
    ]
    assert timeline.data(timeline.entries[2]) == b"three "


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
