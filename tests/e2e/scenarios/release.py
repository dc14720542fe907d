"""A release of the chart in a namespace of its own, reached from outside by NodePorts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.scenarios.place import Done, Kubernetes, Namespace, namespace

CHART = Path(__file__).parents[3] / "charts" / "teleport"
FIRST_PORT = 30000
"""The first NodePort: Kubernetes itself picks none of the first 86 unless it is asked to."""

Values = dict[str, Any]


@dataclass(frozen=True)
class Ports:
    """The NodePorts of a release; `slot` tells it from others of the same cluster."""

    slot: int

    @property
    def web(self) -> int:
        """HTTPS."""
        return FIRST_PORT + 3 * self.slot

    @property
    def ssh(self) -> int:
        """The proxy's SSH."""
        return self.web + 1

    @property
    def tunnel(self) -> int:
        """Reverse tunnels."""
        return self.web + 2


class Release(Namespace):
    """One `helm install`, and the namespace around it."""

    def __init__(self, kubernetes: Kubernetes, name: str, image: str, ports: Ports | None, values: Values) -> None:
        """Take its namespace and its values; without ports nobody reaches it from outside."""
        super().__init__(kubernetes, name)
        self.release = "teleport"
        self.auth_service = f"{self.release}-auth"
        self.web = f"{kubernetes.address}:{ports.web}" if ports else ""
        """The proxy's address as people type it."""
        self.ssh = f"{kubernetes.address}:{ports.ssh}" if ports else ""
        """And that of its SSH."""
        repository, _, tag = image.rpartition(":")
        image_values = {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}
        self.values = merged({"clusterName": "main", "image": image_values, "proxy": self._reached(ports)}, values)

    def install(self) -> None:
        """Install the chart; nothing is waited for."""
        self._helm("install")

    def upgrade(self, changes: Values) -> None:
        """Change values of the release; nothing is waited for."""
        self.values = merged(self.values, changes)
        self._helm("upgrade")

    def uninstall(self) -> None:
        """Take the release away, and wait until its objects are gone."""
        self.kubernetes.done("helm", "uninstall", self.release, "--namespace", self.name, "--wait")

    def tctl(self, *words: str) -> Done:
        """Run tctl where an administrator finds it: in a pod of auth."""
        auth = self.pods("auth")[0]["metadata"]["name"]
        exec_ = ("kubectl", "-n", self.name, "exec", auth, "-c", "auth", "--")
        return self.kubernetes.run(*exec_, "tctl", *words)

    def _reached(self, ports: Ports | None) -> Values:
        """Return the proxy's values by which it is reached from outside."""
        if ports is None:
            return {}
        node_ports = {"web": ports.web, "ssh": ports.ssh, "tunnel": ports.tunnel}
        service = {"type": "NodePort", "nodePorts": node_ports}
        return {"publicAddr": self.web, "sshPublicAddr": self.ssh, "service": service}

    def _helm(self, verb: str) -> None:
        self.kubernetes.done(
            "helm", verb, self.release, CHART, "--namespace", self.name, "--values", "-", stdin=json.dumps(self.values)
        )


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Values:
    """Return values with others laid over them, section by section."""
    found = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else value
    return found


@contextmanager
def release(kubernetes: Kubernetes, name: str, image: str, slot: int | None, values: Values) -> Iterator[Release]:
    """Yield a release that is not installed yet, in a namespace that is deleted at the end; a slot means NodePorts."""
    with namespace(kubernetes, name):
        yield Release(kubernetes, name, image, None if slot is None else Ports(slot), values)
