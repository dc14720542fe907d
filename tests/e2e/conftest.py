"""What the end-to-end tests share: one API server for all, and a full cluster for those that run pods."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.declaring import Declaring, collect_garbage
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


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a Kubernetes that runs pods. Needs root."""
    with Cluster(tmp_path_factory.mktemp("cluster") / "state") as running:
        yield running
