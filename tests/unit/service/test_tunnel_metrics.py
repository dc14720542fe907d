"""Tunnels as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import generate_latest

from runtime.api.tunnel_messages import TunnelEntry
from runtime.service.metrics import Metrics


class Some:
    """Some tunnels, which may change."""

    def __init__(self) -> None:
        self.tunnels: list[TunnelEntry] = []

    def entries(self) -> Iterable[TunnelEntry]:
        """Tell of them."""
        return self.tunnels


def test_tunnels_are_counted_as_they_are() -> None:
    """By cluster, by what we are to it, and whether they are up; what is gone is gone."""
    metrics, some = Metrics(), Some()
    metrics.watch_tunnels(some)
    assert b"teleport_tunnels{" not in generate_latest(metrics.registry)
    some.tunnels = [
        TunnelEntry(cluster="leaf", side="root", online=True),
        TunnelEntry(cluster="leaf", side="root", online=True),
        TunnelEntry(cluster="main", side="leaf", online=False, error="no"),
    ]
    shown = generate_latest(metrics.registry).decode()
    assert 'teleport_tunnels{cluster="leaf",side="root",status="online"} 2.0' in shown
    assert 'teleport_tunnels{cluster="main",side="leaf",status="offline"} 1.0' in shown
    some.tunnels = []
    assert b"teleport_tunnels{" not in generate_latest(metrics.registry)
