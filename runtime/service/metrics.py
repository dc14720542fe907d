"""What a machine should know of this process, for Prometheus: counted where it happens, shown when it is asked for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.api.rotation_messages import RotationStatus
from runtime.audit.events import EventType
from runtime.audit.log import Audit, Field
from runtime.backend.base import Backend, Event, Item, Snapshot
from runtime.core.errors import Unavailable
from runtime.core.version import __version__
from runtime.service.member import Member
from runtime.service.rotation_metrics import RotationMetrics
from runtime.service.tunnel_metrics import TunnelMetrics, Tunnels

T = TypeVar("T")


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Gauge("teleport_build_info", "1, labelled with the version.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        self.ready = Gauge("teleport_ready", "Whether everything serves (1) or not (0).", registry=self.registry)
        self.logins = Counter(
            "teleport_auth_logins", "Attempts to log in or sign up, by result.", ["result"], registry=self.registry
        )
        self.refused = Counter(
            "teleport_auth_refused", "Calls, joins and logins that auth refused.", ["event"], registry=self.registry
        )
        self.certificates = Counter(
            "teleport_auth_certificates", "Certificates that auth has signed.", registry=self.registry
        )
        self.events = Counter("teleport_audit_events", "Events in the audit log.", ["event"], registry=self.registry)
        self.requests = Counter(
            "teleport_backend_requests", "Requests to the backend.", ["operation"], registry=self.registry
        )
        self.errors = Counter(
            "teleport_backend_errors",
            "Requests that the backend did not answer.",
            ["operation"],
            registry=self.registry,
        )

        self._members: list[Member] = []
        self.registry.register(_Members(self._members))

    def watch(self, member: Member) -> None:
        """Show the heartbeats of a member from now on."""
        self._members.append(member)

    def watch_recordings(self, filing: Filing) -> None:
        """Show what becomes of recordings from now on."""
        self.registry.register(_Recordings(filing))

    def watch_tunnels(self, tunnels: Tunnels) -> None:
        """Show the tunnels to other clusters from now on."""
        self.registry.register(TunnelMetrics(tunnels))

    def watch_rotations(self, statuses: Callable[[], Iterable[RotationStatus]]) -> None:
        """Show how it stands with the cluster's authorities from now on."""
        self.registry.register(RotationMetrics(statuses))


class Filing(Protocol):
    """What brings recordings to where they stay."""

    @property
    def waiting(self) -> Collection[object]:
        """Recordings that are over, and still on this machine's disk only, or not verified."""
        ...

    @property
    def failures(self) -> int:
        """How often one could not be brought there."""
        ...


class CountedAudit:
    """An audit log that counts its events."""

    def __init__(self, audit: Audit, metrics: Metrics) -> None:
        self._audit = audit
        self._metrics = metrics

    def emit(self, event: EventType, **fields: Field) -> None:
        """Log one event."""
        self._audit.emit(event, **fields)
        self._metrics.events.labels(event).inc()
        match event:
            case EventType.AUTH:
                self._metrics.logins.labels("success" if fields.get("success") == "true" else "failure").inc()
            case EventType.CALL_REFUSED | EventType.JOIN_REFUSED:
                self._metrics.refused.labels(event).inc()
            case EventType.CERTIFICATE_ISSUED:
                self._metrics.certificates.inc()

    async def durable(self) -> None:
        """Wait until what was logged so far is on the disk."""
        await self._audit.durable()


class CountedBackend:
    """A backend whose requests are counted, and those apart that it did not answer."""

    def __init__(self, backend: Backend, metrics: Metrics) -> None:
        self._backend = backend
        self._metrics = metrics

    async def get(self, key: str) -> Item:
        """Count a get."""
        return await self._counted("get", self._backend.get(key))

    async def put(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Count a put."""
        return await self._counted("put", self._backend.put(key, value, expires=expires))

    async def create(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Count a create."""
        return await self._counted("create", self._backend.create(key, value, expires=expires))

    async def compare_and_swap(self, key: str, value: bytes, *, revision: int, expires: datetime | None = None) -> Item:
        """Count a compare-and-swap."""
        request = self._backend.compare_and_swap(key, value, revision=revision, expires=expires)
        return await self._counted("compare_and_swap", request)

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Count a delete."""
        await self._counted("delete", self._backend.delete(key, revision=revision))

    async def range(self, prefix: str) -> Snapshot:
        """Count a range."""
        return await self._counted("range", self._backend.range(prefix))

    def watch(self, prefix: str, *, after: int | None = None) -> AsyncGenerator[Event, None]:
        """Pass a watch on; it is no request that ends."""
        return self._backend.watch(prefix, after=after)

    async def close(self) -> None:
        """Close the backend."""
        await self._backend.close()

    async def _counted(self, operation: str, request: Awaitable[T]) -> T:
        self._metrics.requests.labels(operation).inc()
        try:
            return await request
        except Unavailable:
            self._metrics.errors.labels(operation).inc()
            raise


class _Recordings(Collector):
    """Reads what the filing of recordings counts itself."""

    def __init__(self, filing: Filing) -> None:
        self._filing = filing

    def collect(self) -> Iterator[Metric]:
        """Yield how many recordings wait, and how often one could not be filed."""
        yield GaugeMetricFamily(
            "teleport_recordings_waiting",
            "Recordings that are over, and still to be verified or to be put into the object store.",
            value=len(self._filing.waiting),
        )
        yield CounterMetricFamily(
            "teleport_recordings_filing_failures",
            "How often a recording could not be verified, or put into the object store.",
            value=self._filing.failures,
        )


class _Members(Collector):
    """Reads what each member counts itself."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = members

    def collect(self) -> Iterator[Metric]:
        """Yield heartbeats by result, the time of the last one that was taken, and when the certificates end."""
        beats = CounterMetricFamily("teleport_heartbeats", "Heartbeats to auth.", labels=["role", "result"])
        last = GaugeMetricFamily(
            "teleport_last_heartbeat_timestamp_seconds", "When auth took the last heartbeat.", labels=["role"]
        )
        end = GaugeMetricFamily(
            "teleport_certificate_expiry_timestamp_seconds", "When the role's certificates end.", labels=["role"]
        )
        for member in self._members:
            role = str(member.identity.role)
            beats.add_metric([role, "success"], member.heartbeats)
            beats.add_metric([role, "failure"], member.failures)
            if member.last_heartbeat is not None:
                last.add_metric([role], member.last_heartbeat.timestamp())
            end.add_metric([role], member.identity.expires.timestamp())
        yield from (beats, last, end)
