"""The programs of a cluster, built from source once and kept by their inputs (`tests.servers.cache`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.servers.cache import cached
from tests.servers.golang import go

HERE = Path(__file__).parent
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
BUILD_SECONDS = 3000
"""How long the first build may take: some ten minutes on two cores, and a slow machine has its time."""


def kubernetes() -> Path:
    """Return the folder that holds the components, kubectl and pause, of the version that components/go.mod pins."""
    return cached("kubernetes", [HERE / "components", _LINKER_FLAGS, *COMPONENTS], _build_kubernetes)


def coredns() -> Path:
    """Return the folder that holds coredns, of the version that dns/go.mod pins."""
    return cached("coredns", [HERE / "dns"], _build_coredns)


def version() -> str:
    """Return the Kubernetes version, as in `v1.36.3`."""
    for line in (HERE / "components/go.mod").read_text().splitlines():
        match line.split():
            case ["k8s.io/kubernetes", number] | ["require", "k8s.io/kubernetes", number]:
                return number
    raise RuntimeError("components/go.mod requires no k8s.io/kubernetes")


def _linker_flags() -> str:
    major, minor, _ = version().removeprefix("v").split(".")
    values = {"gitVersion": version(), "gitMajor": major, "gitMinor": minor}
    return "-s -w " + " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in values.items())


_LINKER_FLAGS = _linker_flags()


def _build_kubernetes(folder: Path) -> None:
    _go_build(HERE / "components", "./...", folder)
    for component in COMPONENTS:  # one program, which is what it is called
        (folder / component).symlink_to("kube")


def _build_coredns(folder: Path) -> None:
    _go_build(HERE / "dns", ".", folder / "coredns")


def _go_build(module: Path, packages: str, target: Path) -> None:
    flags = ["-mod=readonly", "-trimpath", "-ldflags", _LINKER_FLAGS]
    command = [go(module), "build", *flags, "-o", str(target), packages]
    print(f"building {module.name} of Kubernetes {version()}: minutes, once", file=sys.stderr, flush=True)
    subprocess.run(command, cwd=module, env={**os.environ, "CGO_ENABLED": "0"}, check=True, timeout=BUILD_SECONDS)
