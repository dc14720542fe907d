"""A recording becomes an asciicast (tests/integration/test_asciinema.py has it played)."""

from __future__ import annotations

import json

from runtime.audit.asciicast import asciicast
from runtime.audit.reading import entries
from runtime.audit.recording import Frame
from tests.servers.recorded import SID, Recorded

Event = list[object]


def cast(recorded: Recorded, **how: float) -> tuple[dict[str, object], list[Event]]:
    """Return header and lines."""
    header, *lines = map(json.loads, asciicast(entries(recorded), **how))
    return header, lines


def test_an_asciicast() -> None:
    """Version 2: a header, output in seconds, sizes, an end; a character that lies across two outputs is one."""
    header, lines = cast(Recorded([(5, b"hello \xe2"), (9, b"\x82\xac\r\n"), (20, "120:40"), (40, b"\xff bye")]))
    assert header == {
        "version": 2,
        "width": 80,
        "height": 25,
        "timestamp": 1795378500,
        "title": f"joe as root, session {SID}",
    }
    assert lines == [
        [0.005, "o", "hello "],
        [0.009, "o", "\u20ac\r\n"],
        [0.02, "r", "120x40"],
        [0.04, "o", "\ufffd bye"],
        [0.04, "o", ""],
    ]


def test_a_command_without_a_terminal() -> None:
    """It has a size all the same, for players want one; lines begin on the left; what is cut off at the end is told."""
    header, lines = cast(Recorded([(7, b"a\nb\r\n\xe2")], size=None, command="cat x"))
    assert (header["width"], header["height"], header["command"]) == (80, 25, "cat x")
    assert "".join(str(line[2]) for line in lines) == "a\r\nb\r\n\ufffd"


def test_what_would_do_something_to_the_viewer_is_left_out() -> None:
    """The clipboard, the title and questions are not for who plays it (as for tsh play)."""
    _, lines = cast(Recorded([(1, b"a\x1b]52;c;aGk=\x07b\x1b[6"), (2, b"nc\x1b]0;t"), (3, b"\x07d\x1b[1me")]))
    assert "".join(str(line[2]) for line in lines) == "abcd\x1b[1me"


def test_how_long_it_was() -> None:
    """The end is when the session ended, not when it last printed; and a player is told of no long pause, if asked."""
    log = [(Frame(0, "session.start"), b""), (Frame(10, "print", 0, 1), b"x"), (Frame(60_000, "session.end"), b"")]
    assert json.loads(list(asciicast(log))[-1]) == [60.0, "o", ""]
    header, _ = cast(Recorded([(1, b"x")]), idle_limit=2.5)
    assert header["idle_time_limit"] == 2.5


def test_odd_sizes_and_times() -> None:
    """No terminal is of no size, or of one that a player could not make; time does not run backwards."""
    header, lines = cast(Recorded([(9, "0:9"), (9, "99999:99999"), (9, b"a"), (5, b"b")], size="0:0"))
    assert (header["width"], header["height"]) == (80, 25)
    assert lines[:3] == [[0.009, "r", "1000x500"], [0.009, "o", "a"], [0.009, "o", "b"]]


def test_nothing() -> None:
    """Of a log without a line that can be read there is a header, and an end: players refuse an empty file."""
    recorded = Recorded([])
    recorded.log = b"nonsense\n"
    assert cast(recorded) == ({"version": 2, "width": 80, "height": 25}, [[0.0, "o", ""]])
