"""The operator as it runs in production: its own process, started by kopf's command."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.servers.processes import Process

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0


def start_operator(control_plane: ControlPlane, config: Path, *, log: Path) -> Process:
    """Start the operator for all namespaces, with that teleport.yaml, and wait until it has opened its backend."""
    process = Process(
        [sys.executable, "-m", "kopf", "run", "--all-namespaces", "--module=teleport_operator.main"],
        log=log,
        env={
            "KUBECONFIG": str(control_plane.kubeconfig),
            "TELEPORT_OPERATOR_CONFIG": str(config),
            "PYTHONPATH": str(ROOT / "operator"),
        },
        cwd=ROOT,
    )
    try:
        process.wait_until(lambda: "the backend is open" in process.log_tail(), timeout=START_SECONDS)
    except BaseException:
        process.stop()
        raise
    return process
