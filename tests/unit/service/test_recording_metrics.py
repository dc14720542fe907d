"""Metrics of recordings that are over: how many wait, and how often one could not be put where it stays."""

from __future__ import annotations

from types import SimpleNamespace

from prometheus_client import generate_latest

from runtime.service.metrics import Metrics


def test_they_are_read_when_they_are_asked_for() -> None:
    """From who files them."""
    metrics, filing = Metrics(), SimpleNamespace(waiting={1, 2}, failures=3)
    metrics.watch_recordings(filing)
    filing.waiting.add(7)
    shown = generate_latest(metrics.registry).decode().splitlines()
    assert "teleport_recordings_waiting 3.0" in shown
    assert "teleport_recordings_filing_failures_total 3.0" in shown
