"""The operator as it runs in production: its own process."""

from __future__ import annotations

import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.servers.processes import Process, free_port

ROOT = Path(__file__).parents[2]
START_SECONDS = 45.0
PROBE_SECONDS = 5.0

LEADS = "leading:"
WAITS = "waiting for the lease"


class Operator(Process):
    """One replica; as a context manager it is stopped at the end."""

    def __init__(
        self,
        kubeconfig: Path,
        config: Path,
        *,
        log: Path,
        lease: str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Start it with that teleport.yaml. Replicas that are given the same `lease` take turns."""
        self.port = free_port()
        super().__init__(
            [sys.executable, "-m", "teleport_operator"],
            log=log,
            env={
                "KUBECONFIG": str(kubeconfig),
                "TELEPORT_OPERATOR_CONFIG": str(config),
                "TELEPORT_OPERATOR_DIAG_ADDR": f"127.0.0.1:{self.port}",
                "TELEPORT_OPERATOR_LEASE": lease or f"test-{secrets.token_hex(4)}",
                "PYTHONPATH": str(ROOT / "operator"),
                **(settings or {}),
            },
            cwd=ROOT,
        )

    def wait_said(self, text: str, *, timeout: float = START_SECONDS) -> None:
        """Wait until that is in the log."""
        self.wait_until(lambda: text in self.log.read_text(errors="replace"), timeout=timeout)

    def wait_leads(self, *, timeout: float = START_SECONDS) -> None:
        """Wait until it leads and watches all that it should."""
        self.wait_said(LEADS, timeout=timeout)
        self.wait_until(lambda: self.probe("readyz")[0] == 200, timeout=timeout)

    def probe(self, name: str) -> tuple[int, str]:
        """Return the status and text of /healthz, /readyz or /metrics; status 0 when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{name}", timeout=PROBE_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, line: str) -> float:
        """Return the value of one metric, named with its labels. Raises KeyError."""
        values = dict(each.rsplit(" ", 1) for each in self.probe("metrics")[1].splitlines() if not each.startswith("#"))
        return float(values[line])


def start_operator(control_plane: ControlPlane, config: Path, *, log: Path, lease: str | None = None) -> Operator:
    """Start the operator for all namespaces, with that teleport.yaml, and wait until it is ready."""
    operator = Operator(control_plane.kubeconfig, config, log=log, lease=lease)
    try:
        operator.wait_leads()
    except BaseException:
        operator.stop()
        raise
    return operator
