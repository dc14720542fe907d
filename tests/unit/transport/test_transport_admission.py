"""Who may connect at all, without a socket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest

from runtime.core.clock import ManualClock
from runtime.core.errors import AccessDenied
from runtime.transport.admission import Admission, Penalties, Visit, source_of
from runtime.transport.limits import Limits, PenaltyLimits, StartupLimits


def clock() -> ManualClock:
    """Return a clock that stands still."""
    return ManualClock(datetime(2026, 1, 1, tzinfo=UTC))


def admission(limits: Limits, *, at: ManualClock | None = None) -> Admission:
    """Return an admission."""
    return Admission(limits, clock=at or clock())


class Arrivals:
    """Connections that arrive one after the other, and what became of those that had to wait."""

    def __init__(self, doorman: Admission) -> None:
        self._doorman = doorman
        self.begun: list[str] = []
        """Who may log in, in the order in which it was told."""
        self.refused: list[str] = []

    def arrive(self, name: str, host: str) -> Visit:
        """Have somebody arrive from an address."""

        def on_turn(refusal: AccessDenied | None) -> None:
            (self.begun if refusal is None else self.refused).append(name)

        visit = self._doorman.arrive(host, on_turn)
        if visit.begun:
            self.begun.append(name)
        return visit


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


LINE = Limits(startups=StartupLimits(start=1, full=4, patience=5))
"""One logs in at a time, three may wait."""


def test_who_comes_first_logs_in_first() -> None:
    """Beyond `start` connections wait; each that logs in or leaves makes room for one, in the order of arrival."""
    doorman = admission(LINE)
    arrivals = Arrivals(doorman)
    first, second, _ = (arrivals.arrive(name, "192.0.2.1") for name in "abc")
    assert (arrivals.begun, doorman.starting, doorman.waiting, doorman.connections) == (["a"], 1, 2, 1)
    doorman.login(first, "joe")
    assert arrivals.begun == ["a", "b"]
    doorman.leave(second)
    assert arrivals.begun == ["a", "b", "c"]
    assert (doorman.starting, doorman.waiting, doorman.connections) == (1, 0, 2)


def test_sources_take_turns() -> None:
    """However many of one address are in line, the first of another has the second turn."""
    doorman = admission(LINE)
    arrivals = Arrivals(doorman)
    current = [arrivals.arrive("a1", "192.0.2.1")]
    waiting = {name: arrivals.arrive(name, "192.0.2.1") for name in ("a2", "a3")}
    waiting["b1"] = arrivals.arrive("b1", "192.0.2.2")
    for name in ("a2", "b1"):
        doorman.leave(current.pop())
        assert arrivals.begun[-1] == name
        current.append(waiting[name])


def test_who_leaves_the_line_has_no_turn() -> None:
    """A connection that ends while it waits is not counted, and the next one has its turn."""
    doorman = admission(LINE)
    arrivals = Arrivals(doorman)
    first, second, _ = (arrivals.arrive(name, "192.0.2.1") for name in "abc")
    doorman.leave(second)
    doorman.leave(second)
    doorman.leave(first)
    assert arrivals.begun == ["a", "c"]
    assert (doorman.starting, doorman.waiting) == (1, 0)


def test_a_full_line_refuses() -> None:
    """At `full` the next of an address that is in line as often as any other is refused."""
    doorman = admission(LINE)
    for _ in range(4):
        doorman.arrive("192.0.2.1")
    with pytest.raises(AccessDenied, match="4 connections have not logged in yet"):
        doorman.arrive("192.0.2.1")
    assert (doorman.starting, doorman.waiting) == (1, 3)


def test_in_a_full_line_the_most_numerous_make_room() -> None:
    """Another address is let into a full line, and the last of the most numerous is refused for it; not so if equal."""
    doorman = admission(LINE)
    arrivals = Arrivals(doorman)
    for number in range(4):
        arrivals.arrive(f"a{number}", "192.0.2.1")
    arrivals.arrive("b", "192.0.2.2")
    arrivals.arrive("c", "192.0.2.3")
    assert arrivals.refused == ["a3", "a2"]
    with pytest.raises(AccessDenied, match="4 connections"):
        arrivals.arrive("d", "192.0.2.4")
    assert (doorman.starting, doorman.waiting) == (1, 3)


def test_a_login_is_overdue_only_while_others_wait() -> None:
    """After five seconds, and one for each in line, the oldest first."""
    now = clock()
    doorman = admission(Limits(startups=StartupLimits(start=2, full=9, patience=5)), at=now)
    first = doorman.arrive("192.0.2.1")
    now.advance(timedelta(seconds=1))
    second = doorman.arrive("192.0.2.1")
    now.advance(timedelta(seconds=3))
    assert doorman.next_overdue() is None
    doorman.arrive("192.0.2.2")
    assert (doorman.next_overdue(), doorman.overdue()) == (1, [])
    now.advance(timedelta(seconds=2))
    assert (doorman.next_overdue(), doorman.overdue()) == (0, [first])
    doorman.arrive("192.0.2.2")
    assert doorman.overdue() == [first, second]
    doorman.login(first, "joe")
    assert doorman.overdue() == [second]


def test_at_its_turn_a_connection_meets_the_limits_again() -> None:
    """Who was penalised while it waited is refused then, and the turn is the next one's."""
    doorman = admission(LINE)
    arrivals = Arrivals(doorman)
    first = arrivals.arrive("a1", "192.0.2.1")
    arrivals.arrive("a2", "192.0.2.1")
    arrivals.arrive("b1", "192.0.2.2")
    doorman.punish(first, 90)
    doorman.leave(first)
    assert (arrivals.begun, arrivals.refused) == (["a1", "b1"], ["a2"])


def test_proxies_do_not_wait() -> None:
    """An exempt address neither waits nor takes a place from others."""
    doorman = Admission(
        Limits(startups=StartupLimits(start=1), penalty_exempt=(ip_network("192.0.2.0/24"),)), clock=clock()
    )
    visits = [doorman.arrive("192.0.2.1") for _ in range(5)]
    assert all(visit.begun for visit in visits)
    assert doorman.arrive("198.51.100.1").begun
    assert (doorman.connections, doorman.starting) == (6, 1)
    doorman.leave(visits[0])
    assert (doorman.connections, doorman.starting) == (5, 1)
