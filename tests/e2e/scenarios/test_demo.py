"""`make demo-kubernetes` as it stands, on the cluster that runs already."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.scenarios.place import Kubernetes

ROOT = Path(__file__).parents[3]
DEMO_SECONDS = 300


def test_the_demo_shows_the_main_job_and_cleans_up(kubernetes: Kubernetes) -> None:
    """With CI=true it ends by itself after the proof, a command in a pod as the declared user, and leaves nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.demo_kubernetes", f"--kubeconfig={kubernetes.kubeconfig}"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEMO_SECONDS,
        env={**os.environ, "CI": "true"},
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "I am root on teleport-node-" in done.stdout, said
    assert "let in as joe" in done.stdout, said
    assert "from helm install to the first session" in done.stdout, said
    assert "The cluster runs until Ctrl-C" not in done.stdout
    assert not kubernetes.get("namespaces", "--field-selector=metadata.name=teleport")["items"]
