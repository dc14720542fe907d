"""What is counted at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from runtime.core.clock import ManualClock
from runtime.core.errors import Unavailable
from runtime.proxy.limits import InFlight, Quota, TooManyRequests


def test_one_source_is_bounded_and_others_are_not() -> None:
    """The source that has its share waits; one beside it does not; a place that is left is free again."""
    counted = InFlight(per_source=2)
    with counted.slot("192.0.2.1"):
        with counted.slot("192.0.2.1"):
            with pytest.raises(TooManyRequests, match="your address"), counted.slot("192.0.2.1"):
                pytest.fail("a third was let in")
            with counted.slot("192.0.2.2"):
                pass
        with counted.slot("192.0.2.1"):
            pass


def test_a_network_of_ipv6_is_one_source() -> None:
    """Who has one address of a /64 has them all."""
    counted = InFlight(per_source=1)
    with counted.slot("2001:db8::1"):
        with pytest.raises(TooManyRequests), counted.slot("2001:db8::2"):
            pytest.fail("a neighbour was let in")
        with counted.slot("2001:db8:0:1::1"):
            pass


def test_all_sources_together_are_bounded() -> None:
    """When everything is taken, nobody is told that it is their fault."""
    counted = InFlight(total=2)
    with counted.slot("192.0.2.1"), counted.slot("192.0.2.2"):
        with pytest.raises(Unavailable, match="too many people") as caught, counted.slot("192.0.2.3"):
            pytest.fail("a third was let in")
        assert not isinstance(caught.value, TooManyRequests)


async def test_idle_is_when_nothing_is_being_done() -> None:
    """Waiting for it ends when the last place is left, also by an error."""
    counted = InFlight()
    await counted.wait_idle()
    with counted.slot("192.0.2.1"):
        waiting = asyncio.create_task(counted.wait_idle())
        with pytest.raises(ZeroDivisionError), counted.slot("192.0.2.2"):
            raise ZeroDivisionError
        await asyncio.sleep(0)
        assert not waiting.done()
    async with asyncio.timeout(5):
        await waiting


def test_a_quota_is_for_a_source_for_all_and_for_a_minute() -> None:
    """One source has its share, all have theirs, and a minute later, or if the clock is set back, it starts anew."""
    clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
    quota = Quota(clock, per_source=2, total=3)
    taken = [quota.take(address) for address in ("192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3")]
    assert taken == [True, True, False, True, False]
    clock.advance(timedelta(seconds=59))
    assert not quota.take("192.0.2.4")
    clock.advance(timedelta(seconds=1))
    assert quota.take("192.0.2.1")
    clock.advance(timedelta(days=-1))
    assert [quota.take("192.0.2.1") for _ in range(3)] == [True, True, False]
