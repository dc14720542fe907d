"""How kind is called. No Docker is where these tests run: a script stands in for kind, and notes what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.e2e.kubernetes import in_docker
from tests.e2e.kubernetes.in_docker import Kind

SCRIPT = """#!/bin/sh
echo "$KUBECONFIG $*" >>{folder}/calls
case "$1 $2" in
"get clusters") cat {folder}/clusters ;;
"create cluster") cp "$6" {folder}/config; [ ! -e {folder}/broken ] || {{ echo "no port" >&2; exit 1; }} ;;
esac
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a script in kind's place, and return the folder that says what it does and was told."""
    program = tmp_path / "kind"
    program.write_text(SCRIPT.format(folder=tmp_path))
    program.chmod(0o755)
    (tmp_path / "clusters").touch()
    monkeypatch.setattr(in_docker, "built", lambda _: program)
    return tmp_path


def said(calls: Path) -> list[str]:
    """Return what kind was told, without the kubeconfig, which is always ours."""
    lines = (calls / "calls").read_text().splitlines()
    assert all(line.startswith(f"{calls / 'state' / 'admin.conf'} ") for line in lines)
    return [line.split(" ", 1)[1] for line in lines]


def test_a_cluster_is_made_loaded_and_deleted(calls: Path) -> None:
    """It gets our configuration with the ports that were asked for, the archive, and a kubeconfig of its own."""
    folder = calls / "state"
    with Kind(folder, "some", {30080: 1234}) as running:
        running.load(Path("image.tar"))
    assert said(calls) == [
        "get clusters",
        f"create cluster --name some --config {folder / 'kind.yaml'} --wait=180s",
        "load image-archive image.tar --name some",
        "delete cluster --name some",
    ]
    (node,) = yaml.safe_load((calls / "config").read_text())["nodes"]
    assert node["extraPortMappings"][0] == {"listenAddress": "127.0.0.1", "hostPort": 1234, "containerPort": 30080}
    running.stop()
    assert said(calls)[-1:] == said(calls)[3:], "a second stop deletes nothing"


def test_a_cluster_that_is_there_is_left_alone(calls: Path) -> None:
    """One of that name is somebody's, or was left by a killed run: it is named with the command that ends it."""
    (calls / "clusters").write_text("other\nsome\n")
    kind = Kind(calls / "state", "some", {})
    with pytest.raises(RuntimeError, match=r"there is a kind cluster some already: .* delete cluster --name some"):
        kind.start()
    kind.stop()
    assert said(calls) == ["get clusters"]


def test_a_cluster_that_is_half_made_is_deleted(calls: Path) -> None:
    """When kind fails, its message is told, and what it began is gone."""
    (calls / "broken").touch()
    with pytest.raises(RuntimeError, match=r"kind create cluster .*: no port"):
        Kind(calls / "state", "some", {}).start()
    assert said(calls)[-1] == "delete cluster --name some"
