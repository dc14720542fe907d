"""The launcher itself: what later tests stand on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.kubernetes.binaries import version
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.kubernetes.node import PAUSE, Cluster

ROOT = Path(__file__).parents[2]
COMMAND_SECONDS = 100


def launcher(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m tests.e2e.kubernetes` on that folder."""
    command = [sys.executable, "-m", "tests.e2e.kubernetes", f"--folder={folder}", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)


def runs(pid: int) -> bool:
    """Return whether the process runs; one that only waits to be reaped has no command line."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except FileNotFoundError:
        return False


def test_the_api_server_has_the_pinned_version(control_plane: ControlPlane) -> None:
    """Both kubectl and the API server are of the version in go.mod."""
    said = control_plane.kubectl("version")
    assert said.count(version()) == 2


def test_a_failing_kubectl_says_what_it_said(control_plane: ControlPlane) -> None:
    """A kubectl that fails is an error with kubectl's own words."""
    with pytest.raises(RuntimeError, match=r'configmaps "nothing" not found'):
        control_plane.kubectl("get", "configmap", "nothing")


def test_a_pod_becomes_ready(cluster: Cluster) -> None:
    """The full cluster runs a pod, gives it an address of the pod network and ends it."""
    container = {"name": "pause", "image": PAUSE, "imagePullPolicy": "Never"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "first"}, "spec": {"containers": [container]}}
    kubectl = cluster.control_plane.kubectl
    kubectl("create", "-f", "-", document=pod)
    kubectl("wait", "--for=condition=Ready", "pod/first", "--timeout=50s")
    status = cluster.control_plane.get("pod", "first")["status"]
    assert status["podIP"].startswith("10.243.0.")
    kubectl("delete", "pod", "first", "--grace-period=1", "--timeout=50s")
    assert cluster.control_plane.get("pods")["items"] == []


def test_up_env_status_down(tmp_path: Path) -> None:
    """What `up` started serves by the settings that `env` prints, and is gone after `down`."""
    folder = tmp_path / "cluster"
    assert launcher(folder, "up").returncode == 0
    try:
        assert launcher(folder, "up").stdout.startswith("it is up")
        setting = launcher(folder, "env").stdout
        shell = ["sh", "-c", f"{setting}\nkubectl get --raw /readyz"]
        answer = subprocess.run(shell, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        assert answer.stdout == "ok"
        lines = launcher(folder, "status").stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["etcd", "kube-apiserver"]
        pids = [int(line.split()[1]) for line in lines]
        assert all(runs(pid) for pid in pids)
    finally:
        ended = launcher(folder, "down")
    assert ended.returncode == 0, ended.stderr
    assert not folder.exists()
    assert not any(runs(pid) for pid in pids)


@pytest.mark.parametrize("command", ["down", "env", "status"])
def test_a_cluster_of_somebody_else_is_left_alone(tmp_path: Path, command: str) -> None:
    """A folder without our record is refused, and nothing in it is touched."""
    kept = tmp_path / "admin.conf"
    kept.write_text("theirs")
    said = launcher(tmp_path, command)
    assert said.returncode == 1
    assert "it is left alone" in said.stderr
    assert kept.read_text() == "theirs"
