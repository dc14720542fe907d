"""The chart and a real API server: every manifest is accepted, and releases come, change and go as they should."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.e2e.chart.helm import CHART, FEATURES, HELM, HELM_3, Helm, rendered, values_of
from tests.e2e.kubernetes.api import Api
from tests.e2e.kubernetes.control_plane import ControlPlane

FOREIGN = {
    "certificates.cert-manager.io": ("cert-manager.io", "Certificate", "certificates"),
    "podmonitors.monitoring.coreos.com": ("monitoring.coreos.com", "PodMonitor", "podmonitors"),
}
"""Definitions that come from others, with as little in them as a manifest needs to be stored."""
OURS = [f"{kind}.teleport.internal" for kind in ("users", "roles", "tokens", "trustedclusters")]


def definition(name: str) -> dict[str, Any]:
    """Return a definition of another project's kind that takes any specification."""
    group, kind, plural = FOREIGN[name]
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": anything}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "versions": [{**version, "schema": schema}],
        },
    }


@pytest.fixture(scope="module")
def server(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    """Prepare the namespaces and the definitions of others that some features name, and remove them."""
    others = [definition(name) for name in FOREIGN]
    namespaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("team-a", "team-b")
    ]
    prepared = {"apiVersion": "v1", "kind": "List", "items": [*others, *namespaces]}
    control_plane.kubectl("apply", "-f", "-", document=prepared)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in FOREIGN))
    yield control_plane
    control_plane.kubectl("delete", "--wait=false", "-f", "-", document=prepared)


def path_of(manifest: dict[str, Any], plurals: dict[tuple[str, str], tuple[str, bool]]) -> str:
    """Return where the API server has a manifest."""
    version = manifest["apiVersion"]
    plural, namespaced = plurals[version, manifest["kind"]]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    within = f"/namespaces/{manifest['metadata']['namespace']}" if namespaced else ""
    return f"{root}{within}/{plural}"


def plurals_of(api: Api, versions: set[str]) -> dict[tuple[str, str], tuple[str, bool]]:
    """Return the plural of each kind, and whether it has namespaces."""
    found = {}
    for version in versions:
        listed = api.done("GET", f"/apis/{version}" if "/" in version else f"/api/{version}")
        for each in listed["resources"]:
            if "/" not in each["name"]:
                found[version, each["kind"]] = (each["name"], each["namespaced"])
    return found


@pytest.mark.parametrize("feature", FEATURES)
def test_every_manifest_is_accepted(server: ControlPlane, feature: str) -> None:
    """The API server takes each as it is, with no field that it does not know, in a dry run."""
    manifests = rendered(feature)
    with Api(server.url, server.authority.folder) as api:
        plurals = plurals_of(api, {manifest["apiVersion"] for manifest in manifests})
        for manifest in manifests:
            # Under another name: what is there already, such as the definitions, is not to be met.
            body = json.loads(json.dumps(manifest))
            if manifest["kind"] == "CustomResourceDefinition":
                group = f"dry.{body['spec']['group']}"
                body["spec"]["group"] = group
                body["metadata"]["name"] = f"{body['spec']['names']['plural']}.{group}"
                body["metadata"]["annotations"]["api-approved.kubernetes.io"] = "unapproved, a dry run"
            path = path_of(manifest, plurals)
            status, answer = api.request("POST", path, body, dryRun="All", fieldValidation="Strict")
            assert status == 201, f"{manifest['kind']} {manifest['metadata']['name']}: {answer.get('message')}"


class Releases:
    """Releases in one API server, uninstalled at the end."""

    def __init__(self, server: ControlPlane, helm: Helm) -> None:
        self.server = server
        self.helm = helm
        self._installed: list[tuple[str, str]] = []

    def install(self, name: str, namespace: str, *words: str) -> None:
        """Install a release, without waiting for pods: there is no node here."""
        self._installed.append((name, namespace))
        where = ["--create-namespace", f"--namespace={namespace}"]
        self.helm.run("install", name, CHART, *where, *words, kubeconfig=self.server.kubeconfig)

    def upgrade(self, name: str, namespace: str, *words: str) -> None:
        """Upgrade it."""
        self.helm.run("upgrade", name, CHART, f"--namespace={namespace}", *words, kubeconfig=self.server.kubeconfig)

    def rollback(self, name: str, namespace: str, revision: int) -> None:
        """Go back to a revision."""
        words = ["rollback", name, str(revision), f"--namespace={namespace}"]
        self.helm.run(*words, kubeconfig=self.server.kubeconfig)

    def uninstall(self, name: str, namespace: str) -> None:
        """Remove it."""
        self._installed.remove((name, namespace))
        self.helm.run("uninstall", name, f"--namespace={namespace}", kubeconfig=self.server.kubeconfig)

    def close(self) -> None:
        """Remove what is left."""
        for name, namespace in list(self._installed):
            self.helm.run(
                "uninstall", name, f"--namespace={namespace}", "--ignore-not-found", kubeconfig=self.server.kubeconfig
            )

    def brings_definitions(self, name: str, namespace: str) -> bool:
        """Tell whether the definitions are the release's; all of them are, or none."""
        words = ["get", "manifest", name, f"--namespace={namespace}"]
        manifests = yaml.load_all(self.helm.run(*words, kubeconfig=self.server.kubeconfig), yaml.CSafeLoader)
        brought = [
            each["metadata"]["name"] for each in manifests if each and each["kind"] == "CustomResourceDefinition"
        ]
        assert sorted(brought) in ([], sorted(OURS))
        return bool(brought)

    def names(self, kind: str, namespace: str) -> list[str]:
        """Return the names of a kind's objects in a namespace."""
        found = self.server.get(kind, f"--namespace={namespace}")["items"]
        return sorted(each["metadata"]["name"] for each in found)

    def generation(self, workload: str, namespace: str) -> int:
        """Return how often what a workload is to be has changed."""
        found: int = self.server.get(workload, f"--namespace={namespace}")["metadata"]["generation"]
        return found


@pytest.fixture
def releases(server: ControlPlane, helm: Helm) -> Iterator[Releases]:
    """Offer one version of Helm on that API server; what it installs is removed, but for the definitions."""
    made = Releases(server, helm)
    yield made
    made.close()


def definitions(server: ControlPlane) -> list[str]:
    """Return those of our definitions that are there."""
    return [each["metadata"]["name"] for each in server.get("crd")["items"] if each["metadata"]["name"] in OURS]


def own_definitions(server: ControlPlane, release: str, namespace: str) -> None:
    """Have all definitions belong to a release, or to nobody."""
    server.kubectl("wait", "--for=condition=Established", "--timeout=30s", *(f"crd/{name}" for name in OURS))
    marks = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}
    labels = {"app.kubernetes.io/managed-by": "Helm" if release else None}
    change = {"metadata": {"annotations": {name: value or None for name, value in marks.items()}, "labels": labels}}
    server.kubectl("patch", "crd", *OURS, "--type=merge", "--patch", json.dumps(change))


@pytest.mark.parametrize("helm", [HELM], ids=["4"])
def test_the_life_of_a_release(releases: Releases) -> None:
    """It brings its definitions, changes what is asked for only, goes back, and leaves what was declared."""
    server = releases.server
    if definitions(server):  # another module was here first
        own_definitions(server, "teleport", "one")
    releases.install("teleport", "one", f"--values={values_of('node')}")
    assert releases.brings_definitions("teleport", "one")
    assert sorted(definitions(server)) == sorted(OURS)
    assert releases.names("statefulset", "one") == ["teleport-auth"]
    own_definitions(server, "teleport", "one")
    role = {"apiVersion": "teleport.internal/v1", "kind": "Role", "metadata": {"name": "dev"}, "spec": {}}
    server.kubectl("apply", "--namespace=one", "-f", "-", document=role)

    workloads = ("statefulset/teleport-auth", "deployment/teleport-proxy", "deployment/teleport-node")
    before = [releases.generation(name, "one") for name in workloads]
    releases.upgrade("teleport", "one", f"--values={values_of('node')}", "--set=node.labels.env=prod")
    assert [releases.generation(name, "one") for name in workloads] == [before[0], before[1], before[2] + 1]
    releases.rollback("teleport", "one", 1)
    assert [releases.generation(name, "one") for name in workloads] == [before[0], before[1], before[2] + 2]

    releases.uninstall("teleport", "one")
    assert sorted(definitions(server)) == sorted(OURS)
    assert releases.names("role.teleport.internal", "one") == ["dev"]
    assert releases.names("deployment", "one") == []
    releases.install("teleport", "one")  # what was kept is taken up again
    assert releases.brings_definitions("teleport", "one")
    assert releases.names("role.teleport.internal", "one") == ["dev"]


@pytest.mark.parametrize("helm", [HELM_3], ids=["3"])
def test_definitions_of_others_are_left_alone(releases: Releases) -> None:
    """A second release, and one where somebody has applied them, install without them and remove nothing."""
    server = releases.server
    server.kubectl("apply", "-f", CHART.parents[1] / "crds")
    own_definitions(server, "", "")
    releases.install("first", "two")
    assert not releases.brings_definitions("first", "two")
    own_definitions(server, "first", "two")
    releases.upgrade("first", "two")
    assert releases.brings_definitions("first", "two")
    releases.install("second", "three")
    assert not releases.brings_definitions("second", "three")
    releases.uninstall("first", "two")
    assert sorted(definitions(server)) == sorted(OURS)
    assert releases.names("statefulset", "three") == ["second-teleport-auth"]
