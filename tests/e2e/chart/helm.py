"""Helm, in both versions that the chart is for, and what it renders."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "teleport"
FEATURES = tuple(sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml")))
"""The names of the files with values, one for each feature."""
RELEASE = "teleport"
HELM_SECONDS = 60.0

Manifest = dict[str, Any]  # Any: as YAML has it


class Refused(Exception):
    """Helm has refused something; the text says why."""


@dataclass(frozen=True)
class Helm:
    """One version: `helm` is 4, `helm3` is 3 (tools/setup installs both)."""

    name: str

    @property
    def path(self) -> str:
        """The program: that of the virtual environment, else the one on the PATH."""
        found = shutil.which(self.name, path=str(Path(sys.prefix) / "bin")) or shutil.which(self.name)
        assert found, f"there is no {self.name}; run tools/setup e2e"
        return found

    def run(self, *words: str | Path, kubeconfig: Path | None = None) -> str:
        """Return what it prints. Raises Refused with what it says when it fails."""
        command = [self.path, *map(str, words), *([f"--kubeconfig={kubeconfig}"] if kubeconfig else [])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HELM_SECONDS, check=False)
        if done.returncode:
            raise Refused(done.stdout + done.stderr)
        return done.stdout

    def template(self, *words: str | Path) -> list[Manifest]:
        """Return the manifests of a release in the namespace `default`. Raises Refused."""
        text = self.run("template", RELEASE, CHART, "--namespace=default", *words)
        return [manifest for manifest in yaml.load_all(text, yaml.CSafeLoader) if manifest]


HELM, HELM_3 = Helm("helm"), Helm("helm3")


def values_of(feature: str) -> Path:
    """Return the file with a feature's values."""
    return CHART / "ci" / f"{feature}-values.yaml"


@cache
def rendered(feature: str, helm: Helm = HELM) -> Sequence[Manifest]:
    """Return the manifests of a feature; nobody changes them."""
    return tuple(helm.template(f"--values={values_of(feature)}"))


@cache
def rendered_with(*settings: str, feature: str = "default") -> Sequence[Manifest]:
    """Return the manifests of a feature with some values set as `--set` takes them."""
    return tuple(HELM.template(f"--values={values_of(feature)}", *(f"--set={each}" for each in settings)))


def one(manifests: Sequence[Manifest], kind: str, name: str = "") -> Manifest:
    """Return the manifest of that kind and name; the only one of its kind without a name."""
    found = [each for each in manifests if each["kind"] == kind and name in {"", each["metadata"]["name"]}]
    assert len(found) == 1, f"{len(found)} of {kind} {name}: {names(manifests, kind)}"
    return found[0]


def names(manifests: Sequence[Manifest], kind: str) -> list[str]:
    """Return the names of the manifests of that kind."""
    return sorted(each["metadata"]["name"] for each in manifests if each["kind"] == kind)


def workloads(manifests: Sequence[Manifest]) -> dict[str, Manifest]:
    """Return what runs pods, by component."""
    kinds = {"StatefulSet", "Deployment", "DaemonSet"}
    return {
        each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in manifests if each["kind"] in kinds
    }


def pod_of(workload: Manifest) -> Manifest:
    """Return the specification of a workload's pods."""
    pod: Manifest = workload["spec"]["template"]["spec"]
    return pod


def containers(manifests: Sequence[Manifest]) -> dict[str, Manifest]:
    """Return all containers by name, those that only begin included."""
    pods = [pod_of(workload) for workload in workloads(manifests).values()]
    return {each["name"]: each for pod in pods for each in (*pod["containers"], *pod.get("initContainers", []))}


def documents(manifests: Sequence[Manifest]) -> dict[str, Manifest]:
    """Return what the release declares through its operator, by name."""
    data = one(manifests, "ConfigMap", f"{RELEASE}-documents").get("data") or {}
    found = [yaml.safe_load(text) for text in data.values()]
    return {each["metadata"]["name"]: each for each in found}
