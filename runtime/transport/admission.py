"""Who may connect at all: start-ups, connections, users and penalties of one listener. Pure but for its own counts.

Kept apart from sockets so that its rules are tested without one; the clock and the random numbers are given to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied
from runtime.transport.limits import Limits, PenaltyLimits, StartupLimits


def drop_probability(starting: int, limits: StartupLimits) -> float:
    """Return how likely, from 0 to 1, a new connection is refused while `starting` others have not logged in.

    The straight line of sshd's MaxStartups: 0 below `start`, `rate` per cent at it, 1 from `full` on.
    """
    if starting < limits.start:
        return 0.0
    if starting >= limits.full:
        return 1.0
    rate = limits.rate / 100
    return rate + (1 - rate) * (starting - limits.start) / (limits.full - limits.start)


def source_of(host: str) -> str:
    """Return what stands for everybody who could have that address: it itself, or the /64 of an IPv6 address.

    sshd counts single IPv6 addresses (PerSourceNetBlockSize 32:128), but whoever has one of a /64 has them all.
    """
    address = _parse(host)
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False))
    return str(address) if address else host


def _parse(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    # A listener on [::] sees IPv4 peers as ::ffff:a.b.c.d.
    return getattr(address, "ipv4_mapped", None) or address


@dataclass(slots=True)
class _Penalty:
    until: datetime
    active: bool


class Penalties:
    """Source addresses that misbehaved, and until when each is refused (sshd_config, PerSourcePenalties)."""

    def __init__(self, limits: PenaltyLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._sources: dict[str, _Penalty] = {}

    def add(self, source: str, seconds: float) -> None:
        """Add that many seconds to the source's penalty."""
        now = self._clock.now()
        old = self._sources.pop(source, None)
        running = old is not None and old.until > now
        start = old.until if old and running else now
        until = min(start + timedelta(seconds=seconds), now + timedelta(seconds=self._limits.longest))
        reached = (until - now).total_seconds() >= self._limits.threshold
        active = reached or (old is not None and running and old.active)
        while len(self._sources) >= self._limits.sources:
            del self._sources[next(iter(self._sources))]
        self._sources[source] = _Penalty(until, active)

    def remaining(self, source: str) -> float:
        """Return for how many seconds the source is refused; 0 when it is welcome."""
        penalty = self._sources.get(source)
        if penalty is None:
            return 0.0
        left = (penalty.until - self._clock.now()).total_seconds()
        if left <= 0:
            del self._sources[source]
            return 0.0
        return left if penalty.active else 0.0


@dataclass(slots=True, eq=False)
class Visit:
    """One admitted connection, from `arrive` to `leave`; `user` once it has logged in."""

    source: str
    exempt: bool
    user: str | None = None
    attempted: bool = False
    over: bool = False


class Admission:
    """Counts the connections of one listener and says no when a limit is reached."""

    def __init__(self, limits: Limits, *, clock: Clock, random: Callable[[], float]) -> None:
        """`random` returns numbers from 0 up to, not including, 1."""
        self._limits = limits
        self._random = random
        self._penalties = Penalties(limits.penalties, clock)
        self._starting: Counter[str] = Counter()
        self._users: Counter[str] = Counter()
        self.connections = 0

    @property
    def starting(self) -> int:
        """How many connections have not logged in yet."""
        return self._starting.total()

    def arrive(self, host: str) -> Visit:
        """Admit a new connection from that address and count it until `leave`.

        Raises AccessDenied with the limit that it met.
        """
        source = source_of(host)
        visit = Visit(source, exempt=self._exempt(host))
        if left := 0.0 if visit.exempt else self._penalties.remaining(source):
            raise AccessDenied(f"the source address is penalised for another {left:.0f} s")
        if self.connections >= self._limits.max_connections:
            raise AccessDenied(
                f"max_connections ({self._limits.max_connections}) reached",
                hint="Raise connection_limits.max_connections.",
            )
        per_source = self._limits.startups.per_source
        if per_source is not None and not visit.exempt and self._starting[source] >= per_source:
            raise AccessDenied(f"{per_source} connections of this source have not logged in yet")
        if self._random() < drop_probability(self.starting, self._limits.startups):
            raise AccessDenied(f"{self.starting} connections have not logged in yet; this one was dropped at random")
        self.connections += 1
        self._starting[source] += 1
        return visit

    def login(self, visit: Visit, user: str) -> None:
        """Note that the connection is that user's from now on.

        Raises AccessDenied when `max_users` others are logged in.
        """
        if user not in self._users and len(self._users) >= self._limits.max_users:
            raise AccessDenied(
                f"max_users ({self._limits.max_users}) are logged in", hint="Raise connection_limits.max_users."
            )
        self._started(visit)
        self._users[user] += 1
        visit.user = user

    def punish(self, visit: Visit, seconds: float) -> None:
        """Add a penalty to the source of that connection, unless it is exempt."""
        if not visit.exempt and seconds > 0:
            self._penalties.add(visit.source, seconds)

    def leave(self, visit: Visit) -> None:
        """Count the connection no longer; doing so twice is the same as once."""
        if visit.over:
            return
        visit.over = True
        self.connections -= 1
        if visit.user is None:
            self._started(visit)
        else:
            _decrease(self._users, visit.user)

    def _started(self, visit: Visit) -> None:
        _decrease(self._starting, visit.source)

    def _exempt(self, host: str) -> bool:
        address = _parse(host)
        return address is not None and any(address in network for network in self._limits.penalty_exempt)


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
