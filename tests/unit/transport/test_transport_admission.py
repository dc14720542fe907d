"""Who may connect at all, without a socket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied
from runtime.transport.admission import Admission, Penalties, drop_probability, source_of
from runtime.transport.limits import Limits, PenaltyLimits, StartupLimits


def clock() -> ManualClock:
    """Return a clock that stands still."""
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


def admission(limits: Limits, *, random: float = 0.999, at: ManualClock | None = None) -> Admission:
    """Return an admission whose dice always fall the same way."""
    return Admission(limits, clock=at or clock(), random=lambda: random)


@pytest.mark.parametrize(
    ("starting", "probability"),
    [(0, 0.0), (9, 0.0), (10, 0.3), (55, 0.65), (99, 0.3 + 0.7 * 89 / 90), (100, 1.0), (500, 1.0)],
)
def test_drop_probability_is_sshds_line(starting: int, probability: float) -> None:
    """10:30:100 refuses nobody below 10, 30 per cent at 10, half way up at 55, everybody from 100 on."""
    assert drop_probability(starting, StartupLimits()) == pytest.approx(probability)


def test_start_equal_to_full_is_a_plain_limit() -> None:
    """Without a ramp there is no division by zero: below nobody is refused, from there on everybody."""
    limits = StartupLimits(start=5, rate=30, full=5)
    assert [drop_probability(starting, limits) for starting in (4, 5)] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_source_of(host: str, source: str) -> None:
    """An IPv4 address stands for itself, however it is written, an IPv6 address for its /64."""
    assert source_of(host) == source


def test_penalties_add_up_bite_at_the_threshold_and_end() -> None:
    """5 + 5 is below 15 and harmless, another 5 bites for 15 s, and then it is over."""
    now = clock()
    penalties = Penalties(PenaltyLimits(), now)
    for expected in (0, 0, 15):
        penalties.add("a", 5)
        assert penalties.remaining("a") == expected
    now.advance(timedelta(seconds=14))
    assert penalties.remaining("a") == 1
    assert penalties.remaining("b") == 0
    now.advance(timedelta(seconds=1))
    assert penalties.remaining("a") == 0


def test_penalties_that_ended_are_forgotten() -> None:
    """What was long ago does not add to what is now."""
    now = clock()
    penalties = Penalties(PenaltyLimits(), now)
    for _ in range(5):
        penalties.add("a", 10)
        now.advance(timedelta(seconds=10))
    assert penalties.remaining("a") == 0


def test_penalties_have_a_longest() -> None:
    """However much adds up, it is over after ten minutes."""
    penalties = Penalties(PenaltyLimits(), clock())
    for _ in range(100):
        penalties.add("a", 90)
    assert penalties.remaining("a") == 600


def test_penalties_remember_so_many_sources() -> None:
    """A flood of addresses costs bounded memory: the one penalised longest ago is forgotten."""
    penalties = Penalties(PenaltyLimits(sources=2), clock())
    for source in ("a", "b", "a", "c"):
        penalties.add(source, 90)
    assert [penalties.remaining(source) for source in ("a", "b", "c")] == [180, 0, 90]


def test_an_exempt_source_is_never_penalised() -> None:
    """A proxy carries everybody's connections: what one does is not held against the others."""
    limits = Limits(penalty_exempt=(ip_network("192.0.2.0/24"),))
    doorman = admission(limits)
    for host in ("192.0.2.1", "::ffff:192.0.2.1"):
        visit = doorman.arrive(host)
        doorman.punish(visit, 90)
        doorman.leave(visit)
        doorman.leave(doorman.arrive(host))
    visit = doorman.arrive("198.51.100.1")
    doorman.punish(visit, 90)
    with pytest.raises(AccessDenied, match="penalised"):
        doorman.arrive("198.51.100.1")


def test_per_source_startups_leave_room_for_others() -> None:
    """With PerSourceMaxStartups one address cannot use up what everybody shares, until it has logged in."""
    doorman = admission(Limits(startups=StartupLimits(per_source=1)))
    first = doorman.arrive("192.0.2.1")
    with pytest.raises(AccessDenied, match="1 connections of this source"):
        doorman.arrive("192.0.2.1")
    doorman.arrive("192.0.2.2")
    doorman.login(first, "joe")
    doorman.arrive("192.0.2.1")


def test_leaving_twice_counts_once() -> None:
    """The counts never go below what is there."""
    doorman = admission(Limits())
    first, second = doorman.arrive("192.0.2.1"), doorman.arrive("192.0.2.1")
    doorman.login(second, "joe")
    for visit in (first, first, second, second):
        doorman.leave(visit)
    assert (doorman.connections, doorman.starting) == (0, 0)


def test_a_user_is_there_as_long_as_one_of_its_connections() -> None:
    """With `max_users` 1, a second user waits until the last connection of the first has ended."""
    doorman = admission(Limits(max_users=1))
    visits = [doorman.arrive("192.0.2.1") for _ in range(3)]
    doorman.login(visits[0], "joe")
    doorman.login(visits[1], "joe")
    for left in visits[:2]:
        with pytest.raises(AccessDenied, match="max_users"):
            doorman.login(visits[2], "ann")
        doorman.leave(left)
    doorman.login(visits[2], "ann")


def test_a_refused_connection_is_not_counted() -> None:
    """Whoever is turned away does not use up what turned it away."""
    doorman = admission(Limits(max_connections=1))
    first = doorman.arrive("192.0.2.1")
    for _ in range(3):
        with pytest.raises(AccessDenied, match="max_connections"):
            doorman.arrive("192.0.2.1")
    doorman.leave(first)
    doorman.arrive("192.0.2.1")
