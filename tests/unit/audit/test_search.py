"""Finding events by the bytes of their lines finds exactly what reading them as JSON would."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.audit.events import EventType
from runtime.audit.log import EventLog
from runtime.audit.search import Filter, time_of, uid_of
from runtime.core.clock import ManualClock

NOON = datetime(2017, 2, 3, 12, tzinfo=UTC)


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    """Return the lines of a log: who is who's name may be meant to mislead."""
    clock = ManualClock(NOON)
    log = EventLog(tmp_path, clock)
    for user in ("joe", 'x","user":"joe', "JOE", "joe\\", "é"):
        log.emit(EventType.EXEC, user=user, command=f"echo {user}")
        log.emit(EventType.AUTH, user=user, success="true")
        clock.advance(timedelta(hours=1))
    log.close()
    return (tmp_path / "2017-02-03.00:00:00.log").read_bytes().splitlines()


def found(lines: list[bytes], wanted: Filter) -> list[tuple[str, str]]:
    """Return type and user of the events that fit; among lines there are the same as in a block of them."""
    fits = list(wanted.of(lines))
    assert list(wanted.within(b"\n".join(lines))) == fits
    return [(event["event"], event["user"]) for event in map(json.loads, fits)]


def test_a_field_is_what_it_is(lines: list[bytes]) -> None:
    """Not what a value makes it look like, and with the case of its letters."""
    assert found(lines, Filter(fields=(("user", "joe"),))) == [("exec", "joe"), ("auth", "joe")]
    for user in ('x","user":"joe', "joe\\", "é"):
        assert found(lines, Filter(fields=(("user", user),), types=frozenset({"exec"}))) == [("exec", user)]
    assert found(lines, Filter(fields=(("user", "jo"),))) == []


def test_types_text_and_time(lines: list[bytes]) -> None:
    """Any of the types; text whatever its case; from a time on, and before one."""
    assert len(found(lines, Filter())) == 10
    assert len(found(lines, Filter(types=frozenset({"exec", "auth"})))) == 10
    assert len(found(lines, Filter(types=frozenset({"resize"})))) == 0
    assert found(lines, Filter(text="ECHO é")) == [("exec", "é")]
    hour = timedelta(hours=1)
    assert found(lines, Filter(since=NOON + hour, until=NOON + 2 * hour, types=frozenset({"auth"}))) == [
        ("auth", 'x","user":"joe')
    ]
    assert len(found(lines, Filter(since=NOON + 4 * hour))) == 2
    assert len(found(lines, Filter(until=NOON + hour))) == 2
    assert len(found(lines, Filter(since=NOON, until=NOON + 5 * hour))) == 10
    assert len(found(lines, Filter(since=NOON - hour, until=NOON))) == 0
    assert len(found(lines, Filter(since=NOON + hour / 2, until=NOON + 3 * hour / 2))) == 2


def test_a_block_of_one_hour(lines: list[bytes]) -> None:
    """It is looked into if any of that hour is asked for, and only then anything is found."""
    hour = timedelta(hours=1)
    block = b"\n".join(lines[2:4])
    for since, until, expected in (
        (0, 1.5, 2),
        (1, 1.1, 2),
        (0.5, 4, 2),
        (1.1, 2, 0),
        (0, 1, 0),
        (2, 3, 0),
        (0, 40, 2),
    ):
        wanted = Filter(since=NOON + since * hour, until=NOON + until * hour)
        assert len(list(wanted.within(block))) == expected, (since, until)


NAMES = ("event", "user", "command", "uid", "time", "prev")


@given(
    st.lists(st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["exec", "Exec", 'x","user":"exec', "\n", ""]))),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["exec", "Exec", "\n", ""])), max_size=2),
    st.frozensets(st.sampled_from(["exec", "Exec"])),
    st.sampled_from(["", "exec", "R"]),
)
def test_within_a_block_as_among_lines(
    events: list[dict[str, str]], fields: list[tuple[str, str]], types: frozenset[str], text: str
) -> None:
    """Looking through a block at once finds what reading each event would, in that order."""
    lines = [json.dumps(event, separators=(",", ":")).encode() for event in events]
    wanted = Filter(fields=tuple(fields), types=types, text=text)
    expected = [
        line
        for line, event in zip(lines, events, strict=True)
        if all(event.get(name) == value for name, value in fields)
        and (not types or event.get("event") in types)
        and text.lower() in line.decode().lower()
    ]
    assert list(wanted.within(b"\n".join(lines))) == list(wanted.of(lines)) == expected


@given(st.text(), st.text())
def test_as_json_would_have_it(user: str, sought: str) -> None:
    """For any two texts the one is found in the other's event only if they are equal."""
    line = json.dumps({"event": "exec", "command": sought, "user": user}, separators=(",", ":")).encode()
    assert list(Filter(fields=(("user", sought),)).of([line])) == ([line] if user == sought else [])


def test_what_is_no_event(lines: list[bytes]) -> None:
    """A line that was cut off has no time and no id."""
    assert time_of(lines[0]) == b"2017-02-03T12:00:00Z"
    assert uid_of(lines[0]).decode() == json.loads(lines[0])["uid"]
    assert (time_of(lines[0][:20]), uid_of(b"\xff"), uid_of(b"")) == (b"", b"", b"")
