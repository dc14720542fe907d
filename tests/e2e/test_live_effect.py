"""What kubectl changes decides about the next session, on each backend, in a cluster of real processes."""

from __future__ import annotations

import getpass
import json
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.declaring import Declaring, Object, collect_garbage, document, install
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import WAITS, Operator
from tests.servers.people import Person, certify
from tests.servers.shared_store import STORES, SharedStore, shared_store
from tests.servers.sshclient import Client
from tests.servers.teleport import Teleport
from tests.servers.tsh import Tsh

LOGIN = getpass.getuser()
EFFECT_SECONDS = 5.0
"""How long an edit may take to count, as a rule."""
DELETION_SECONDS = 10.0
"""How long somebody who was deleted may still get in."""
PATIENCE_SECONDS = 60.0
"""How long anything may take on a busy machine."""

DEV = document("Role", "dev", allow={"logins": [LOGIN], "nodeLabels": {"env": ["prod"]}})
JOE = document("User", "joe", roles=["dev"])


class World:
    """Auth, a member that is proxy and node, and the operator: processes that share a backend, and Kubernetes."""

    def __init__(self, store: SharedStore, plane: ControlPlane, folder: Path, running: ExitStack) -> None:
        self.plane = plane
        self.folder = folder
        self.kubernetes = running.enter_context(Declaring(plane))
        running.callback(self.kubernetes.clear)
        self._running = running
        self._lease = f"test-{secrets.token_hex(4)}"
        self._config = folder / "operator.yaml"
        storage = {"data_dir": str(folder), "storage": store.section(store.operator)}
        self._config.write_text(json.dumps({"teleport": storage}))
        config = {"teleport": {"storage": store.section(store.auth)}}
        # At once: the operator, whose rights do not suffice to make a table, waits until auth has made it.
        self.auth = running.enter_context(Teleport(folder / "auth", ["auth"], config=config))
        self.auth.launch()
        self.operators = [self.start_operator()]
        self.auth.wait_for_log("ready: ")
        self.operators[0].wait_leads()
        self.member = self._join()
        self.joe = certify(self.auth, "joe", [LOGIN], roles=["dev"], storage=store.auth)

    def start_operator(self) -> Operator:
        """Start one more replica."""
        log = self.folder / f"operator-{secrets.token_hex(4)}.log"
        operator = Operator(self.plane.kubeconfig, self._config, log=log, lease=self._lease)
        return self._running.enter_context(operator)

    def _join(self) -> Teleport:
        """Start proxy and node with what is in the Secret of a Token that was declared."""
        token = document("Token", "members", roles=["proxy", "node"], labels={"env": "prod"})
        self.kubernetes.declare(token)
        self.kubernetes.wait(token)
        secret = self.kubernetes.secrets()["members-token"]
        member = Teleport(
            self.folder / "member", ["proxy", "node"], auth_servers=[self.auth.auth_address], token=secret["token"]
        )
        return self._running.enter_context(member).start()

    def apply(self, *documents: Object) -> None:
        """Run kubectl apply."""
        self.plane.kubectl("apply", "-f", "-", document={"apiVersion": "v1", "kind": "List", "items": documents})

    def edit(self, kind: str, name: str, **spec: Any) -> None:
        """Edit an object with kubectl."""
        patch = json.dumps({"spec": spec})
        self.plane.kubectl("patch", f"{kind}.teleport.internal", name, "--type=merge", f"--patch={patch}")

    def ssh(self, person: Person) -> Client:
        """Return somebody's ssh to the node."""
        return Client(self.member, person, self.folder / person.name, LOGIN)


@pytest.fixture(scope="module", params=STORES)
def world(
    request: pytest.FixtureRequest, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Run a cluster on a backend."""
    install(control_plane)
    folder = tmp_path_factory.mktemp(request.param)
    with shared_store(request.param, folder) as store, ExitStack() as running:
        yield World(store, control_plane, folder, running)


def effect(change: Callable[[], object], ssh: Client, *, lets_in: bool) -> float:
    """Change something, and return after how many seconds the first session was begun that goes by that."""
    change()
    changed = time.monotonic()
    while True:
        began = time.monotonic()
        done = ssh.run("echo in")
        if done.returncode == 0:
            assert done.stdout == b"in\n"
        else:
            assert (done.returncode, done.stdout) == (255, b"")
        if (done.returncode == 0) is lets_in:
            return began - changed
        assert began - changed < PATIENCE_SECONDS, done


def test_what_kubectl_edits_counts_for_the_next_session(world: World) -> None:
    """Logins and labels of a role let in and keep out within 5 s; a user that is deleted while auth is away is out."""
    ssh = world.ssh(world.joe)
    assert b"no user joe" in ssh.run("true").stderr
    dev, other = DEV["spec"]["allow"], {"logins": ["deploy"]}
    edits: list[tuple[dict[str, Any], bool]] = [
        ({"allow": {**dev, **other}}, False),
        ({"allow": dev}, True),
        ({"allow": {"nodeLabels": {"env": ["staging"]}}}, False),
        ({"allow": {"nodeLabels": {"env": ["staging", "prod"]}}}, True),
        ({"deny": {"nodeLabels": {"env": ["prod"]}}}, False),
        ({"deny": None}, True),
    ]
    took = [effect(lambda: world.apply(DEV, JOE), ssh, lets_in=True)]
    for spec, lets_in in edits:
        took.append(effect(lambda spec=spec: world.edit("role", "dev", **spec), ssh, lets_in=lets_in))  # type: ignore[misc]  # mypy infers no lambda with a default
    assert statistics.median(took) < EFFECT_SECONDS, took

    home = world.folder / "home"
    world.joe.log_in(home, world.member)
    through = Tsh(home).run("ssh", f"{LOGIN}@localhost", "echo in")
    assert (through.returncode, through.stdout) == (0, "in\n"), through.stderr

    world.auth.process.kill()
    world.plane.kubectl("delete", "user.teleport.internal", "joe", "--timeout=30s")
    collect_garbage(world.plane)
    assert effect(world.auth.start, ssh, lets_in=False) < DELETION_SECONDS
    assert b"no user joe" in ssh.run("true").stderr
    through = Tsh(home).run("ssh", f"{LOGIN}@localhost", "echo in")
    assert (through.returncode, through.stdout) == (255, ""), through.stderr


@pytest.mark.parametrize("world", ["etcd"], indirect=True)
def test_another_operator_goes_on_where_the_first_was_killed(world: World) -> None:
    """Of two with one Lease the one that works is killed: what is edited then counts as soon as the other leads."""
    ssh = world.ssh(world.joe)
    effect(lambda: world.apply(DEV, JOE), ssh, lets_in=True)
    standby = world.start_operator()
    standby.wait_said(WAITS)
    world.operators[0].kill()
    effect(lambda: world.edit("role", "dev", allow={"logins": ["deploy"]}), ssh, lets_in=False)
    assert standby.probe("readyz") == (200, "ok\n")
    assert effect(lambda: world.edit("role", "dev", allow={"logins": [LOGIN]}), ssh, lets_in=True) < PATIENCE_SECONDS
