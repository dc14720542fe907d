"""Events as one value: what comes out is what went in, and what a summary denies is not there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.audit.search import Filter
from runtime.audit.segment import Sieve, pack, unpack

DAY = datetime(2017, 2, 3, tzinfo=UTC)
NAMES = ("event", "user", "login", "sid", "server_id", "command")


def line(number: int = 0, **fields: str) -> bytes:
    """Return an event as the log has it."""
    at = DAY + timedelta(minutes=number)
    event = {"event": "exec", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}", "user": f"user{number}", "login": "root", **fields}
    return json.dumps(event, separators=(",", ":")).encode()


def test_what_is_packed_is_unpacked() -> None:
    """Lines come back, in their order."""
    lines = [line(number) for number in range(300)]
    assert unpack(pack(lines)).split(b"\n") == lines


@given(
    st.lists(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=20)), min_size=1, max_size=20),
    st.sampled_from(NAMES),
    st.data(),
)
def test_what_is_there_passes(events: list[dict[str, str]], name: str, data: st.DataObject) -> None:
    """Whatever is in a value: quotation marks, backslashes, letters of all alphabets."""
    value = pack([line(number, **fields) for number, fields in enumerate(events)])
    sought = data.draw(st.sampled_from([fields.get(name, "") for fields in events]))
    if any(fields.get(name) == sought for fields in events):
        assert Sieve(Filter(fields=((name, sought),))).passes(value)


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        (Filter(), True),
        (Filter(text="anything"), True),
        (Filter(fields=(("command", "is not summed up"),)), True),
        (Filter(fields=(("user", "user7"),)), True),
        (Filter(fields=(("user", "user7"), ("login", "root"))), True),
        (Filter(fields=(("user", "user7"), ("login", "nobody"))), False),
        (Filter(fields=(("user", "user77"),)), False),
        (Filter(types=frozenset({"exec", "auth"})), True),
        (Filter(types=frozenset({"auth", "session.start"})), False),
        (Filter(since=DAY + timedelta(minutes=9)), True),
        (Filter(since=DAY + timedelta(minutes=10)), False),
        (Filter(until=DAY), False),
        (Filter(until=DAY + timedelta(seconds=1)), True),
    ],
)
def test_what_passes(wanted: Filter, *, passes: bool) -> None:
    """Ten events of ten users and ten minutes."""
    assert Sieve(wanted).passes(pack([line(number) for number in range(10)])) is passes


def test_few_pass_by_mistake() -> None:
    """Of a thousand users that are not there, some seem to be."""
    value = pack([line(number, sid=f"session{number}") for number in range(256)])
    assert sum(Sieve(Filter(fields=(("user", f"other{each}"),))).passes(value) for each in range(1000)) < 15


@pytest.mark.parametrize("value", [b"", b"nonsense", b"S1", b"S1\xff\xff" + bytes(100), pack([b"{}"])[:-4]])
def test_what_is_no_segment_hides_nothing_else(value: bytes) -> None:
    """It has no lines."""
    assert unpack(value) == b""
    assert not Sieve(Filter(fields=(("user", "joe"),))).passes(value)
