"""Clocks tell aware UTC time, and one of them moves by hand only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from runtime.core.clock import ManualClock, SystemClock

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_the_system_clock() -> None:
    """It tells the machine's time, aware and in UTC."""
    before = datetime.now(UTC)
    now = SystemClock().now()
    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC


def test_the_manual_clock() -> None:
    """It stands still until it is moved, and moves both ways."""
    clock = ManualClock(NOON)
    assert clock.now() == clock.now() == NOON
    clock.advance(timedelta(hours=1))
    assert clock.now() == NOON + timedelta(hours=1)
    clock.advance(timedelta(hours=-2))
    assert clock.now() == NOON - timedelta(hours=1)


def test_the_manual_clock_is_in_utc() -> None:
    """A start in another zone is the same moment in UTC; one without a zone is refused."""
    clock = ManualClock(NOON.astimezone(timezone(timedelta(hours=5))))
    assert clock.now() == NOON
    assert clock.now().tzinfo is UTC
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2026, 1, 2))  # noqa: DTZ001 (naive on purpose)
