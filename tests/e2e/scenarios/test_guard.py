"""No test ever touches a cluster that was not made for tests."""

from __future__ import annotations

import pytest

from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.scenarios.place import Kubernetes, check_ours


def test_a_cluster_of_somebody_else_is_refused(control_plane: ControlPlane) -> None:
    """A cluster without nodes, and one with a node that does not say what it is for, are left alone."""
    found = Kubernetes(control_plane.binaries, control_plane.kubeconfig)
    with pytest.raises(RuntimeError, match=r"was not made for tests and is left alone: no label .* on any node"):
        check_ours(found)
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "theirs", "labels": {"env": "prod"}}}
    found.kubectl("create", "-f", "-", document=node)
    try:
        with pytest.raises(RuntimeError, match=r"no label teleport\.internal/test-cluster=true on theirs"):
            check_ours(found)
        found.kubectl("label", "node", "theirs", "teleport.internal/test-cluster=true")
        check_ours(found)
    finally:
        found.kubectl("delete", "node", "theirs")
