"""A recording's two files verify each other."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import pytest

from runtime.audit.events import EventType
from runtime.audit.recording import Frame, Script, frames, verify

PIECES = ((5, b"hello \xe2"), (9, b"\x82\xac\r\n"), (40, b"\xff bye"))


def recording() -> tuple[bytes, bytes]:
    """Return log and bytes of a session with three outputs and a resize."""
    script = Script()
    start = {"sid": "4c146ec8-eab6-41e6-b1b3-40167e68e931", "user": "joe", "login": "root", "size": "80:25"}
    log = script.event(EventType.SESSION_START, 0, {**start, "time": "2017-02-04T00:46:00Z"})
    for ms, data in PIECES:
        log += script.printed(len(data), hashlib.sha256(data).hexdigest(), ms)
        if ms == 9:
            log += script.event(EventType.RESIZE, 20, {"size": "120:40"})
    log += script.event(EventType.SESSION_END, 50, {})
    return log, b"".join(data for _, data in PIECES)


def problems(log: bytes, printed: bytes) -> list[str]:
    """Return what is wrong with a recording."""
    return verify(io.BytesIO(log), io.BytesIO(printed))


def test_as_it_was_written() -> None:
    """Nothing is wrong; the frames tell what was printed when."""
    log, printed = recording()
    assert problems(log, printed) == []
    read = list(frames(log.splitlines()))
    assert [(frame.event, frame.ms) for frame in read] == [
        ("session.start", 0), ("print", 5), ("print", 9), ("resize", 20), ("print", 40), ("session.end", 50),
    ]  # fmt: skip
    assert printed[read[2].offset :][: read[2].size] == PIECES[1][1]
    assert read[0].terminal == (80, 25)
    for size in ("", "80", "80:", ":25", "\u0663:25", "9" * 5000 + ":25", "80:25:1"):
        assert Frame(0, "resize", fields={"size": size}).terminal is None


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda log, data: (log, data.replace(b"bye", b"BYE")), "line 5 of the log says was printed is not"),
        (lambda log, data: (log, data[:-1]), "line 5 of the log says was printed is not"),
        (lambda log, data: (log, data + b"x"), "something follows byte 16"),
        (lambda log, data: (log.replace(b'"joe"', b'"eve"'), data), "line 2 of the log does not follow"),
        (
            lambda log, data: (b"".join(log.splitlines(True)[:2] + log.splitlines(True)[3:]), data),
            "line 3 of the log does",
        ),
        (lambda log, data: (log[:-10], data), "line 6 of the log cannot be read"),
        (lambda log, data: (b"".join(log.splitlines(True)[:-1]), data), "the log has no end"),
        (lambda log, data: (b"", b""), "the log has no end"),
        (lambda log, data: (b"nonsense\n" + log, data), "line 1 of the log cannot be read"),
    ],
)
def test_whatever_is_changed_is_found(edit: Callable[[bytes, bytes], tuple[bytes, bytes]], what: str) -> None:
    """The first problem names the place."""
    assert what in problems(*edit(*recording()))[0]


def test_lines_that_cannot_be_read_hide_no_others() -> None:
    """They are left out; what is no count is none."""
    log, _ = recording()
    nonsense = [
        b"",
        b"\xff",
        b"[]",
        b'{"event":"print"}',
        b'{"event":"print","ms":-1,"offset":0,"bytes":1}',
        b'{"event":"print","ms":%d,"offset":0,"bytes":1}' % 2**53,
        b'{"event":"x","ms":' + b"9" * 5000 + b"}",
        b'{"event":"x","ms":0,"y":' + b"[" * 100_000,
        b'{"ms":1}',
    ]
    assert len(list(frames([*nonsense, *log.splitlines()]))) == 6
