"""Stores beside the cluster: they run on this machine, where pods reach them as they would reach a managed service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.scenarios.place import Kubernetes
from tests.servers.etcd import Etcd
from tests.servers.processes import free_ports


@contextmanager
def etcd(kubernetes: Kubernetes, folder: Path) -> Iterator[str]:
    """Run etcd where pods reach it, and yield its URL."""
    clients, peers, health = free_ports(3)
    url = f"http://{kubernetes.here}:{clients}"
    flags = (f"--listen-client-urls={url},http://127.0.0.1:{clients}", f"--advertise-client-urls={url}")
    with Etcd(folder, ports=(clients, peers, health), flags=flags):
        yield url
