"""A Kubernetes in Docker, for machines where Docker runs: kind, of the version that kind/go.mod pins."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.servers.golang import built

CONFIG = Path(__file__).parents[3] / "kind-config.yaml"
PROGRAM = Path(__file__).parent / "kind"
COMMAND_SECONDS = 900.0
"""How long one command may take: the first one fetches the image of a node."""


class Kind:
    """One cluster by its name; as a context manager it is deleted at the end.

    `ports` gives NodePorts that kind-config.yaml opens other ports of this machine.
    """

    address = "127.0.0.1"
    """Where NodePorts are, as far as kind-config.yaml opens them."""

    def __init__(self, folder: Path, name: str, ports: Mapping[int, int]) -> None:
        self.folder = folder
        self.name = name
        self.kubeconfig = folder / "admin.conf"
        self._config = with_ports(yaml.safe_load(CONFIG.read_text()), ports)
        self._made = False

    def start(self) -> Self:
        """Start it and wait until its node is Ready. Raises RuntimeError when one of this name is there."""
        if self.name in self._kind("get", "clusters").split():
            raise RuntimeError(
                f"there is a kind cluster {self.name} already: another one runs, or was killed;"
                f" end it with: {built(PROGRAM)} delete cluster --name {self.name}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "kind.yaml"
        config.write_text(yaml.safe_dump(self._config))
        self._made = True
        try:
            self._kind("create", "cluster", "--name", self.name, "--config", str(config), "--wait=180s")
        except BaseException:
            self.stop()
            raise
        return self

    def load(self, archive: Path) -> str:
        """Import an image archive into the node."""
        return self._kind("load", "image-archive", str(archive), "--name", self.name)

    def stop(self) -> None:
        """Delete it, if it was made here. Safe to call twice."""
        if self._made:
            self._kind("delete", "cluster", "--name", self.name)
            self._made = False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _kind(self, *words: str) -> str:
        """Run kind, which touches no kubeconfig but ours."""
        done = subprocess.run(
            [built(PROGRAM), *words],
            capture_output=True,
            text=True,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            timeout=COMMAND_SECONDS,
            check=False,
            start_new_session=True,  # Ctrl-C is for whoever called: a cluster half made is deleted, not left
        )
        if done.returncode:
            raise RuntimeError(f"kind {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout


def with_ports(config: dict[str, Any], ports: Mapping[int, int]) -> dict[str, Any]:
    """Return kind's configuration with each NodePort of `ports` opened as that port of this machine."""
    changed = [
        {
            **node,
            "extraPortMappings": [
                {**each, "hostPort": ports.get(each["containerPort"], each["hostPort"])}
                for each in node.get("extraPortMappings", [])
            ],
        }
        for node in config["nodes"]
    ]
    # The name is given on the command line.
    return {key: value for key, value in config.items() if key != "name"} | {"nodes": changed}
