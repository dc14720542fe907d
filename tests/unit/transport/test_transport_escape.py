"""The escape with which a session is left, as ssh(1) has it, however the keys are cut into pieces."""

from __future__ import annotations

import pytest

from runtime.transport.escape import Escape


@pytest.mark.parametrize(
    ("typed", "sent", "over"),
    [
        (b"~.", b"", True),
        (b"ls\r~.rest", b"ls\r", True),
        (b"ls\n~.", b"ls\n", True),
        (b"a~.", b"a~.", False),
        (b"\r~~.", b"\r~.", False),
        (b"\r~~\r~.", b"\r~\r", True),
        (b"\r~x~.", b"\r~x~.", False),
        (b"\r~\r~.", b"\r~\r", True),
        (b"cd ~\r~/bin\r", b"cd ~\r~/bin\r", False),
        (b"\xff\x00~\r", b"\xff\x00~\r", False),
        (b"", b"", False),
    ],
)
def test_the_escape(typed: bytes, sent: bytes, over: bool) -> None:
    """It ends the session at the beginning of a line, and nothing else that is typed is changed."""
    whole, pieces = Escape(), Escape()
    assert (whole.feed(typed), whole.over) == (sent, over)
    got = b""
    for at in range(len(typed)):
        got += pieces.feed(typed[at : at + 1])
        if pieces.over:
            break
    assert (got, pieces.over) == (sent, over)
