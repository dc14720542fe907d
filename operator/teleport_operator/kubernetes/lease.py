"""Leader election by a Lease of coordination.k8s.io: of several replicas one reconciles, the others wait.

The holder renews the Lease every RENEW_SECONDS. A waiting replica takes it once it has not changed for LEASE_SECONDS by
the waiting replica's own clock, so that no two clocks need to agree; each write names the version that it replaces, so
that of several takers one succeeds. A holder that could not renew for GIVE_UP_SECONDS ends; should it hang, the kernel
ends it FENCE_SECONDS after its last renewal (setitimer(2), SIGALRM), also a process that was stopped and goes on later:
before anybody else can have taken the Lease.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from runtime.core.clock import Clock
from runtime.core.errors import AlreadyExists, CompareFailed, NotFound, TeleportError

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
FENCE_SECONDS = 13.0
GIVE_UP_SECONDS = 10.0
RENEW_SECONDS = 2.0
REQUEST_SECONDS = 3.0
"""How long one attempt may take; several fit into GIVE_UP_SECONDS."""

_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
Lease = Mapping[str, Any]


class Move(Enum):
    """What somebody who wants the Lease does next."""

    CREATE = "there is none"
    TAKE = "nobody holds it, or its holder is silent"
    WAIT = "another holds it"


class Leases(Protocol):
    """The part of the API server that is needed here."""

    async def get(self, path: str) -> dict[str, Any]:
        """Return the object."""
        ...

    async def create(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Create the object."""
        ...

    async def replace(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Replace the object."""
        ...


@dataclass(frozen=True, slots=True)
class Seen:
    """A Lease as it was read, and when this version of it was read first (monotonic seconds)."""

    lease: Lease
    since: float


def next_move(seen: Seen | None, identity: str, now: float) -> Move:
    """Return what `identity` may do at that monotonic time."""
    if seen is None:
        return Move.CREATE
    spec = seen.lease.get("spec", {})
    if spec.get("holderIdentity") in {None, "", identity}:
        return Move.TAKE
    return Move.TAKE if now - seen.since >= float(spec.get("leaseDurationSeconds") or LEASE_SECONDS) else Move.WAIT


def held(seen: Seen | None, identity: str, now: str) -> dict[str, object]:
    """Return the fields of a Lease that `identity` takes, or renews, at that time of day."""
    spec = dict(seen.lease.get("spec", {})) if seen else {}
    taken = spec.get("holderIdentity") != identity
    return {
        **spec,
        "holderIdentity": identity,
        "leaseDurationSeconds": int(LEASE_SECONDS),
        "acquireTime": now if taken else spec.get("acquireTime", now),
        "renewTime": now,
        "leaseTransitions": int(spec.get("leaseTransitions", 0)) + (1 if taken and seen else 0),
    }


class Election:
    """One candidate for one Lease."""

    def __init__(
        self,
        api: Leases,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Clock,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._meta = {"name": name, "namespace": namespace}
        self.identity = identity
        self._clock = clock
        self._now = now
        self._seen: Seen | None = None
        self._renewed = 0.0
        self.leading = False
        self.trouble = ""
        """Why the Lease could not be read or written the last time; empty if it could."""

    @property
    def holder(self) -> str:
        """Who held the Lease when it was last read."""
        return str(self._seen.lease.get("spec", {}).get("holderIdentity") or "") if self._seen else ""

    @property
    def where(self) -> str:
        """The Lease, for logs."""
        return f"{self._meta['namespace']}/{self._meta['name']}"

    async def campaign(self) -> None:
        """Wait until the Lease is ours; from then on the kernel ends this process unless `hold` goes on renewing it."""
        said = ""
        while not await self._try():
            news = self.trouble or f"{self.holder or 'another'} leads"
            if news != said:
                logger.info("waiting for the lease %s: %s", self.where, news)
                said = news
            await asyncio.sleep(RENEW_SECONDS)
        logger.info("leading: the lease %s is ours", self.where)

    async def hold(self) -> str:
        """Renew the Lease for as long as that works, and return why it was lost."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if await self._try():
                continue
            if not self.leading:
                return f"{self.holder or 'somebody'} has taken it"
            if self._now() - self._renewed >= GIVE_UP_SECONDS:
                self.leading = False
                return f"it could not be renewed for {GIVE_UP_SECONDS:g} s: {self.trouble}"

    async def release(self) -> None:
        """Give the Lease back, so that another need not wait. Does nothing when it is not ours."""
        if not self.leading or self._seen is None:
            return
        self.leading = False
        spec = {**held(self._seen, self.identity, self._moment()), "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._api.replace(self._path, {**self._seen.lease, "spec": spec})
        except (TeleportError, TimeoutError) as error:
            logger.warning("the lease %s could not be given back: %s", self.where, error)
        disarm()

    async def _try(self) -> bool:
        """Take or renew the Lease if that is possible, and return whether it is ours."""
        before = self._now()
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._look_and_write()
        except (CompareFailed, AlreadyExists):
            return False  # somebody was quicker; the next look tells who
        except TimeoutError:
            self.trouble = "the API server did not answer in time"
            return False
        except TeleportError as error:
            self.trouble = str(error)
            return False
        self.trouble = ""
        self.leading = self.holder == self.identity
        if self.leading:
            self._renewed = before
            arm(FENCE_SECONDS - (self._now() - before))
        return self.leading

    async def _look_and_write(self) -> None:
        try:
            found = await self._api.get(self._path)
            if self._seen is None or _version(found) != _version(self._seen.lease):
                self._seen = Seen(found, self._now())
        except NotFound:
            self._seen = None
        match next_move(self._seen, self.identity, self._now()):
            case Move.CREATE:
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": self._meta}
                written = await self._api.create(
                    self._collection, {**body, "spec": held(None, self.identity, self._moment())}
                )
            case Move.TAKE:
                assert self._seen is not None  # noqa: S101 (what is not there is created)
                spec = held(self._seen, self.identity, self._moment())
                written = await self._api.replace(self._path, {**self._seen.lease, "spec": spec})
            case Move.WAIT:
                return
        self._seen = Seen(written, self._now())

    def _moment(self) -> str:
        return self._clock.now().strftime(_TIME)


def _version(lease: Lease) -> object:
    return lease.get("metadata", {}).get("resourceVersion")


def arm(seconds: float) -> None:
    """Have the kernel end this process after that many seconds, unless it is armed anew. Main thread only."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))


def disarm() -> None:
    """Let the process live on."""
    signal.setitimer(signal.ITIMER_REAL, 0)
