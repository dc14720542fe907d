"""A terminal's output as text to read and to search."""

from __future__ import annotations

import time

import pytest

from runtime.audit.plain_text import plain_text


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (b"hello\r\nworld\n", "hello\nworld\n"),
        (b"\x1b[1;31mred\x1b[0m \x1b[2J\x1b[?25lx", "red x"),
        (b"\x1b]0;root@db1: ~\x07$ \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "$ link"),
        (b"\x1bP1;2q#0\x1b\\after\x1b(B\x1b=", "after"),
        (b"10%\r50%\r100%\r\ndone", "100%\ndone"),
        (b"tab\tbell\x07 back\x08 ", "tab\tbell back "),
        ("\u20ac \u65e5".encode() + b"\xff", "\u20ac \u65e5\ufffd"),
        (b"\x1b]0;without an end", ""),
        (b"", ""),
    ],
)
def test_what_is_left(printed: bytes, text: str) -> None:
    """Letters, tabs and lines; a line that was drawn over is the last that was drawn."""
    assert plain_text(printed) == text


def test_hostile_output_takes_no_longer() -> None:
    """A megabyte of sequences that never end is read in a moment."""
    began = time.monotonic()
    plain_text(b"\x1b]" * 500_000)
    plain_text(b"\x1b[" * 500_000)
    assert time.monotonic() - began < 10
