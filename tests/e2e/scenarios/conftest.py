"""The cluster of the scenarios, the image in it, and the release that most of them share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.e2e.kubernetes import binaries
from tests.e2e.kubernetes.node import Cluster
from tests.e2e.scenarios.nodes import node_pod, token
from tests.e2e.scenarios.phases import Phases
from tests.e2e.scenarios.place import Kubernetes, check_ours, until
from tests.e2e.scenarios.release import Release, release
from tests.e2e.scenarios.someone import Someone
from tests.servers import image

HERE = Path(__file__).parent
SECONDS = 600
"""How long a scenario may take, with what it is the first to need: the cluster, the image, a release."""
GIVEN = "TELEPORT_E2E_KUBECONFIG"
QUICKSTART = HERE.parents[2] / "examples" / "quickstart"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the scenarios their time."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture(scope="session")
def kubernetes(request: pytest.FixtureRequest) -> Kubernetes:
    """Return the cluster that is given, if it is one for tests, else a cluster of our own, with the image loaded."""
    if given := os.environ.get(GIVEN):
        found = Kubernetes(None, Path(given))
        check_ours(found)
        return found
    cluster: Cluster = request.getfixturevalue("cluster")
    found = Kubernetes(binaries.kubernetes(), cluster.control_plane.kubeconfig)
    check_ours(found)
    cluster.load(image.archive())
    return found


@pytest.fixture(scope="package")
def phases(pytestconfig: pytest.Config) -> Iterator[Phases]:
    """Note what takes how long; printed at the end, past what pytest captures."""
    made = Phases()
    yield made
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        print(made, flush=True)


@pytest.fixture(scope="package")
def mission(kubernetes: Kubernetes, phases: Phases) -> Iterator[Release]:
    """Install the chart as the README does, on the embedded backend and with one node, and declare the quickstart.

    Nothing is waited for: what comes first is for the first scenario to see.
    """
    values = {"node": {"enabled": True, "labels": {"env": "staging", "team": "web"}}}
    with release(kubernetes, "scenarios", image.reference(), 0, values) as made:
        phases.begin()
        made.install()
        made.apply(QUICKSTART)
        phases.end("helm install and kubectl apply")
        yield made


@pytest.fixture(scope="package")
def joe(mission: Release, phases: Phases, tmp_path_factory: pytest.TempPathFactory) -> Someone:
    """Return joe of examples/quickstart, signed up from the invite's Secret and logged in."""
    joe = Someone(mission, "joe", tmp_path_factory.mktemp("joe") / "home")
    mission.secret("joe-invite", "url")
    phases.end("invite of the user in its Secret")
    mission.wait_pods("proxy", 1)
    phases.end("proxy ready")
    joe.sign_up()
    done = joe.log_in()
    assert done.returncode == 0, done.stderr
    phases.end("signed up and logged in")
    return joe


@pytest.fixture(scope="package")
def lab(mission: Release, joe: Someone) -> str:
    """Return the name of a node that is no part of the release, and whose token is the Token of that name."""
    mission.apply(token("lab", env="lab"))
    mission.apply(node_pod(mission, "lab", "lab-token"))
    until(lambda: "lab" in joe.tsh("ls", "env=lab").stdout, "lab is listed", mission)
    return "lab"


@pytest.fixture(scope="package")
def node(mission: Release, joe: Someone, phases: Phases) -> str:
    """Return the name of the release's node, once a command has run on it."""
    (pod,) = mission.wait_pods("node", 1)
    phases.end("node ready")
    done = joe.ssh(f"root@{pod}", "echo in; id -un")
    assert (done.returncode, done.stdout) == (0, "in\nroot\n"), done.stderr
    phases.end("first tsh ssh")
    return pod
