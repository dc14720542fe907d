"""A recording's two files verify each other, and become an asciicast."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable

import pytest

from runtime.audit.asciicast import asciicast
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
        b'{"ms":1}',
    ]
    assert len(list(frames([*nonsense, *log.splitlines()]))) == 6


def test_an_asciicast() -> None:
    """Version 2: a header, output in seconds, sizes; a character that lies across two outputs is one."""
    log, printed = recording()
    found = [(frame, printed[frame.offset :][: frame.size]) for frame in frames(log.splitlines())]
    header, *lines = map(json.loads, asciicast(found))
    assert header == {
        "version": 2,
        "width": 80,
        "height": 25,
        "timestamp": 1486169160,
        "title": "joe as root, session 4c146ec8-eab6-41e6-b1b3-40167e68e931",
    }
    assert lines == [[0.005, "o", "hello "], [0.009, "o", "€\r\n"], [0.02, "r", "120x40"], [0.04, "o", "\ufffd bye"]]


def test_an_asciicast_of_a_command_without_a_terminal() -> None:
    """It has a size all the same, for players want one; what is cut off at the end is told."""
    found = [(Frame(0, "exec", fields={"command": "cat x"}), b""), (Frame(7, "print", 0, 1), b"\xe2")]
    header, last = map(json.loads, asciicast(found))
    assert (header["width"], header["height"], header["command"]) == (80, 25, "cat x")
    assert last == [0.007, "o", "\ufffd"]
