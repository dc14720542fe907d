"""Pauses between dials: random from nothing up to a bound that doubles, so that those who lost one proxy spread out."""

from __future__ import annotations

import random

from runtime.tunnel.backoff import FIRST_SECONDS, LONGEST_SECONDS, Backoff
from runtime.tunnel.keeper import DIAL_SECONDS


class _Highest(random.Random):
    """Always draws the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        """Return the upper one."""
        assert a == 0
        return b


def test_the_bound_doubles_up_to_the_longest() -> None:
    """Half a second, then twice that each time, up to the most."""
    backoff = Backoff(_Highest())
    assert [backoff.pause() for _ in range(5)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert (FIRST_SECONDS, LONGEST_SECONDS) == (0.5, 4.0)


def test_success_begins_anew() -> None:
    """After a tunnel that stood, the first pause is short again."""
    backoff = Backoff(_Highest())
    for _ in range(5):
        backoff.pause()
    backoff.reset()
    assert backoff.pause() == 0.5


def test_another_longest_for_what_waits_for_people() -> None:
    """Where only somebody's hand helps, pauses may grow longer; back at the usual, they are as short as that."""
    backoff = Backoff(_Highest())
    assert [backoff.pause(longest=10) for _ in range(6)][-1] == 10
    assert backoff.pause() == 4.0


def test_back_within_ten_seconds_of_the_network() -> None:
    """The worst that can be: a dial began just before the network was whole, and then the longest pause."""
    assert DIAL_SECONDS + LONGEST_SECONDS <= 10


def test_a_thousand_do_not_come_as_one() -> None:
    """Full jitter: of those who lost a proxy at once, no tenth of the time sees a quarter of them."""
    firsts = []
    for seed in range(1000):
        backoff = Backoff(random.Random(seed))
        for _ in range(4):
            pause = backoff.pause()
        firsts.append(pause)
    counts = [sum(low / 10 * 4 <= first < (low + 1) / 10 * 4 for first in firsts) for low in range(10)]
    assert sum(counts) == 1000
    assert max(counts) < 250
