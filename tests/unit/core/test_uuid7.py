"""Ids that sort by time (RFC 9562 §5.7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runtime.core.uuid7 import Uuid7

NOW = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)


def test_the_example_of_the_rfc() -> None:
    """RFC 9562, appendix A.6: the same time gives the same 48 bits, version and variant where they belong."""
    made = Uuid7(lambda bits: 0)(NOW)
    assert str(made) == "017f22e2-79b0-7000-8000-000000000000"
    assert made.version == 7
    assert Uuid7(lambda bits: (1 << bits) - 1)(NOW).variant == made.variant


def test_each_is_greater_than_the_one_before() -> None:
    """Also more than fit into a millisecond, and where the clock goes back."""
    make = Uuid7(lambda bits: (1 << bits) - 1)
    made = [make(NOW) for _ in range(10_000)]
    made += [make(NOW - timedelta(hours=1)), make(NOW + timedelta(hours=1))]
    assert made == sorted(set(made))
