"""One grammar of durations, Go's, in and out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.durations import LONGEST, format_duration, parse_duration
from runtime.core.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("1m0s", 60),
        ("1h", 3600),
        ("1h30m", 5400),
        ("90s", 90),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("5.s", 5),
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("250\u00b5s", 0.00025),
        ("250\u03bcs", 0.00025),
        ("2000ns", 0.000002),
        ("1s1h", 3601),
        ("1h1h", 7200),
    ],
)
def test_what_is_a_duration(text: str, seconds: float) -> None:
    """Numbers with units, in any order and with fractions, add up."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "h",
        "1d",
        "1 h",
        " 1h",
        "1h ",
        "1h\n",
        "-1h",
        "+1h",
        "1h-1m",
        "1H",
        "1,5h",
        "1e3s",
        ".h",
        ".",
        "\u0661h",
        "1h" * 33,
        "9" * 999,
    ],
)
def test_what_is_not(text: str) -> None:
    """Anything else is refused, with the text cut and an example."""
    with pytest.raises(InvalidInput, match="is not a duration") as caught:
        parse_duration(text)
    assert len(str(caught.value)) < 100
    assert "1h30m" in caught.value.hint


def test_the_ends() -> None:
    """What a timedelta or Go's int64 cannot hold exactly is refused, not rounded."""
    with pytest.raises(InvalidInput, match="finer than a microsecond"):
        parse_duration("1ns")
    with pytest.raises(InvalidInput, match="longer than 292 years"):
        parse_duration("2562048h")
    assert parse_duration(f"{LONGEST.days * 24}h") == LONGEST


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(), "0s"),
        (timedelta(hours=8), "8h"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(hours=1, seconds=1), "1h1s"),
        (timedelta(days=2), "48h"),
        (timedelta(milliseconds=500), "500ms"),
        (timedelta(milliseconds=1500), "1.5s"),
        (timedelta(microseconds=7), "7us"),
        (timedelta(minutes=1, microseconds=7), "1m0.000007s"),
    ],
)
def test_the_canonical_text(duration: timedelta, text: str) -> None:
    """A duration has one text."""
    assert format_duration(duration) == text


def test_nothing_lasts_a_negative_time() -> None:
    """A negative duration is a mistake of the caller."""
    with pytest.raises(ValueError, match="not negative"):
        format_duration(timedelta(seconds=-1))


@given(st.timedeltas(min_value=timedelta(), max_value=LONGEST))
def test_there_and_back(duration: timedelta) -> None:
    """Each duration is read back from its text."""
    assert parse_duration(format_duration(duration)) == duration
