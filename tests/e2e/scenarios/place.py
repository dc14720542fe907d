"""A Kubernetes that tests may use, through kubectl: nothing here knows which one it is."""

from __future__ import annotations

import base64
import json
import logging
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.e2e.kubernetes.node import LABEL
from tests.servers.teleport import SCRIPTS

logger = logging.getLogger(__name__)

API = "teleport.internal/v1"
KINDS = ("users", "roles", "tokens", "trustedclusters")

T = TypeVar("T")
Object = dict[str, Any]
Done = subprocess.CompletedProcess[str]

PATIENCE_SECONDS = 150.0
"""How long anything may take on a busy machine."""
LOOK_SECONDS = 0.2
LINE = 400
"""Characters of a line that a failing test shows."""
HOPELESS = ("ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName")
"""States of a container that no waiting mends."""


@dataclass(frozen=True)
class Kubernetes:
    """A cluster, by the kubectl and the kubeconfig that lead to it."""

    programs: Path | None
    """The folder that holds kubectl; None for the one in PATH."""
    kubeconfig: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to find this cluster, and no other."""
        ours = [str(self.programs)] if self.programs else []
        path = os.pathsep.join([*ours, str(SCRIPTS), os.environ.get("PATH", "")])
        return {**os.environ, "PATH": path, "KUBECONFIG": str(self.kubeconfig)}

    def run(self, *words: str | Path, stdin: str = "") -> Done:
        """Run a program on this cluster to its end, whatever that is."""
        return subprocess.run(
            [str(word) for word in words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            env=self.environment,
            check=False,
        )

    def done(self, *words: str | Path, stdin: str = "") -> str:
        """Run a program that must succeed, and return what it prints. Raises RuntimeError with its complaint."""
        done = self.run(*words, stdin=stdin)
        if done.returncode:
            raise RuntimeError(f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}")
        return done.stdout

    def kubectl(self, *words: str | Path, document: object = None) -> str:
        """Run kubectl, with a document as JSON on its standard input if one is given. Raises RuntimeError."""
        return self.done("kubectl", *words, stdin="" if document is None else json.dumps(document))

    def get(self, *words: str) -> Any:
        """Return what `kubectl get WORDS -o json` gives. Raises RuntimeError."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def nodes(self) -> list[Object]:
        """Return the cluster's nodes."""
        found: list[Object] = self.get("nodes")["items"]
        return found

    @property
    def address(self) -> str:
        """An address of a node: NodePorts are there."""
        addresses = self.nodes()[0]["status"]["addresses"]
        return next(str(each["address"]) for each in addresses if each["type"] == "InternalIP")

    @property
    def here(self) -> str:
        """The address of this machine that pods reach: the one from which it goes to the node."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((self.address, 9))  # picks a route; nothing is sent
            return str(sock.getsockname()[0])


def check_ours(kubernetes: Kubernetes) -> None:
    """Raise RuntimeError for a cluster that was not made for tests: each of its nodes says that it was."""
    key, _, value = LABEL.partition("=")
    nodes = kubernetes.nodes()
    others = [each["metadata"]["name"] for each in nodes if each["metadata"].get("labels", {}).get(key) != value]
    if others or not nodes:
        raise RuntimeError(
            f"the cluster of {kubernetes.kubeconfig} was not made for tests and is left alone: no label {LABEL} on"
            f" {', '.join(others) or 'any node'}; make one with: kind create cluster --config kind-config.yaml"
        )


class Namespace:
    """A namespace, and what is in it."""

    def __init__(self, kubernetes: Kubernetes, name: str) -> None:
        self.kubernetes = kubernetes
        self.name = name

    def kubectl(self, *words: str | Path, document: object = None) -> str:
        """Run kubectl here. Raises RuntimeError."""
        return self.kubernetes.kubectl("--namespace", self.name, *words, document=document)

    def get(self, *words: str) -> Any:
        """Return what `kubectl get WORDS -o json` gives here. Raises RuntimeError."""
        return self.kubernetes.get("--namespace", self.name, *words)

    def apply(self, *documents: Object | Path) -> None:
        """Apply documents, files or folders."""
        for each in documents:
            if isinstance(each, Path):
                self.kubectl("apply", "-f", each)
            else:
                self.kubectl("apply", "-f", "-", document=each)

    def secret(self, name: str, *keys: str) -> dict[str, str]:
        """Wait for a Secret that has these keys, and return what is in it."""

        def read() -> dict[str, str]:
            found = self.get("secrets", f"--field-selector=metadata.name={name}")["items"]
            data = found[0].get("data") or {} if found else {}
            return {key: base64.b64decode(data[key]).decode() for key in data} if data.keys() >= {*keys} else {}

        return until(read, f"Secret {name} with {', '.join(keys)}", self)

    def ready(self, kind: str, name: str) -> Object:
        """Wait until a document of ours is Ready as it is written now, and return it."""

        def read() -> Object:
            found: Object = self.get(f"{kind}.teleport.internal", name)
            for each in found.get("status", {}).get("conditions", []):
                if (each["type"], each["status"]) == ("Ready", "True") and each["observedGeneration"] == found[
                    "metadata"
                ]["generation"]:
                    return found
            return {}

        return until(read, f"{kind} {name} Ready", self)

    def pods(self, component: str) -> list[Object]:
        """Return the pods of a component of the release that is here, the ending ones left out."""
        found = self.get("pods", "-l", f"app.kubernetes.io/component={component}")["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def wait_pods(self, component: str, count: int, *, but: Iterable[str] = ()) -> list[str]:
        """Wait until that many pods of a component are ready, none of those named, and return their names."""
        gone = set(but)

        def read() -> list[str]:
            pods = self.pods(component)
            for each in pods:
                _check_hopeless(each)
            ready = [each["metadata"]["name"] for each in pods if _is_ready(each)]
            return ready if len(ready) == count and not gone & {*ready} else []

        return until(read, f"{count} ready pods of {component}", self)

    def kill(self, pod: str) -> None:
        """End a pod as a machine that fails does: with no time for good-byes."""
        self.kubectl("delete", "pod", pod, "--grace-period=0", "--force", "--wait=false")

    def story(self) -> str:
        """Return what somebody would look at who wonders why nothing comes of it."""
        parts = [self.kubernetes.run("kubectl", "-n", self.name, "get", "all,teleport,secrets", "-o", "wide").stdout]
        events = self.kubernetes.run("kubectl", "-n", self.name, "get", "events", "--sort-by=.lastTimestamp").stdout
        parts.append("\n".join(events.splitlines()[-30:]))
        for pod in self.get("pods")["items"]:
            name = pod["metadata"]["name"]
            logs = self.kubernetes.run("kubectl", "-n", self.name, "logs", name, "--all-containers", "--tail=30")
            parts.append(f"--- {name}\n{logs.stdout}{logs.stderr}")
        return "\n".join(line[:LINE] for part in parts for line in part.splitlines())


def _is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _check_hopeless(pod: Object) -> None:
    for each in pod["status"].get("containerStatuses", []):
        reason = each.get("state", {}).get("waiting", {}).get("reason", "")
        assert reason not in HOPELESS, f"{pod['metadata']['name']}: {reason}"


def until(read: Callable[[], T], what: str, place: Namespace | None = None, *, seconds: float = PATIENCE_SECONDS) -> T:
    """Return what a function returns once that is true; fail, and say how things stand, when it is not in time."""
    began = time.monotonic()
    while not (found := read()):
        if time.monotonic() > began + seconds:
            raise AssertionError(f"not so after {seconds:g} s: {what}\n{place.story() if place else ''}")
        time.sleep(LOOK_SECONDS)
    logger.info("%s after %.1f s", what, time.monotonic() - began)
    return found


@contextmanager
def namespace(kubernetes: Kubernetes, name: str) -> Iterator[Namespace]:
    """Make a namespace for a test and delete it at the end; documents of ours that nobody ends any more are let go."""
    until(lambda: _is_free(kubernetes, name), f"the namespace {name} of a run before is gone")
    kubernetes.kubectl("create", "namespace", name)
    try:
        yield Namespace(kubernetes, name)
    finally:
        _let_go(kubernetes, name)
        kubernetes.run("kubectl", "delete", "namespace", name, "--wait=false")


def _is_free(kubernetes: Kubernetes, name: str) -> bool:
    """Tell whether there is no such namespace; one that goes is helped: its operator may have taken hold once more."""
    if not kubernetes.get("namespaces", f"--field-selector=metadata.name={name}")["items"]:
        return True
    _let_go(kubernetes, name)
    return False


def _let_go(kubernetes: Kubernetes, name: str) -> None:
    """Take the finalizers off what is declared in a namespace."""
    for kind in KINDS:
        left = kubernetes.run("kubectl", "-n", name, "get", f"{kind}.teleport.internal", "-o", "name").stdout.split()
        for each in left:
            free = '{"metadata": {"finalizers": null}}'
            kubernetes.run("kubectl", "-n", name, "patch", each, "--type=merge", "-p", free)
