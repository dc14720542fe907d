"""What all parts of one `teleport start` have in common."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.core.clock import Clock
from runtime.service.identity import DataDir
from runtime.service.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The machine as the cluster knows it, and what the process works with."""

    name: str
    """The node's name (--nodename)."""
    hosts: tuple[str, ...]
    """Where others reach the roles of this process: host names or IP addresses."""
    data_dir: DataDir
    clock: Clock
    metrics: Metrics
