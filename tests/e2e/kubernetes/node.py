"""A node for a control plane: controllers, scheduler, containerd, kubelet, kube-proxy and cluster DNS, as processes.

One at a time on a machine: it needs root and names of its own in the kernel, which are all here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.kubernetes import binaries, image, machine, volumes
from tests.e2e.kubernetes.control_plane import ControlPlane

NAME = "node1"
LABEL = "teleport.internal/test-cluster=true"
"""On every node of a cluster that tests may use; kind-config.yaml sets it too. They refuse any other."""
PAUSE = "localhost/pause:1"
START_SECONDS = 90.0

_CONTAINERD = """\
version = 2
root = "{root}"
state = "{state}/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE a container cannot get an oom_score_adj below its parent's.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{networks}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""

_COREFILE = """\
.:53 {{
  bind {address}
  errors
  cache 5
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
    ttl 5
  }}
}}
"""


def _network(folder: Path) -> dict[str, object]:
    """Return the CNI configuration: one bridge, which keeps the addresses it gave in `folder`."""
    ipam = {
        "type": "host-local",
        "dataDir": str(folder),
        "ranges": [[{"subnet": machine.PODS}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": machine.BRIDGE, "isGateway": True, "ipMasq": True, "hairpinMode": True}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "bridge", "plugins": [{**bridge, "ipam": ipam}, ports]}


def _kubelet(authority: Path) -> dict[str, object]:
    """Return the kubelet's configuration; `authority` is the file of the CA whose clients it serves."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,  # machines of the kind that tests run on still have it
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(authority)},
        },
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [machine.ADDRESS],
        "clusterDomain": "cluster.local",
        "address": machine.ADDRESS,
        "healthzPort": 0,
        "containerRuntimeEndpoint": f"unix://{machine.SOCKET}",
        "shutdownGracePeriod": "0s",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        # Never: on a machine whose disk is rather full it would remove images, which come from nowhere a second time.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


class Cluster:
    """A control plane and a node that runs pods; as a context manager it is stopped at the end."""

    def __init__(self, folder: Path) -> None:
        """Prepare it. Raises RuntimeError when this user or machine cannot run one, or runs one already."""
        if os.geteuid() != 0:
            raise RuntimeError("a Kubernetes node needs root")
        if missing := machine.missing_programs():
            raise RuntimeError(f"a Kubernetes node needs {', '.join(missing)}; run: tools/setup e2e")
        self.control_plane = ControlPlane(folder, address=machine.ADDRESS)
        self.folder = folder

    def start(self) -> Self:
        """Start it and wait until the node is Ready. Raises RuntimeError, with the end of a log, when it is not."""
        machine.claim(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            machine.prepare(self.folder)
            self.control_plane.start()
            self._start_controllers()
            self._start_containerd()
            self._start_kubelet()
            self._offer_volumes()
        except BaseException:
            self.stop()
            raise
        return self

    def load(self, archive: Path) -> str:
        """Import an image archive (docker-archive or OCI) into the node."""
        return machine.ctr("images", "import", str(archive))

    def stop(self) -> None:
        """End it and give the machine its network back. Safe to call twice."""
        try:
            for process in self.control_plane.processes:
                if process.name == "kubelet":
                    process.kill()
            machine.remove_containers()
        finally:
            self.control_plane.stop()
            machine.restore(self.folder)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_controllers(self) -> None:
        pki = self.control_plane.authority.folder
        config = f"--kubeconfig={self.control_plane.kubeconfig}"
        self.control_plane.component(
            "kube-controller-manager",
            config,
            "--bind-address=127.0.0.1",
            "--use-service-account-credentials",
            "--leader-elect=false",
            f"--service-account-private-key-file={pki / 'sa.key'}",
            f"--root-ca-file={pki / 'ca.crt'}",
            f"--cluster-signing-cert-file={pki / 'ca.crt'}",
            f"--cluster-signing-key-file={pki / 'ca.key'}",
        )
        self.control_plane.component("kube-scheduler", config, "--bind-address=127.0.0.1", "--leader-elect=false")

    def _start_containerd(self) -> None:
        networks = self.folder / "cni"
        networks.mkdir()
        (networks / "10-bridge.conflist").write_text(json.dumps(_network(self.folder / "ipam")))
        config = self.folder / "containerd.toml"
        config.write_text(
            _CONTAINERD.format(
                root=self.folder / "containerd",
                state=machine.STATE,
                socket=machine.SOCKET,
                networks=networks,
                pause=PAUSE,
            )
        )
        containerd = self.control_plane.run("containerd", "--config", config)
        containerd.wait_until(machine.containerd_answers, timeout=START_SECONDS)
        archive = self.folder / "pause.tar"
        image.write(archive, PAUSE, self.control_plane.binaries / "pause")
        self.load(archive)

    def _start_kubelet(self) -> None:
        plane = self.control_plane
        plane.authority.issue("node", f"system:node:{NAME}", organization="system:nodes")
        plane.authority.write_kubeconfig(self.folder / "node.conf", "node", plane.url)
        config = self.folder / "kubelet.json"
        config.write_text(json.dumps(_kubelet(plane.authority.folder / "ca.crt")))
        kubelet = plane.component(
            "kubelet",
            f"--kubeconfig={self.folder / 'node.conf'}",
            f"--config={config}",
            f"--hostname-override={NAME}",
            f"--node-labels={LABEL}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--node-ip={machine.ADDRESS}",
        )
        plane.component(
            "kube-proxy",
            f"--kubeconfig={plane.kubeconfig}",
            "--proxy-mode=nftables",
            f"--hostname-override={NAME}",
            f"--cluster-cidr={machine.PODS}",
            "--conntrack-max-per-core=0",
            "--healthz-bind-address=127.0.0.1",
        )
        self._start_dns()
        kubelet.wait_until(self._is_ready, timeout=START_SECONDS)

    def _offer_volumes(self) -> None:
        items = volumes.documents(self.folder / "volumes")
        listed = {"apiVersion": "v1", "kind": "List", "items": items}
        self.control_plane.kubectl("create", "-f", "-", document=listed)

    def _start_dns(self) -> None:
        corefile = self.folder / "Corefile"
        corefile.write_text(_COREFILE.format(address=machine.ADDRESS, kubeconfig=self.control_plane.kubeconfig))
        self.control_plane.run(str(binaries.coredns() / "coredns"), "-conf", corefile)

    def _is_ready(self) -> bool:
        """Return whether a pod can be made: a node will take it, and it gets a service account."""
        nodes = self.control_plane.get("nodes")["items"]
        conditions = [condition for node in nodes for condition in node["status"].get("conditions", [])]
        ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
        accounts = self.control_plane.get("serviceaccounts", "--namespace=default")["items"]
        return ready and any(account["metadata"]["name"] == "default" for account in accounts)
