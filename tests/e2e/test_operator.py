"""The operator's process: replicas that take turns, an API server that comes and goes, watches that fall silent."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pytest

from runtime.backend.base import Backend
from runtime.core.errors import NotFound
from runtime.core.keys import resource
from runtime.core.resources import User, decode
from tests.e2e.deaf_proxy import DeafProxy
from tests.e2e.kubernetes.api import Api, collection
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import LEADS, WAITS, Operator

USERS = collection("User")
TAKEOVER_SECONDS = 30.0


@pytest.fixture
def cluster(control_plane: ControlPlane, crds: None) -> Iterator[Cluster]:
    """Declare users to the API server; they are gone after the test."""
    declared = Cluster(control_plane)
    yield declared
    declared.clear()


@pytest.fixture
def replicas(control_plane: ControlPlane, crds: None, config: Path, tmp_path: Path) -> Iterator[Replicas]:
    """Start replicas of one operator; they are ended with the test."""
    with Replicas(control_plane.kubeconfig, config, tmp_path) as running:
        yield running


class Cluster:
    """The API server, as somebody sees it who declares users."""

    def __init__(self, control_plane: ControlPlane) -> None:
        self.control_plane = control_plane

    def api(self) -> Api:
        """Open a connection."""
        return Api(self.control_plane.url, self.control_plane.authority.folder)

    def declare(self, *names: str, login: str = "a", path: str = USERS) -> None:
        """Create users, or change their login."""
        with self.api() as api:
            for name in names:
                document = user(name, login)
                if api.request("POST", path, document)[0] == 409:
                    api.done("PATCH", f"{path}/{name}", {"spec": document["spec"]})

    def ready(self, path: str = USERS) -> dict[str, str]:
        """Return the status of the condition Ready of each user whose latest generation has one."""
        with self.api() as api:
            found = api.done("GET", path)["items"]
        return {
            user["metadata"]["name"]: each["status"]
            for user in found
            for each in user.get("status", {}).get("conditions", [])
            if (each["type"], each["observedGeneration"]) == ("Ready", user["metadata"]["generation"])
        }

    def wait_ready(self, *names: str, status: str = "True", timeout: float = 20) -> None:
        """Wait for that status of the condition Ready."""
        deadline = time.monotonic() + timeout
        while missing := self._not(status, names):
            assert time.monotonic() < deadline, f"not {status}: {', '.join(missing)}"
            time.sleep(0.1)

    def _not(self, status: str, names: tuple[str, ...]) -> list[str]:
        ready = self.ready()
        return [name for name in names if ready.get(name) != status]

    def clear(self) -> None:
        """Delete all users with no regard to operators."""
        with self.api() as api:
            for each in api.done("GET", USERS)["items"]:
                path = f"{USERS}/{each['metadata']['name']}"
                api.request("PATCH", path, {"metadata": {"finalizers": None}})
                api.request("DELETE", path)


class Replicas:
    """Operators that share a Lease."""

    def __init__(self, kubeconfig: Path, config: Path, folder: Path) -> None:
        self._kubeconfig = kubeconfig
        self._config = config
        self._folder = folder
        self._lease = f"test-{secrets.token_hex(4)}"
        self._running = ExitStack()
        self._count = 0

    def start(self, kubeconfig: Path | None = None, /, **settings: str) -> Operator:
        """Start one more; the names of settings are those of variables without TELEPORT_OPERATOR_."""
        self._count += 1
        operator = Operator(
            kubeconfig or self._kubeconfig,
            self._config,
            log=self._folder / f"operator-{self._count}.log",
            lease=self._lease,
            settings={f"TELEPORT_OPERATOR_{name.upper()}": value for name, value in settings.items()},
        )
        self._running.enter_context(operator)
        return operator

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()


def user(name: str, login: str = "a") -> dict[str, Any]:
    """Return a document of kind User."""
    document = {"apiVersion": "teleport.internal/v1", "kind": "User", "metadata": {"name": name}}
    return {**document, "spec": {"logins": [login]}}


async def logins(backend: Backend, name: str) -> tuple[str, ...]:
    """Return the logins that the backend has for a user; none if it has no such user."""
    try:
        return decode(User, (await backend.get(resource("User", name))).value).spec.logins
    except NotFound:
        return ()


async def test_one_replica_reconciles_and_another_takes_over(
    cluster: Cluster, replicas: Replicas, backend: Backend
) -> None:
    """The second waits, watching nothing, until the first is killed; then what was declared meanwhile is done."""
    first = replicas.start()
    await asyncio.to_thread(first.wait_leads)
    second = replicas.start()
    await asyncio.to_thread(second.wait_said, WAITS)
    assert second.probe("readyz") == (200, "ok\n")  # or a rollout would wait for it for ever
    assert (first.metric("teleport_operator_leader"), second.metric("teleport_operator_leader")) == (1, 0)
    assert "watch_age_seconds{" in first.probe("metrics")[1]
    assert "watch_age_seconds{" not in second.probe("metrics")[1]
    await asyncio.to_thread(cluster.declare, "ann")
    await asyncio.to_thread(cluster.wait_ready, "ann")
    first.kill()
    killed = time.monotonic()
    await asyncio.to_thread(cluster.declare, "bob")
    await asyncio.to_thread(cluster.declare, "ann", login="b")
    await asyncio.to_thread(cluster.wait_ready, "bob", "ann", timeout=TAKEOVER_SECONDS)
    assert time.monotonic() - killed < TAKEOVER_SECONDS
    assert await logins(backend, "ann") == ("b",)
    assert second.metric("teleport_operator_leader") == 1


async def test_a_replica_that_is_told_to_stop_hands_over(cluster: Cluster, replicas: Replicas) -> None:
    """SIGTERM ends a leader with 0 and gives the Lease back, so that nobody waits for it to run out."""
    first = replicas.start()
    await asyncio.to_thread(first.wait_leads)
    second = replicas.start()
    await asyncio.to_thread(second.wait_said, WAITS)
    first.signal(signal.SIGTERM)
    assert await asyncio.to_thread(first.wait, timeout=10) == 0
    await asyncio.to_thread(second.wait_said, LEADS, timeout=6)
    third = replicas.start()
    await asyncio.to_thread(third.wait_said, WAITS)
    third.signal(signal.SIGTERM)
    assert await asyncio.to_thread(third.wait, timeout=5) == 0


async def test_a_leader_that_was_frozen_is_dead_before_it_goes_on(
    cluster: Cluster, replicas: Replicas, backend: Backend
) -> None:
    """One that is stopped, and goes on when another leads, does not do one thing more: the kernel ends it."""
    first = replicas.start()
    await asyncio.to_thread(first.wait_leads)
    second = replicas.start()
    await asyncio.to_thread(second.wait_said, WAITS)
    await asyncio.to_thread(first.freeze)
    await asyncio.to_thread(cluster.declare, "ann")
    await asyncio.to_thread(cluster.wait_ready, "ann", timeout=TAKEOVER_SECONDS)
    first.thaw()
    assert await asyncio.to_thread(first.wait, timeout=5) == -signal.SIGALRM
    assert "ann" not in first.log.read_text()


async def test_the_api_server_may_go_and_come(
    control_plane: ControlPlane, cluster: Cluster, replicas: Replicas, backend: Backend
) -> None:
    """After the API server was killed and started, also for longer than a Lease lasts, what is declared is done."""
    operator = replicas.start()
    await asyncio.to_thread(operator.wait_leads)
    await asyncio.to_thread(cluster.declare, "ann")
    await asyncio.to_thread(cluster.wait_ready, "ann")

    await asyncio.to_thread(control_plane.restart)
    await asyncio.to_thread(cluster.declare, "ann", login="b")
    await asyncio.to_thread(cluster.wait_ready, "ann", timeout=TAKEOVER_SECONDS)
    assert await logins(backend, "ann") == ("b",)

    await asyncio.to_thread(control_plane.restart, lambda: operator.wait_said("starting anew", timeout=30))
    await asyncio.to_thread(cluster.declare, "ann", login="c")
    await asyncio.to_thread(cluster.declare, "bob")
    await asyncio.to_thread(cluster.wait_ready, "ann", "bob", timeout=TAKEOVER_SECONDS)
    assert await logins(backend, "ann") == ("c",)
    assert operator.running  # in the very same process, which nobody had to start again
    # Users are watched again; the other kinds follow.
    await asyncio.to_thread(operator.wait_until, lambda: operator.probe("readyz") == (200, "ok\n"), timeout=60)


async def test_a_watch_that_falls_silent_is_opened_anew(
    control_plane: ControlPlane, cluster: Cluster, replicas: Replicas, backend: Backend, tmp_path: Path
) -> None:
    """Connections that look well and carry nothing do not keep a change from being seen; the metrics show the age."""
    async with DeafProxy(control_plane.url) as proxy:
        kubeconfig = tmp_path / "proxy.conf"
        document = json.loads(control_plane.kubeconfig.read_text())
        document["clusters"][0]["cluster"]["server"] = proxy.url
        kubeconfig.write_text(json.dumps(document))
        operator = replicas.start(kubeconfig, watch_silence="8")
        await asyncio.to_thread(operator.wait_leads)
        await asyncio.to_thread(cluster.declare, "ann")
        await asyncio.to_thread(cluster.wait_ready, "ann")
        proxy.fall_silent()
        await asyncio.to_thread(cluster.declare, "ann", login="b")
        await asyncio.to_thread(
            operator.wait_until,
            lambda: operator.metric('teleport_operator_watch_age_seconds{namespace="",resource="users"}') > 4,
            timeout=20,
        )
        await asyncio.to_thread(cluster.wait_ready, "ann", timeout=30)
        assert await logins(backend, "ann") == ("b",)
        assert LEADS in operator.log.read_text()
        assert "starting anew" not in operator.log.read_text()


async def test_one_namespace_only(
    control_plane: ControlPlane, cluster: Cluster, replicas: Replicas, backend: Backend
) -> None:
    """An operator for one namespace leaves what is declared elsewhere alone."""
    with cluster.api() as api:
        api.request("POST", "/api/v1/namespaces", {"metadata": {"name": "theirs"}})
    elsewhere = collection("User", "theirs")
    operator = replicas.start(namespaces="default")
    await asyncio.to_thread(operator.wait_leads)
    try:
        await asyncio.to_thread(cluster.declare, "eve", path=elsewhere)
        await asyncio.to_thread(cluster.declare, "ann")
        await asyncio.to_thread(cluster.wait_ready, "ann")
        assert cluster.ready(elsewhere) == {}
        assert await logins(backend, "eve") == ()
        ages = operator.probe("metrics")[1]
        assert 'watch_age_seconds{namespace="default",resource="users"}' in ages
    finally:
        with cluster.api() as api:
            api.request("DELETE", f"{elsewhere}/eve")


RIGHTS = [
    {"apiGroups": ["teleport.internal"], "resources": ["*"], "verbs": ["get", "list", "watch", "patch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create", "update"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
]
"""What docs/operator.md asks for."""


def service_account(api: Api, plane: ControlPlane, folder: Path) -> Path:
    """Make a service account with RIGHTS in the namespace default; return a kubeconfig with its token."""
    rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"
    api.request("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "operator"}})
    api.request("POST", f"{rbac}/roles", {"metadata": {"name": "operator"}, "rules": RIGHTS})
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": "default"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"}
    api.request(
        "POST", f"{rbac}/rolebindings", {"metadata": {"name": "operator"}, "subjects": [subject], "roleRef": role}
    )
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    given = api.done("POST", "/api/v1/namespaces/default/serviceaccounts/operator/token", asked)
    document = json.loads(plane.kubeconfig.read_text())
    document["users"][0]["user"] = {"token": given["status"]["token"]}
    path = folder / "service-account.conf"
    path.write_text(json.dumps(document))
    return path


async def test_the_rights_that_the_documentation_asks_for_are_enough(
    control_plane: ControlPlane, cluster: Cluster, replicas: Replicas, backend: Backend, tmp_path: Path
) -> None:
    """A service account with rights in one namespace only reconciles that namespace, and is refused nothing."""
    with cluster.api() as api:
        kubeconfig = service_account(api, control_plane, tmp_path)
    operator = replicas.start(kubeconfig, namespaces="default")
    await asyncio.to_thread(operator.wait_leads)
    await asyncio.to_thread(cluster.declare, "ann")
    await asyncio.to_thread(cluster.wait_ready, "ann")
    assert await logins(backend, "ann") == ("a",)
    assert "orbidden" not in operator.log.read_text()


def test_a_large_role_is_handled(cluster: Cluster, replicas: Replicas) -> None:
    """A document of 200 KB is reconciled: what kopf remembers of it is a digest."""
    values = ["v" * 200 + str(place) for place in range(15)]
    labels = {f"label-{place}": values for place in range(60)}
    role = {"apiVersion": "teleport.internal/v1", "kind": "Role", "metadata": {"name": "large"}}
    path = f"{collection('Role')}/large"
    with cluster.api() as api:
        api.done("POST", collection("Role"), {**role, "spec": {"allow": {"nodeLabels": labels}}})
        try:
            operator = replicas.start()
            operator.wait_leads()
            operator.wait_until(lambda: "conditions" in api.done("GET", path).get("status", {}), timeout=20)
            found = api.done("GET", path)
            assert {each["type"]: each["status"] for each in found["status"]["conditions"]}["Ready"] == "True"
            assert len(found["status"]["handled"]) == 64
            assert sum(map(len, found["metadata"].get("annotations", {}).values())) < 1000  # bytes
        finally:
            api.request("PATCH", path, {"metadata": {"finalizers": None}})
            api.request("DELETE", path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"config": "/nowhere/teleport.yaml"}, "/nowhere/teleport.yaml"),
        ({"diag_addr": "here:there"}, "TELEPORT_OPERATOR_DIAG_ADDR"),
        ({"log_severity": "LOUD"}, "TELEPORT_OPERATOR_LOG_SEVERITY"),
        ({"watch_silence": "-1"}, "TELEPORT_OPERATOR_WATCH_SILENCE"),
    ],
    ids=lambda value: "",
)
def test_wrong_settings(replicas: Replicas, settings: dict[str, str], said: str) -> None:
    """Settings that are wrong end it with 2, and the variable is named."""
    operator = replicas.start(**settings)
    assert operator.wait(timeout=20) == 2
    assert said in operator.log_tail()
    assert "Traceback" not in operator.log_tail()


def test_no_way_to_the_api_server(replicas: Replicas, tmp_path: Path) -> None:
    """Without a kubeconfig, outside a pod, it says what to set."""
    operator = replicas.start(tmp_path / "none")
    assert operator.wait(timeout=20) == 2
    assert "Set KUBECONFIG" in operator.log_tail()
