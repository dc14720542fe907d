"""The operator on a real API server: a thousand users declared, a cold start, twenty kills, a thousand broken ones.

`python -m tests.bench operator [USERS [KILLS]]`, by default 1000 and 20, on SQLite. Targets stand beside the figures.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from runtime.backend.base import Snapshot
from runtime.backend.open import open_backend
from runtime.backend.options import SqliteOptions
from runtime.core.clock import SystemClock
from runtime.core.resources import User, decode
from tests.e2e.kubernetes.api import Api, collection
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import Operator

CRDS = Path(__file__).parents[2] / "crds"
USERS = collection("User")
PATIENCE_SECONDS = 300.0
UNCHANGED = 'teleport_operator_reconciles_total{kind="User",result="unchanged"}'
WRITTEN = 'teleport_operator_reconciles_total{kind="User",result="written"}'


def run(arguments: list[str]) -> None:
    """Measure, and print a table."""
    count, kills = (int(each) for each in [*arguments, *["1000", "20"][len(arguments) :]])
    print(f"operator: {count} users")
    with TemporaryDirectory() as folder, ControlPlane(Path(folder) / "kubernetes") as plane:
        plane.kubectl("apply", "-f", CRDS)
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRDS)
        with Api(plane.url, plane.authority.folder) as api:
            bench = Bench(plane, api, Path(folder), count)
            bench.declared()
            bench.cold_start()
            bench.killed(kills)
            bench.broken()


class Bench:
    """One API server, one backend, and operators that come and go."""

    def __init__(self, plane: ControlPlane, api: Api, folder: Path, count: int) -> None:
        self._plane = plane
        self._api = api
        self._folder = folder
        self._names = [f"user-{place}" for place in range(count)]
        self._config = folder / "teleport.yaml"
        self._config.write_text(
            f"teleport:\n  data_dir: {folder}\n  storage:\n    type: sqlite\n    path: backend.sqlite\n"
        )
        self._lease = "bench"

    def declared(self) -> None:
        """Create all users while the operator runs."""
        with self._operator() as operator:
            operator.wait_leads()
            started = time.monotonic()
            for name in self._names:
                self._api.done("POST", USERS, document(name, "a"))
            created = time.monotonic()
            self._wait(lambda: self._ready() == len(self._names))
            show("created, each in", f"{(created - started) / len(self._names) * 1000:.1f} ms")
            show("all Ready after the last create", f"{time.monotonic() - created:.1f} s", "10 s")
            show("memory of the operator then, at most", f"{peak(operator.pid):.0f} MB", "150 MB")

    def cold_start(self) -> None:
        """Start on what has not changed."""
        before = self._stored()
        started = time.monotonic()
        with self._operator() as operator:
            operator.wait_leads()
            self._wait(lambda: operator.probe("metrics")[1].find(f"{UNCHANGED} {len(self._names)}.0") >= 0)
            show("cold start: all looked at after", f"{time.monotonic() - started:.1f} s")
            written = WRITTEN in operator.probe("metrics")[1]
            show("writes to the backend", "some" if written or self._stored() != before else "none", "none")
            show("memory after a cold start", f"{peak(operator.pid):.0f} MB", "150 MB")

    def killed(self, times: int) -> None:
        """Change all users, a part each time, and kill the operator each time while it works on that."""
        for turn in range(times):
            # All but the last find the Lease free: twenty takeovers would only be waited for.
            self._lease = "bench-last" if turn == times - 1 else f"bench-{secrets.token_hex(4)}"
            with self._operator() as operator:
                operator.wait_leads()
                for name in self._names[turn::times]:
                    self._api.done("PATCH", f"{USERS}/{name}", {"spec": {"logins": ["b"]}})
                operator.kill()
        left = len(self._names) - self._ready()
        started = time.monotonic()
        with self._operator() as operator:
            self._wait(lambda: self._ready() == len(self._names))
            show(
                f"killed {times} times, with {left} users left: converged",
                f"{time.monotonic() - started:.1f} s",
                "30 s",
            )
            users = [decode(User, item.value) for item in self._stored().items if "/User/" in item.key]
            right = sorted(user.name for user in users if user.spec.logins == ("b",))
            show("users lost or doubled", str(abs(len(self._names) - len(right)) + len(users) - len(right)), "0")
            operator.stop()

    def broken(self) -> None:
        """Declare as many users whose role is missing, and ten good ones amid and after that."""
        broken = [f"broken-{place}" for place in range(len(self._names))]
        good = [f"good-{place}" for place in range(10)]
        with self._operator() as operator:
            operator.wait_leads()
            alone = self._until_ready([f"alone-{place}" for place in range(10)])
            for name in broken:
                self._api.done("POST", USERS, {**document(name, "a"), "spec": {"roles": ["gone"]}})
            created = time.monotonic()
            amid = self._until_ready([f"amid-{place}" for place in range(10)])
            self._wait(lambda: self._said(broken, "RoleNotFound") == len(broken))
            show("broken ones: all say so after the last create", f"{time.monotonic() - created:.1f} s")
            show("ten good ones: Ready without broken ones", f"{alone:.1f} s")
            show("ten good ones: Ready while the broken ones come in", f"{amid:.1f} s")
            show("ten good ones: Ready among the broken ones", f"{self._until_ready(good):.1f} s")
            show("memory then, at most", f"{peak(operator.pid):.0f} MB", "150 MB")

    def _until_ready(self, names: list[str]) -> float:
        """Create users one by one, and return after how many seconds all are Ready."""
        started = time.monotonic()
        for name in names:
            self._api.done("POST", USERS, document(name, "a"))
        self._wait(lambda: self._said(names, "Reconciled") == len(names))
        return time.monotonic() - started

    def _said(self, names: list[str], reason: str) -> int:
        """Return how many of the users give that reason."""
        wanted = set(names)
        return sum(
            found["metadata"]["name"] in wanted and is_ready(found, reason)
            for found in self._api.done("GET", USERS)["items"]
        )

    @contextmanager
    def _operator(self) -> Iterator[Operator]:
        log = self._folder / "operator.log"
        log.unlink(missing_ok=True)
        with Operator(self._plane.kubeconfig, self._config, log=log, lease=self._lease) as operator:
            yield operator

    def _ready(self) -> int:
        """Return how many users are Ready as they are declared now."""
        return sum(map(is_ready, self._api.done("GET", USERS)["items"]))

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise RuntimeError(f"not done after {PATIENCE_SECONDS:g} s: {self._ready()} are ready")
            time.sleep(0.2)

    def _stored(self) -> Snapshot:
        """Return all resources of the backend, with their revisions."""

        async def read() -> Snapshot:
            path = str(self._folder / "backend.sqlite")
            backend = await open_backend(SqliteOptions(path), clock=SystemClock())
            try:
                return await backend.range("resources/")
            finally:
                await backend.close()

        return asyncio.run(read())


def document(name: str, login: str) -> dict[str, Any]:
    """Return a document of kind User."""
    head = {"apiVersion": "teleport.internal/v1", "kind": "User", "metadata": {"name": name}}
    return {**head, "spec": {"logins": [login]}}


def is_ready(found: dict[str, Any], reason: str = "Reconciled") -> bool:
    """Return whether the condition Ready gives that reason, for the latest generation."""
    generation = found["metadata"]["generation"]
    return any(
        (each["type"], each["reason"], each["observedGeneration"]) == ("Ready", reason, generation)
        for each in found.get("status", {}).get("conditions", [])
    )


def peak(pid: int) -> float:
    """Return the most memory that the process has had, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def show(what: str, value: str, target: str = "") -> None:
    """Print one line of the table."""
    print(f"  {what:55} {value:>10}" + (f"   target {target}" if target else ""), flush=True)
