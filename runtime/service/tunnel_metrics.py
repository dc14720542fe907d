"""Tunnels to other clusters, for Prometheus: which there are, who is on them, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runtime.api.tunnel_messages import Side, TunnelEntry


class Tunnels(Protocol):
    """What keeps tunnels to other clusters."""

    def entries(self) -> Iterable[TunnelEntry]:
        """Tell of each that there is, and of those that should be, and are not."""
        ...

    def carried(self) -> Iterable[tuple[str, Side, int]]:
        """Tell of each cluster how many people are carried there or from there now, and what we are to it."""
        ...

    def dial_failures(self) -> Mapping[str, int]:
        """Return how often a tunnel to each root could not be had."""
        ...

    @property
    def refused(self) -> int:
        """How many were refused at the port for tunnels."""
        ...


class TunnelMetrics(Collector):
    """Counts tunnels as they are."""

    def __init__(self, tunnels: Tunnels) -> None:
        self._tunnels = tunnels

    def collect(self) -> Iterator[Metric]:
        """Yield the tunnels to each cluster, by what we are to it, and what goes on at them."""
        yield from self._standing(tuple(self._tunnels.entries()))
        people = GaugeMetricFamily(
            "teleport_tunnel_connections",
            "Connections that tunnels carry: into leaves (side root), and from roots (side leaf).",
            labels=["cluster", "side"],
        )
        for cluster, side, count in self._tunnels.carried():
            people.add_metric([cluster, side], count)
        failures = CounterMetricFamily(
            "teleport_tunnel_dial_failures", "How often a tunnel to a root could not be had.", labels=["cluster"]
        )
        for cluster, count in sorted(self._tunnels.dial_failures().items()):
            failures.add_metric([cluster], count)
        yield from (people, failures)
        yield CounterMetricFamily(
            "teleport_tunnels_refused",
            "How many were refused at the port for tunnels, strangers and clusters that are not trusted.",
            value=self._tunnels.refused,
        )

    @staticmethod
    def _standing(entries: Iterable[TunnelEntry]) -> Iterator[Metric]:
        tunnels = GaugeMetricFamily(
            "teleport_tunnels",
            "Tunnels to other clusters, by what this cluster is to them; offline are those that should be there.",
            labels=["cluster", "side", "status"],
        )
        last = GaugeMetricFamily(
            "teleport_tunnel_last_heartbeat_timestamp_seconds",
            "When anything was last heard on any of the tunnels that are up.",
            labels=["cluster", "side"],
        )
        counts: Counter[tuple[str, str, str]] = Counter()
        heard: dict[tuple[str, str], float] = {}
        for entry in entries:
            counts[entry.cluster, entry.side, "online" if entry.online else "offline"] += 1
            if entry.last_heartbeat is not None:
                key = entry.cluster, entry.side
                heard[key] = max(heard.get(key, 0.0), entry.last_heartbeat.timestamp())
        for labels, count in sorted(counts.items()):
            tunnels.add_metric(labels, count)
        for each, time in sorted(heard.items()):
            last.add_metric(each, time)
        yield from (tunnels, last)
