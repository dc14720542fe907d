"""What the end-to-end tests share: one API server for all, and a full cluster for those that run pods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runtime.backend.base import Backend
from runtime.backend.open import open_backend
from runtime.backend.options import SqliteOptions
from runtime.core.clock import SystemClock
from tests.e2e.declaring import Declaring, collect_garbage, install
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.kubernetes.node import Cluster


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Start a kube-apiserver without a node."""
    with ControlPlane(tmp_path_factory.mktemp("kubernetes") / "state") as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def nothing_declared(request: pytest.FixtureRequest) -> None:
    """Begin each module with an API server on which nobody declares anything: all use the same one."""
    items = (item for item in request.session.items if item.path == request.path and isinstance(item, pytest.Function))
    if any("control_plane" in item.fixturenames for item in items):
        with Declaring(request.getfixturevalue("control_plane")) as declaring:
            declaring.clear()


@pytest.fixture(autouse=True)
def garbage(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave no Secrets behind of owners that are gone: the next test may use their names."""
    yield
    if "control_plane" in request.fixturenames:
        collect_garbage(request.getfixturevalue("control_plane"))


@pytest.fixture(scope="module")
def crds(control_plane: ControlPlane) -> None:
    """Declare the custom resources."""
    install(control_plane)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write the teleport.yaml that the operator shares with auth."""
    path = tmp_path / "teleport.yaml"
    path.write_text(f"teleport:\n  data_dir: {tmp_path}\n  storage:\n    type: sqlite\n    path: backend.sqlite\n")
    return path


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    """Open the SQLite file that it names, which operators, other processes, write."""
    opened = await open_backend(SqliteOptions(str(tmp_path / "backend.sqlite")), clock=SystemClock())
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a Kubernetes that runs pods. Needs root."""
    with Cluster(tmp_path_factory.mktemp("cluster") / "state") as running:
        yield running
