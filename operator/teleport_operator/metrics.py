"""What a machine should know of the operator, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.service.metrics import Metrics
from teleport_operator.kubernetes.watches import Watches


class OperatorMetrics(Metrics):
    """The metrics of one operator."""

    def __init__(self, watches: Watches) -> None:
        super().__init__()
        self.leader = Gauge(
            "teleport_operator_leader", "Whether this replica reconciles (1) or waits (0).", registry=self.registry
        )
        self.reconciles = Counter(
            "teleport_operator_reconciles",
            "Documents reconciled, by kind and result: written, unchanged, refused or failed.",
            ["kind", "result"],
            registry=self.registry,
        )
        self.drift = Counter(
            "teleport_operator_drift",
            "Changes made elsewhere that were found in the backend, by kind and what was done: corrected or reported.",
            ["kind", "action"],
            registry=self.registry,
        )
        self.throttled = Counter(
            "teleport_operator_throttled",
            "Objects that kopf set aside after an error of its own.",
            registry=self.registry,
        )
        self.registry.register(_Ages(watches))


class _Ages(Collector):
    """Reads how long each watch has been silent."""

    def __init__(self, watches: Watches) -> None:
        self._watches = watches

    def collect(self) -> Iterator[Metric]:
        """Yield the age of each watch's last event or bookmark."""
        ages = GaugeMetricFamily(
            "teleport_operator_watch_age_seconds",
            "Since when nothing was heard on a watch, bookmarks counted; an empty namespace is all of them.",
            labels=["resource", "namespace"],
        )
        for watched, age in self._watches.ages().items():
            ages.add_metric([watched.resource, watched.namespace], age)
        yield ages
