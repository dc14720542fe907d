"""The operator with what a release gives it, its rights, environment and documents, and a node that joins by them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from teleport_operator.secrets.tokens import MADE_AT
from tests.e2e.chart.helm import CHART, HELM, values_of
from tests.e2e.kubernetes.api import Api
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import Operator
from tests.servers.teleport import Teleport

NAMESPACE = "release"
OBJECTS = f"/apis/teleport.internal/v1/namespaces/{NAMESPACE}"
SECONDS = 30.0
"""How long something may take on a busy machine."""


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane) -> Iterator[Api]:
    """Install a release of the chart, without pods, and talk to the API server."""
    words: list[str | Path] = ["install", "teleport", CHART, f"--namespace={NAMESPACE}", "--create-namespace"]
    features = [f"--values={values_of(name)}" for name in ("node", "leaf")]
    HELM.run(*words, *features, kubeconfig=control_plane.kubeconfig)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
    with Api(control_plane.url, control_plane.authority.folder) as client:
        yield client
        HELM.run("uninstall", "teleport", f"--namespace={NAMESPACE}", kubeconfig=control_plane.kubeconfig)
        for kind in ("tokens", "trustedclusters"):
            for each in client.done("GET", f"{OBJECTS}/{kind}")["items"]:
                path = f"{OBJECTS}/{kind}/{each['metadata']['name']}"
                client.request("PATCH", path, {"metadata": {"finalizers": None}})
                client.request("DELETE", path)


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Run auth beside the operator."""
    settings = {"auth_service": {"dynamic_config": True}}
    with Teleport(tmp_path_factory.mktemp("auth"), config=settings) as running:
        yield running.start()


@pytest.fixture(scope="module")
def folder(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the documents of the release to where the operator looks for them, as the kubelet does."""
    found = api.done("GET", f"/api/v1/namespaces/{NAMESPACE}/configmaps/teleport-documents")
    mounted = tmp_path_factory.mktemp("documents")
    for name, text in found["data"].items():
        (mounted / name).write_text(text)
    return mounted


@pytest.fixture(scope="module")
def operator(
    control_plane: ControlPlane, api: Api, auth: Teleport, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    """Run the operator as the release's account in the release's namespace, with its environment."""
    own = tmp_path_factory.mktemp("operator")
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/teleport-auth/token"
    document = json.loads(control_plane.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": api.done("POST", account, asked)["status"]["token"]}
    document["contexts"][0]["context"]["namespace"] = NAMESPACE
    kubeconfig = own / "account.conf"
    kubeconfig.write_text(json.dumps(document))
    workload = control_plane.get("statefulset/teleport-auth", f"--namespace={NAMESPACE}")
    (container,) = [each for each in workload["spec"]["template"]["spec"]["containers"] if each["name"] == "operator"]
    here = {"TELEPORT_OPERATOR_CONFIG", "TELEPORT_OPERATOR_DIAG_ADDR", "TELEPORT_OPERATOR_DOCUMENTS"}
    settings = {each["name"]: each["value"] for each in container["env"] if each["name"] not in here}
    settings["TELEPORT_OPERATOR_DOCUMENTS"] = str(folder)
    lease = settings.pop("TELEPORT_OPERATOR_LEASE")
    with Operator(kubeconfig, auth.config_file, log=own / "operator.log", lease=lease, settings=settings) as running:
        running.wait_leads()
        yield running


@pytest.mark.parametrize(
    ("component", "level", "answer"),
    [
        ("auth", "restricted", 201),
        ("proxy", "restricted", 201),
        ("node", "baseline", 201),
        ("node", "restricted", 403),
    ],
)
def test_the_pod_security_standards(api: Api, component: str, level: str, answer: int) -> None:
    """Kubernetes' strictest level takes every pod but nodes, which are root and meet the one below."""
    label = {"pod-security.kubernetes.io/enforce": level}
    api.done("PATCH", f"/api/v1/namespaces/{NAMESPACE}", {"metadata": {"labels": label}})
    kind = "statefulsets" if component == "auth" else "deployments"
    workload = api.done("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/{kind}/teleport-{component}")
    template = workload["spec"]["template"]
    claims = [
        {"name": claim["metadata"]["name"], "emptyDir": {}}
        for claim in workload["spec"].get("volumeClaimTemplates", [])
    ]
    pod = {
        "metadata": {"name": component},
        "spec": {**template["spec"], "volumes": [*template["spec"]["volumes"], *claims]},
    }
    status, said = api.request("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", pod, dryRun="All")
    assert status == answer, said.get("message")


def found(api: Api, path: str) -> Callable[[], bool]:
    """Return what tells whether there is something at a path."""
    return lambda: api.request("GET", path)[0] == 200


def test_a_release_of_its_own(api: Api, operator: Operator, auth: Teleport, folder: Path, tmp_path: Path) -> None:
    """Its documents become objects, a node joins with the Secret, changes count at once, nothing is forbidden."""
    secret = f"/api/v1/namespaces/{NAMESPACE}/secrets/teleport-node-token"

    def complete() -> bool:
        status, content = api.request("GET", secret)
        return status == 200 and {"token", "caPin"} <= content["data"].keys()

    operator.wait_until(complete, timeout=SECONDS)
    join = tmp_path / "join"
    join.mkdir()
    for key, value in api.done("GET", secret)["data"].items():
        (join / key).write_bytes(base64.b64decode(value))
    with Teleport(
        tmp_path / "node",
        ["node"],
        auth_servers=[auth.auth_address],
        token=str(join / "token"),
        ca_pin=str(join / "caPin"),
    ) as node:
        node.start()
        labels = yaml.safe_load((folder / "node.yaml").read_text())["spec"]["labels"]
        assert labels == {"team": "web"}
        identity = json.loads((node.data_dir / "node.identity").read_text())
        assert identity["labels"] == labels

    operator.wait_until(found(api, f"{OBJECTS}/trustedclusters/main"), timeout=SECONDS)
    token: dict[str, Any] = yaml.safe_load((folder / "node.yaml").read_text())
    token["spec"]["labels"]["team"] = "db"
    (folder / "node.yaml").write_text(yaml.safe_dump(token))
    (folder / "trusted-cluster-main.yaml").unlink()
    path = f"{OBJECTS}/tokens/teleport-node"
    operator.wait_until(lambda: api.done("GET", path)["spec"]["labels"] == {"team": "db"}, timeout=SECONDS)
    operator.wait_until(lambda: not found(api, f"{OBJECTS}/trustedclusters/main")(), timeout=SECONDS)
    assert "orbidden" not in operator.log.read_text()


def test_a_token_of_a_release_is_renewed(api: Api, operator: Operator, auth: Teleport, tmp_path: Path) -> None:
    """A value that is older than half of its ttl is replaced: the new one lets a node in, and the old one no more."""
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/teleport-node-token"

    def value() -> str:
        status, content = api.request("GET", path)
        return base64.b64decode(content["data"]["token"]).decode() if status == 200 else ""

    operator.wait_until(lambda: bool(value()), timeout=SECONDS)
    old = value()
    api.done("PATCH", path, {"metadata": {"annotations": {MADE_AT: "2026-01-02T03:04:05+00:00"}}})
    operator.wait_until(lambda: value() != old, timeout=SECONDS)

    def joins(token: str) -> bool:
        with Teleport(tmp_path / token, ["node"], auth_servers=[auth.auth_address], token=token) as node:
            process = node.launch()
            operator.wait_until(lambda: not process.running or "ready: " in node.log(), timeout=SECONDS)
            return "ready: " in node.log()

    new = value()
    operator.wait_until(lambda: joins(new), timeout=SECONDS)  # the Secret has it before auth hears of it
    assert not joins(old)
