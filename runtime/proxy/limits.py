"""How much one peer, and all of them, may ask of the HTTPS port at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from runtime.core.clock import Clock
from runtime.core.defaults import MAX_CONNECTIONS
from runtime.core.errors import Unavailable
from runtime.transport.admission import source_of

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class WebLimits:
    """Limits of the HTTPS port. Times are seconds, sizes bytes. One source may be a whole office behind one address."""

    max_connections: int = MAX_CONNECTIONS
    """Manual, connection_limits. Open connections, also those that have not finished their handshake."""
    connections_per_source: int = 250
    requests_per_source: int = 32
    """Requests of one source that are being answered."""
    credentials: int = 64
    """Logins and sign-ups of all sources that wait for auth, which hashes two at a time."""
    body: int = 1024 * 1024
    handshake_seconds: float = 10
    read_seconds: float = 10
    """For a request's head, and again for its body, and for a client to read answers that pile up; an idle connection
    is closed after as long."""
    drain_seconds: float = 10
    """How long a stop waits for requests that are being answered: a hash and auth's answer take less."""


class Quota:
    """So many in a minute for one source, and in all: of what a stranger can have written here."""

    def __init__(self, clock: Clock, *, per_source: int, total: int) -> None:
        self._clock = clock
        self._per_source = per_source
        self._total = total
        self._since = clock.now()
        self._sources: Counter[str] = Counter()

    def take(self, address: str) -> bool:
        """Count one more, unless that is too many; tell whether it was counted."""
        now = self._clock.now()
        if not timedelta() <= now - self._since < _MINUTE:
            self._since = now
            self._sources.clear()
        source = source_of(address)
        if self._sources[source] >= self._per_source or self._sources.total() >= self._total:
            return False
        self._sources[source] += 1
        return True


class TooManyRequests(Unavailable):
    """One source asks for more at once than it may."""


class InFlight:
    """Counts what is being done, in all and for each source."""

    def __init__(self, *, total: int | None = None, per_source: int | None = None) -> None:
        self._total = total
        self._per_source = per_source
        self._sources: Counter[str] = Counter()
        self._idle = asyncio.Event()
        self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until nothing is being done."""
        await self._idle.wait()

    @contextmanager
    def slot(self, address: str) -> Iterator[None]:
        """Count one more while the block runs. Raises TooManyRequests for the source, Unavailable for all."""
        source = source_of(address)
        if self._per_source is not None and self._sources[source] >= self._per_source:
            raise TooManyRequests(
                "too many requests from your address at once", hint="Wait a few seconds, then try again."
            )
        if self._total is not None and self._sources.total() >= self._total:
            raise Unavailable("too many people are logging in at once", hint="Wait a few seconds, then try again.")
        self._sources[source] += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]
            if not self._sources:
                self._idle.set()
