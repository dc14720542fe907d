"""Tunnels as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from prometheus_client import generate_latest

from runtime.api.tunnel_messages import Side, TunnelEntry
from runtime.service.metrics import Metrics

HEARD = datetime(2026, 11, 23, tzinfo=UTC)


class Some:
    """Some tunnels, which may change."""

    def __init__(self) -> None:
        self.tunnels: list[TunnelEntry] = []
        self.people: list[tuple[str, Side, int]] = []
        self.failures: dict[str, int] = {}
        self.refused = 0

    def entries(self) -> Iterable[TunnelEntry]:
        """Tell of them."""
        return self.tunnels

    def carried(self) -> Iterable[tuple[str, Side, int]]:
        """Tell who is on them."""
        return self.people

    def dial_failures(self) -> Mapping[str, int]:
        """Tell what could not be had."""
        return self.failures


def test_tunnels_are_counted_as_they_are() -> None:
    """By cluster, by what we are to it, and whether they are up; what is gone is gone."""
    metrics, some = Metrics(), Some()
    metrics.watch_tunnels(some)
    assert b"teleport_tunnels{" not in generate_latest(metrics.registry)
    some.tunnels = [
        TunnelEntry(cluster="leaf", side="root", online=True, last_heartbeat=HEARD),
        TunnelEntry(cluster="leaf", side="root", online=True, last_heartbeat=HEARD - timedelta(seconds=9)),
        TunnelEntry(cluster="main", side="leaf", online=False, error="no"),
    ]
    shown = generate_latest(metrics.registry).decode()
    assert 'teleport_tunnels{cluster="leaf",side="root",status="online"} 2.0' in shown
    assert 'teleport_tunnels{cluster="main",side="leaf",status="offline"} 1.0' in shown
    (last,) = [
        line for line in shown.splitlines() if line.startswith("teleport_tunnel_last_heartbeat_timestamp_seconds")
    ]
    assert last.startswith('teleport_tunnel_last_heartbeat_timestamp_seconds{cluster="leaf",side="root"} ')
    assert float(last.rpartition(" ")[2]) == HEARD.timestamp()
    some.tunnels = []
    assert b"teleport_tunnels{" not in generate_latest(metrics.registry)


def test_what_goes_on_at_them() -> None:
    """Who is carried, what could not be had, and how many were refused."""
    metrics, some = Metrics(), Some()
    metrics.watch_tunnels(some)
    some.people = [("leaf", "root", 3), ("main", "leaf", 1)]
    some.failures, some.refused = {"main": 7}, 5
    shown = generate_latest(metrics.registry).decode()
    for line in (
        'teleport_tunnel_connections{cluster="leaf",side="root"} 3.0',
        'teleport_tunnel_connections{cluster="main",side="leaf"} 1.0',
        'teleport_tunnel_dial_failures_total{cluster="main"} 7.0',
        "teleport_tunnels_refused_total 5.0",
    ):
        assert line in shown.splitlines()
