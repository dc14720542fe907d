"""etcd and kube-apiserver: what `kubectl` and an operator talk to."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.kubernetes import binaries, record
from tests.e2e.kubernetes.certificates import Authority
from tests.servers.etcd import Etcd
from tests.servers.processes import Process, free_port

SERVICES = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"  # `kubernetes.default.svc`
NOBODY = "192.0.2.1"  # RFC 5737: an address that is never dialled, where there is no node to dial it
START_SECONDS = 60.0
KUBECTL_SECONDS = 60.0


class ControlPlane:
    """One API server with its etcd, its state in `folder`; as a context manager it is stopped at the end.

    `address` is what it serves on; a node needs one that pods can reach, and that is not 127.0.0.1.
    """

    def __init__(self, folder: Path, *, address: str = "127.0.0.1") -> None:
        self.folder = folder
        self.address = address
        self.binaries = binaries.kubernetes()
        self.kubeconfig = folder / "admin.conf"
        self.processes: list[Process] = []
        self._running = ExitStack()
        self.etcd = Etcd(folder / "etcd")
        self._port = free_port()
        self.url = f"https://{address}:{self._port}"

    def start(self) -> Self:
        """Start it and wait until it is ready. Raises RuntimeError, with the end of a log, when it is not."""
        (self.folder / "log").mkdir(parents=True)
        self.authority = self._certificates()
        try:
            self._running.enter_context(self.etcd)
            self._remember(self.etcd.process)
            self._start_apiserver()
        except BaseException:
            self.stop()
            raise
        return self

    def run(self, name: str, *words: str | Path) -> Process:
        """Start one more process of this cluster; it is stopped with it."""
        process = Process([name, *words], log=self.folder / "log" / Path(name).name)
        self._running.enter_context(process)
        self._remember(process)
        return process

    def component(self, name: str, *words: str | Path) -> Process:
        """Start one of the programs that the cluster was built with."""
        return self.run(str(self.binaries / name), *words)

    def kubectl(self, *words: str | Path, document: object = None) -> str:
        """Run kubectl on this cluster and return what it prints; `document` goes to its standard input, as JSON.

        Raises RuntimeError with what kubectl said when it fails.
        """
        command = [self.binaries / "kubectl", f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(
            command,
            input=None if document is None else json.dumps(document),
            stdin=subprocess.DEVNULL if document is None else None,
            capture_output=True,
            text=True,
            timeout=KUBECTL_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"kubectl {' '.join(map(str, words))}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *words: str) -> Any:
        """Return what `kubectl get WORDS -o json` gives."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def restart(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """End the API server with SIGKILL, do `meanwhile`, and start it anew with the state that etcd holds."""
        self.apiserver.kill()
        self.processes.remove(self.apiserver)
        meanwhile()
        self._start_apiserver()

    def stop(self) -> None:
        """End every process, the last started first. Safe to call twice."""
        self._running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _remember(self, process: Process) -> None:
        """Add it to the record, so that `down` can end what a killed test run left behind."""
        self.processes.append(process)
        record.write(self.folder, self.processes)

    def _certificates(self) -> Authority:
        authority = Authority(self.folder / "pki")
        names = ("127.0.0.1", self.address, FIRST_SERVICE, "localhost", "kubernetes", "kubernetes.default.svc")
        authority.issue("apiserver", "kube-apiserver", hosts=tuple(dict.fromkeys(names)))
        authority.issue("admin", "admin", organization="system:masters")
        authority.write_kubeconfig(self.kubeconfig, "admin", self.url)
        return authority

    def _start_apiserver(self) -> None:
        self.apiserver = self.component("kube-apiserver", *self._apiserver_flags())
        context = ssl.create_default_context(cafile=str(self.authority.folder / "ca.crt"))
        self.apiserver.wait_until(lambda: _answers(f"{self.url}/readyz", context), timeout=START_SECONDS)

    def _apiserver_flags(self) -> Iterable[str]:
        pki = self.authority.folder
        alone = self.address == "127.0.0.1"
        yield f"--etcd-servers={self.etcd.url}"
        yield f"--bind-address={self.address}"
        yield f"--secure-port={self._port}"
        yield f"--advertise-address={NOBODY if alone else self.address}"
        yield f"--endpoint-reconciler-type={'none' if alone else 'master-count'}"
        yield f"--service-cluster-ip-range={SERVICES}"
        yield "--allow-privileged"
        yield "--authorization-mode=Node,RBAC"
        yield f"--tls-cert-file={pki / 'apiserver.crt'}"
        yield f"--tls-private-key-file={pki / 'apiserver.key'}"
        yield f"--client-ca-file={pki / 'ca.crt'}"
        yield f"--kubelet-client-certificate={pki / 'admin.crt'}"
        yield f"--kubelet-client-key={pki / 'admin.key'}"
        yield "--kubelet-preferred-address-types=InternalIP"
        yield f"--service-account-key-file={pki / 'sa.key'}"
        yield f"--service-account-signing-key-file={pki / 'sa.key'}"
        yield "--service-account-issuer=https://kubernetes.default.svc"


def _answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Return whether the server says that it is ready; both URLs may be read by anybody."""
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:  # noqa: S310 - a URL of our own
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
