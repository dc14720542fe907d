"""A current etcd of our own build: what distributions carry is years behind.

main.go, go.mod and go.sum beside this file pin it. It is built once per machine (a minute or two; `python -m
tests.servers.etcd` does it ahead of the tests) with the Go that `tests.servers.golang` finds.
"""

from __future__ import annotations

import asyncio
import http
import http.client
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.golang import built
from tests.servers.processes import Process, free_ports

START_SECONDS = 60.0


def binary() -> Path:
    """Return the etcd executable, building it when this machine has none yet. Raises RuntimeError."""
    return built(Path(__file__).parent)


@dataclass(frozen=True)
class ServerTLS:
    """Certificate files of a server; with `client_ca` it asks every client for a certificate of that authority."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def flags(self) -> list[str]:
        """Return etcd's flags for it."""
        flags = [f"--cert-file={self.cert}", f"--key-file={self.key}"]
        if self.client_ca:
            flags += ["--client-cert-auth", f"--trusted-ca-file={self.client_ca}"]
        return flags


class Etcd:
    """One member of etcd on loopback, alone or in a Cluster; as a context manager it is ended at the end."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "default",
        ports: tuple[int, int, int] | None = None,
        cluster: Sequence[tuple[str, int]] = (),
        tls: ServerTLS | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        """Prepare a member. `ports` are for clients, peers and health; `cluster` is all names and peer ports."""
        self.folder = folder
        self.port, peer_port, self._health_port = ports or tuple(free_ports(3))
        scheme = "https" if tls else "http"
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"{scheme}://{self.address}"
        members = cluster or [(name, peer_port)]
        self._command = [
            f"--name={name}",
            f"--data-dir={folder / 'data'}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
            "--initial-cluster=" + ",".join(f"{member}=http://127.0.0.1:{port}" for member, port in members),
            f"--listen-metrics-urls=http://127.0.0.1:{self._health_port}",
            "--unsafe-no-fsync",  # SIGKILL leaves what the kernel was given; only a power cut would not
            "--log-level=warn",
            *(tls.flags() if tls else []),
            *flags,
        ]
        self._process: Process | None = None

    @property
    def process(self) -> Process:
        """The running server."""
        if self._process is None:
            raise RuntimeError("etcd was not started")
        return self._process

    def start(self, *, wait: bool = True) -> None:
        """Start it on its data and address, and block until it has a leader; in a cluster, start all and wait then."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = Process([binary(), *self._command], log=self.folder / "etcd.log")
        if wait:
            self.wait()

    def wait(self) -> None:
        """Block until it has a leader. Raises RuntimeError."""
        self.process.wait_until(self._healthy, timeout=START_SECONDS)

    def restart(self) -> None:
        """Kill it as a power cut would and start it again; blocks until it has a leader."""
        self.kill()
        self.start()

    def kill(self) -> None:
        """End it with SIGKILL. Safe to call twice."""
        self.process.kill()

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP)."""
        self.process.freeze()

    def thaw(self) -> None:
        """Undo freeze."""
        self.process.thaw()

    def _healthy(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._health_port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()  # there is nothing to save: the data goes with the test's folder


class Cluster:
    """Several members of one etcd on loopback."""

    def __init__(self, folder: Path, size: int = 3) -> None:
        ports = free_ports(3 * size)
        triples = [(ports[i], ports[i + 1], ports[i + 2]) for i in range(0, 3 * size, 3)]
        names = [f"member{i}" for i in range(size)]
        cluster = [(name, triple[1]) for name, triple in zip(names, triples, strict=True)]
        self.members = [
            Etcd(folder / name, name=name, ports=triple, cluster=cluster)
            for name, triple in zip(names, triples, strict=True)
        ]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._stack:
            for member in self.members:
                self._stack.push(member)
                member.start(wait=False)
            for member in self.members:
                member.wait()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


@asynccontextmanager
async def running(server: Etcd | Cluster) -> AsyncIterator[None]:
    """Run a server while the event loop goes on."""
    await asyncio.to_thread(server.__enter__)
    try:
        yield
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)
