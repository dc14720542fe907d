"""Who may connect at all: start-ups, connections, users and penalties of one listener. Pure but for its own counts.

Kept apart from sockets so that its rules are tested without one; the clock is given to it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied
from runtime.transport.limits import Limits, PenaltyLimits


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


Proxies = Callable[[], Set[IPv4Address | IPv6Address]]
"""The addresses from which proxies of the cluster come at the moment.

Everybody comes from these, each already logged in at the proxy: one who misbehaves is not to keep the others out, and
a hundred who come at once are no flood. So they are exempt, as those of `Limits.penalty_exempt` are.
"""


OnTurn = Callable[[AccessDenied | None], None]
"""Called once for a visit that had to wait: it may log in now, or it is refused after all."""


@dataclass(slots=True, eq=False)
class Visit:
    """One connection that was not refused, from `arrive` to `leave`; `user` once it has logged in."""

    source: str
    exempt: bool
    on_turn: OnTurn
    begun: datetime | None = None
    """Since when it may log in; None while it waits in line."""
    user: str | None = None
    over: bool = False


class _Line:
    """Who waits: the sources take turns, and of each source it is the first that came."""

    def __init__(self) -> None:
        self._sources: dict[str, deque[Visit]] = {}
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def of(self, source: str) -> int:
        """Return how many of that source wait."""
        return len(self._sources.get(source, ()))

    def add(self, visit: Visit) -> None:
        self._sources.setdefault(visit.source, deque()).append(visit)
        self._length += 1

    def take(self) -> Visit:
        """Remove and return whose turn it is."""
        source = next(iter(self._sources))
        visits = self._sources.pop(source)
        visit = visits.popleft()
        if visits:
            self._sources[source] = visits  # behind the other sources
        self._length -= 1
        return visit

    def make_room(self, source: str) -> Visit | None:
        """Remove and return the last one of the source with most in line; None if that source has not yet as many."""
        longest = max(self._sources.values(), key=len, default=deque[Visit]())
        if len(longest) <= self.of(source) + 1:
            return None
        self._length -= 1
        return longest.pop()

    def remove(self, visit: Visit) -> None:
        visits = self._sources[visit.source]
        visits.remove(visit)
        if not visits:
            del self._sources[visit.source]
        self._length -= 1


class Admission:
    """Counts the connections of one listener and says no when a limit is reached."""

    def __init__(self, limits: Limits, *, clock: Clock, proxies: Proxies = frozenset) -> None:
        self._limits = limits
        self._clock = clock
        self._proxies = proxies
        self._penalties = Penalties(limits.penalties, clock)
        self._starting: dict[Visit, None] = {}
        self._line = _Line()
        self._users: Counter[str] = Counter()
        self.connections = 0
        """Those that may log in or have; who waits in line is not among them."""

    @property
    def starting(self) -> int:
        """How many connections may log in and have not yet, without those that are exempt."""
        return len(self._starting)

    @property
    def waiting(self) -> int:
        """How many wait in line."""
        return len(self._line)

    def arrive(self, host: str, on_turn: OnTurn = lambda _: None) -> Visit:
        """Admit a new connection from that address, at once or, when `begun` is None, to the line.

        Raises AccessDenied with the limit that it met.
        """
        visit = Visit(source_of(host), self._exempt(host), on_turn)
        self._check(visit)
        startups = self._limits.startups
        if startups.per_source is not None and not visit.exempt and self._of(visit.source) >= startups.per_source:
            raise AccessDenied(f"{startups.per_source} connections of this source have not logged in yet")
        if visit.exempt or (not self._line and self.starting < startups.start):
            self._begin(visit)
            return visit
        refusal = AccessDenied(f"{startups.full} connections have not logged in yet")
        if self.starting + self.waiting >= startups.full:
            crowding = self._line.make_room(visit.source)
            if crowding is None:
                raise refusal
            crowding.over = True
            crowding.on_turn(refusal)
        self._line.add(visit)
        return visit

    def _check(self, visit: Visit) -> None:
        if left := 0.0 if visit.exempt else self._penalties.remaining(visit.source):
            raise AccessDenied(f"the source address is penalised for another {left:.0f} s")
        if self.connections >= self._limits.max_connections:
            raise AccessDenied(
                f"max_connections ({self._limits.max_connections}) reached",
                hint="Raise connection_limits.max_connections.",
            )

    def _of(self, source: str) -> int:
        return self._line.of(source) + sum(visit.source == source for visit in self._starting)

    def _begin(self, visit: Visit) -> None:
        visit.begun = self._clock.now()
        self.connections += 1
        if not visit.exempt:
            self._starting[visit] = None

    def _started(self, visit: Visit) -> None:
        """Give the place of one that has logged in, or left, to whose turn it is."""
        self._starting.pop(visit, None)
        while self._line and self.starting < self._limits.startups.start:
            following = self._line.take()
            try:
                self._check(following)
            except AccessDenied as error:
                following.over = True
                following.on_turn(error)
            else:
                self._begin(following)
                following.on_turn(None)

    def overdue(self) -> list[Visit]:
        """Return those whose logins have taken too long for those in line, one for each of these, the oldest first."""
        latest = self._clock.now() - timedelta(seconds=self._limits.startups.patience)
        late = [visit for visit in self._starting if visit.begun and visit.begun <= latest]
        return late[: self.waiting]

    def next_overdue(self) -> float | None:
        """Return in how many seconds somebody will be overdue; None while nobody waits in line."""
        oldest = next(iter(self._starting), None)
        if not self._line or oldest is None or oldest.begun is None:
            return None
        taken = (self._clock.now() - oldest.begun).total_seconds()
        return max(0.0, self._limits.startups.patience - taken)

    def login(self, visit: Visit, user: str) -> None:
        """Note that the connection is that user's from now on.

        Raises AccessDenied when `max_users` others are logged in.
        """
        if user not in self._users and len(self._users) >= self._limits.max_users:
            raise AccessDenied(
                f"max_users ({self._limits.max_users}) are logged in", hint="Raise connection_limits.max_users."
            )
        self._users[user] += 1
        visit.user = user
        self._started(visit)

    def punish(self, visit: Visit, seconds: float) -> None:
        """Add a penalty to the source of that connection, unless it is exempt."""
        if not visit.exempt and seconds > 0:
            self._penalties.add(visit.source, seconds)

    def leave(self, visit: Visit) -> None:
        """Count the connection no longer; doing so twice is the same as once."""
        if visit.over:
            return
        visit.over = True
        if visit.begun is None:
            self._line.remove(visit)
            return
        self.connections -= 1
        if visit.user is not None:
            _decrease(self._users, visit.user)
        self._started(visit)

    def _exempt(self, host: str) -> bool:
        address = _parse(host)
        if address is None:
            return False
        return address in self._proxies() or any(address in network for network in self._limits.penalty_exempt)


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
