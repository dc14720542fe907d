"""Durations as people write them: `1m0s`, `1h30m`, `500ms`; the grammar of Go's time.ParseDuration, without signs."""

from __future__ import annotations

import re
from datetime import timedelta
from fractions import Fraction

from runtime.core.errors import InvalidInput

_MICROSECONDS = {
    "h": Fraction(3_600_000_000),
    "m": Fraction(60_000_000),
    "s": Fraction(1_000_000),
    "ms": Fraction(1_000),
    "us": Fraction(1),
    "µs": Fraction(1),  # U+00B5, micro sign
    "μs": Fraction(1),  # U+03BC, Greek mu: Go takes both
    "ns": Fraction(1, 1_000),
}
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_LONGEST_TEXT = 64
LONGEST = timedelta(days=106_751)
"""The longest duration that is understood: what Go's 64 bits of nanoseconds hold, about 292 years."""


def parse_duration(text: str) -> timedelta:
    """Return the duration that `text` names, exact to the microsecond: `1h`, `1m0s`, `1.5h`, `500ms`, or `0`.

    A sign is refused, since nothing here lasts a negative time; so are a bare number and what is finer than a
    microsecond. Source: Go's time.ParseDuration. Raises InvalidInput.
    """
    if text == "0":
        return timedelta()
    total = Fraction()
    end = 0
    for part in _PART.finditer(text[:_LONGEST_TEXT]):
        if part.start() != end:
            break
        end = part.end()
        total += Fraction(part[1].rstrip(".")) * _MICROSECONDS[part[2]]
    if not end or end != len(text):
        raise _invalid(text, "is not a duration")
    if total.denominator != 1:
        raise _invalid(text, "is finer than a microsecond")
    if total > LONGEST // timedelta(microseconds=1):
        raise _invalid(text, "is longer than 292 years")
    return timedelta(microseconds=int(total))


def format_duration(duration: timedelta) -> str:
    """Return the one canonical text of a duration: the largest units first, none that is zero: `1h30m`, `1m30s`, `0s`.

    Below a second it is a number of `ms` or `us`, so that no fraction is needed except after whole seconds (`1.5s`).
    Raises ValueError for a negative duration.
    """
    if duration < timedelta():
        raise ValueError(f"a duration is not negative: {duration!r}")
    seconds, micros = divmod(duration // timedelta(microseconds=1), 1_000_000)
    if not seconds and micros:
        return f"{micros // 1000}ms" if micros % 1000 == 0 else f"{micros}us"
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    tail = f"{seconds}.{micros:06}".rstrip("0") if micros else f"{seconds}"
    text = (f"{hours}h" if hours else "") + (f"{minutes}m" if minutes else "") + (f"{tail}s" if tail != "0" else "")
    return text or "0s"


def _invalid(text: str, why: str) -> InvalidInput:
    shown = ascii(text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…")
    return InvalidInput(f"{shown} {why}", hint="Write a number and a unit, as in 30s, 5m, 8h or 1h30m.")
