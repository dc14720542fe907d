"""`make demo-kubernetes`: the main job on a Kubernetes of its own, from `helm install` to `tsh ssh` into a pod.

Where Docker runs that is kind, with kind-config.yaml; elsewhere it is the tests' own launcher, which needs root. What
is declared are the documents of examples/quickstart, as they stand. Everything is reached from outside, through
NodePorts, and is gone at the end. At a terminal it stays up until Ctrl-C; with CI=true, or without a terminal, it ends
by itself.

    python -m tools.demo_kubernetes [--kubeconfig FILE]

With a kubeconfig it is shown on that cluster, which has the image and free ports, and is left as it was.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

import yaml

from tests.e2e.kubernetes import binaries, machine
from tests.e2e.kubernetes.in_docker import Kind
from tests.e2e.kubernetes.node import Cluster
from tools import demo, image

ROOT = Path(__file__).resolve().parents[1]
VALUES = ROOT / "examples" / "kind" / "values.yaml"
RELEASE = NAMESPACE = "teleport"
KIND = "teleport-demo"
LOGIN = "root"
PROOF = 'echo "I am $(id -un) on $(hostname), let in as $SSH_TELEPORT_USER"'
PATIENCE_SECONDS = 180.0
LOOK_SECONDS = 0.2
T = TypeVar("T")
NEXT = """
The cluster runs until Ctrl-C. In another terminal:
  export HOME={home} KUBECONFIG={kubeconfig} PATH={scripts}:$PATH
  tsh ssh {login}@{node}     # a shell in the pod; exit ends it
  kubectl -n {namespace} get teleport                       # what is declared, and whether it is true
  kubectl -n {namespace} edit role dev                      # takes effect within a second
  kubectl -n {namespace} exec teleport-auth-0 -c auth -- tctl events ls
  kubectl -n {namespace} delete user joe                    # and joe is out
docs/kubernetes.md goes on from here."""


class Phases:
    """What took how long."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self._ended: list[tuple[str, float]] = []

    def end(self, name: str) -> None:
        """Note that this part is done."""
        now = time.monotonic()
        self._ended.append((name, now - self._last))
        self._last = now

    def show(self, first: str) -> None:
        """Print all parts, and the sum of those from `first` on."""
        print(flush=True)
        for name, seconds in self._ended:
            print(f"  {seconds:6.1f} s  {name}")
        names = [name for name, _ in self._ended]
        total = sum(seconds for _, seconds in self._ended[names.index(first) :])
        print(f"  {total:6.1f} s  from {first} to the first session", flush=True)


class Running(Protocol):
    """A cluster that somebody starts and ends."""

    def start(self) -> object:
        """Start it, or undo what was begun and raise RuntimeError."""

    def load(self, archive: Path) -> object:
        """Bring the image to its nodes. Raises RuntimeError."""

    def stop(self) -> None:
        """End it, with all that is on it."""


class Given:
    """A cluster that runs already, with the image on its nodes. What the demo makes there is removed at the end."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    @property
    def address(self) -> str:
        """An address of a node. Raises RuntimeError."""
        path = "{.items[0].status.addresses[?(@.type=='InternalIP')].address}"
        return self._kubectl("get", "nodes", f"--output=jsonpath={path}")

    def start(self) -> None:
        """Raise RuntimeError where the namespace of the demo is somebody's already."""
        if self._kubectl("get", "namespace", NAMESPACE, "--ignore-not-found"):
            raise RuntimeError(f"the namespace {NAMESPACE} is there already: kubectl delete namespace {NAMESPACE}")

    def load(self, archive: Path) -> None:
        """Nothing: who gives a cluster has loaded it."""

    def stop(self) -> None:
        """Remove the release, then documents that wait for an operator that is gone, and the namespace."""
        here = f"--namespace={NAMESPACE}"
        uninstall = [str(demo.SCRIPTS / "helm"), "uninstall", RELEASE, here, "--ignore-not-found", "--wait"]
        subprocess.run(uninstall, env=self._environment, stdout=subprocess.DEVNULL, check=False)
        with suppress(RuntimeError):  # no definitions, so nothing was declared
            for each in self._kubectl("get", "teleport", here, "--output=name").split():
                self._kubectl("patch", each, here, "--type=merge", '--patch={"metadata": {"finalizers": null}}')
        self._kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", f"--timeout={PATIENCE_SECONDS:.0f}s")

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def _kubectl(self, *words: str) -> str:
        command = [str(demo.SCRIPTS / "kubectl"), *words]
        done = subprocess.run(command, capture_output=True, text=True, env=self._environment, check=False)
        if done.returncode:
            raise RuntimeError(f"kubectl {shlex.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()


class Kubernetes:
    """A cluster, and where its NodePorts are."""

    def __init__(self, folder: Path, given: Path | None = None) -> None:
        """Take the one that is given, or prepare one, whichever can run here. Raises RuntimeError."""
        values = yaml.safe_load(VALUES.read_text())["proxy"]["service"]["nodePorts"]
        ports = {port: port for port in values.values()}
        self.running: Running
        if given:
            self.running = taken = Given(given)
            self.kubeconfig, self.address, self.name = given, taken.address, f"the cluster of {given}"
        elif image.has_docker():
            ports = dict(zip(values.values(), demo.free_ports(len(values)), strict=True))
            self.running = kind = Kind(folder, KIND, ports)
            self.kubeconfig, self.address, self.name = kind.kubeconfig, Kind.address, "kind"
        else:
            self.running = cluster = Cluster(folder)
            self.kubeconfig, self.address = cluster.control_plane.kubeconfig, machine.ADDRESS
            self.name = f"Kubernetes {binaries.version()} of our own"
        self.web = f"{self.address}:{ports[values['web']]}"
        self.ssh = f"{self.address}:{ports[values['ssh']]}"
        self.environment = {"KUBECONFIG": str(self.kubeconfig)}

    def kubectl(self, *words: str) -> str:
        """Run kubectl quietly in the namespace; what it prints, or nothing when it fails."""
        command = [str(demo.SCRIPTS / "kubectl"), f"--namespace={NAMESPACE}", *words]
        environment = {**os.environ, **self.environment}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        return done.stdout

    def until(self, read: Callable[[], T], what: str) -> T:
        """Return what a function returns once that is true; exits, and shows how things stand, when it never is."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := read()):
            if time.monotonic() > deadline:
                print(self.kubectl("get", "pods,teleport", "--output=wide"), file=sys.stderr)
                print(self.kubectl("get", "events", "--sort-by=.lastTimestamp"), file=sys.stderr)
                sys.exit(f"not so after {PATIENCE_SECONDS:.0f} s: {what}")
            time.sleep(LOOK_SECONDS)
        return found

    def invite(self) -> str:
        """Return the sign-up link that the operator put into the user's Secret, or nothing yet."""
        link = self.kubectl("get", "secret", f"{demo.USER}-invite", "--output=jsonpath={.data.url}")
        return base64.b64decode(link).decode()

    def ready(self, component: str) -> str:
        """Return the name of a pod of that component that is ready, or nothing yet."""
        words = ("get", "pods", f"--selector=app.kubernetes.io/component={component}", "--output=json")
        for pod in json.loads(self.kubectl(*words) or '{"items": []}')["items"]:
            if any(
                each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", [])
            ):
                return str(pod["metadata"]["name"])
        return ""


def install(kubernetes: Kubernetes) -> None:
    """Install the chart, and declare role, user and token of the quickstart."""
    repository, _, tag = image.reference().rpartition(":")
    places = {"proxy.publicAddr": kubernetes.web, "proxy.sshPublicAddr": kubernetes.ssh}
    image_values = {"image.repository": repository, "image.tag": tag, "image.pullPolicy": "IfNotPresent"}
    flags = [f"--set-string={key}={value}" for key, value in (places | image_values).items()]
    command = f"helm install {RELEASE} charts/teleport -n {NAMESPACE} --create-namespace -f examples/kind/values.yaml"
    demo.run(
        [demo.SCRIPTS / "helm", *shlex.split(command)[1:], *flags],
        show=command,
        env=kubernetes.environment,
    )
    demo.run(
        [demo.SCRIPTS / "kubectl", "wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"],
        show="kubectl wait --for=condition=Established crd --all",
        env=kubernetes.environment,
    )
    demo.run(
        [demo.SCRIPTS / "kubectl", "apply", f"--namespace={NAMESPACE}", "-f", "examples/quickstart/"],
        show=f"kubectl apply -n {NAMESPACE} -f examples/quickstart/",
        env=kubernetes.environment,
    )


def listed(env: Mapping[str, str]) -> str:
    """Return what `tsh ls` prints, without showing it."""
    command = [str(demo.SCRIPTS / "tsh"), "ls"]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, check=False).stdout


def show(folder: Path, kubernetes: Kubernetes, phases: Phases) -> None:
    """Show the main job from start to end."""
    install(kubernetes)
    phases.end("helm install")
    url = kubernetes.until(kubernetes.invite, f"the Secret {demo.USER}-invite")
    phases.end("invite")
    kubernetes.until(lambda: kubernetes.ready("proxy"), "a proxy that is ready")
    phases.end("proxy")
    certificate = folder / "proxy.pem"
    certificate.write_text(ssl.get_server_certificate(demo.host_and_port(kubernetes.web)))
    print(f"\n# The operator has invited {demo.USER}: kubectl -n {NAMESPACE} get secret {demo.USER}-invite", flush=True)
    phone = demo.sign_up(url, certificate)
    home = folder / "home"
    home.mkdir()
    env = {"HOME": str(home), "SSH_AUTH_SOCK": ""}
    demo.log_in(kubernetes.web, phone, env)
    phases.end("sign-up and login")
    node = kubernetes.until(lambda: kubernetes.ready("node"), "a node that is ready")
    kubernetes.until(lambda: node in listed(env), f"{node} in the list of nodes")
    phases.end("node")
    demo.run([demo.SCRIPTS / "tsh", "ls"], show="tsh ls", env=env)
    words = ["ssh", f"{LOGIN}@{node}", PROOF]
    printed = demo.run([demo.SCRIPTS / "tsh", *words], show=f"tsh {shlex.join(words)}", env=env)
    if f"I am {LOGIN} on {node}, let in as {demo.USER}" not in printed:
        sys.exit("the command did not run as it should")
    phases.end("first session")
    phases.show("helm install")
    print("\nThat was a command over SSH in a pod, as a user that kubectl declared, with a certificate and no key.")
    if demo.somebody_watches():
        print(
            NEXT.format(
                home=home,
                kubeconfig=kubernetes.kubeconfig,
                scripts=demo.SCRIPTS,
                login=LOGIN,
                node=node,
                namespace=NAMESPACE,
            ),
            flush=True,
        )
        signal.pause()


ENDINGS = (signal.SIGINT, signal.SIGTERM)


def interrupt(number: int, frame: object) -> None:
    """End the demo, as Ctrl-C does."""
    ignore_endings()
    raise KeyboardInterrupt


def ignore_endings() -> None:
    """See that one more Ctrl-C does not leave half of it behind."""
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)


def main() -> int:
    """Run the demo, and leave nothing behind."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_kubernetes", description="The main job on Kubernetes.")
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="show it on this cluster, which has the image")
    given: Path | None = parser.parse_args().kubeconfig
    for ending in ENDINGS:
        signal.signal(ending, interrupt)
    folder = Path(tempfile.mkdtemp(prefix="teleport-demo-"))
    phases = Phases()
    try:
        archive = image.archive()
        phases.end("image")
        kubernetes = Kubernetes(folder / "kubernetes", given)
        print(f"{'on' if given else 'starting'} {kubernetes.name}", flush=True)
        kubernetes.running.start()  # which undoes what it did when it fails
        try:
            phases.end("Kubernetes")
            kubernetes.running.load(archive)
            phases.end("image loaded")
            show(folder, kubernetes, phases)
        finally:
            ignore_endings()
            print(f"\nremoving {'what was made there' if given else 'the cluster'}", flush=True)
            kubernetes.running.stop()
    except KeyboardInterrupt:
        print("stopped", flush=True)
    except (RuntimeError, image.Failed) as error:
        print(f"make demo-kubernetes: {error}", file=sys.stderr)
        return 1
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
