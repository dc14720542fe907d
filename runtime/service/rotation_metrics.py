"""How it stands with the cluster's authorities, for Prometheus: a rotation that hangs, and a key that is old."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.api.rotation_messages import RotationStatus


class RotationMetrics(Collector):
    """Reads phases and keys when it is asked."""

    def __init__(self, statuses: Callable[[], Iterable[RotationStatus]]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterator[Metric]:
        """Yield the phase of each authority, since when it is in it, and how old the key is that signs."""
        phase = GaugeMetricFamily(
            "teleport_ca_rotation_phase", "1, labelled with the phase of the rotation.", labels=["type", "phase"]
        )
        since = GaugeMetricFamily(
            "teleport_ca_rotation_phase_timestamp_seconds",
            "When the phase began; not there while no rotation runs.",
            labels=["type"],
        )
        created = GaugeMetricFamily(
            "teleport_ca_key_created_timestamp_seconds",
            "When the oldest key was made that signs for the authority.",
            labels=["type"],
        )
        for status in self._statuses():
            kind = status.type.value
            phase.add_metric([kind, status.phase.value], 1)
            if status.changed is not None:
                since.add_metric([kind], status.changed.timestamp())
            created.add_metric([kind], min(key.created for key in status.keys if key.signs).timestamp())
        yield from (phase, since, created)
