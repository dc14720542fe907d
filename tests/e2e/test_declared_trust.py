"""A TrustedCluster that kubectl applies to a leaf: trust, tunnel and mapping in its conditions, with a real root."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.declaring import SECRETS, Declaring, Object, document, install, wait_for
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import Operator
from tests.servers.shared_store import shared_store
from tests.servers.teleport import Teleport


@dataclass
class World:
    """A root, and a leaf that is declared in Kubernetes."""

    root: Teleport
    leaf: Teleport
    kubernetes: Declaring

    def trusted(self, **spec: Any) -> Object:
        """Return the document of the root."""
        proxy = {"webAddr": self.root.web_address, "tunnelAddr": f"127.0.0.1:{self.root.tunnel_port}"}
        return document("TrustedCluster", "main", proxy=proxy, tokenSecretRef={"name": "join-main"}, **spec)

    def token(self, value: str = "") -> dict[str, str]:
        """Have the root make a token, and put it, or another value, into the Secret; return what is in it."""
        done = self.root.tctl("tokens", "add", "--type=trusted_cluster", "--format=json")
        assert done.returncode == 0, done.stderr
        created = json.loads(done.stdout)
        content = {"token": value or created["entry"]["token"], "caPin": created["ca_pin"]}
        metadata = {"name": "join-main", "labels": {"teleport.internal/secret": "true"}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": content}
        self.kubernetes.api.request("DELETE", f"{SECRETS}/join-main")
        self.kubernetes.api.done("POST", SECRETS, secret)
        return content

    def wait(self, **conditions: str) -> Object:
        """Wait until the object has these conditions, each with that reason; return its status."""
        status: Object = {}

        def unlike() -> list[str]:
            status.clear()
            status.update(self.kubernetes.found("TrustedCluster")["main"].get("status", {}))
            reasons = {each["type"]: each["reason"] for each in status.get("conditions", [])}
            return [f"{name} is {reasons.get(name)}" for name in conditions if reasons.get(name) != conditions[name]]

        wait_for(unlike)
        return status


@pytest.fixture(scope="module")
def world(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run both; the leaf's operator may touch no more of the storage than it should."""
    install(control_plane)
    folder: Path = tmp_path_factory.mktemp("trust")
    with shared_store("etcd", folder) as store, ExitStack() as running:
        kubernetes = running.enter_context(Declaring(control_plane))
        running.callback(kubernetes.clear)
        root = running.enter_context(Teleport(folder / "root", ("auth", "proxy")))
        config = {"teleport": {"storage": store.section(store.auth)}}
        leaf = running.enter_context(Teleport(folder / "leaf", ("auth", "proxy"), cluster="leaf", config=config))
        root.launch()
        leaf.launch()
        settings = folder / "operator.yaml"
        storage = {"data_dir": str(folder), "storage": store.section(store.operator)}
        settings.write_text(json.dumps({"teleport": storage}))
        operator = Operator(
            control_plane.kubeconfig, settings, log=folder / "operator.log", lease=f"test-{secrets.token_hex(4)}"
        )
        running.enter_context(operator)
        for teleport in (root, leaf):
            teleport.wait_for_log("ready: ")
        operator.wait_leads()
        yield World(root, leaf, kubernetes)


@pytest.mark.timeout(600)
def test_conditions_follow_what_happens(world: World) -> None:
    """A wrong token, the right one, the tunnel, a missing role, disabled, deleted: each is told where one looks."""
    kubernetes = world.kubernetes
    kubernetes.declare(world.trusted())
    world.wait(Synced="Reconciled", CATrusted="SecretNotFound", Ready="SecretNotFound")
    world.token("f" * 32)
    status = world.wait(CATrusted="TokenRefused", Ready="TokenRefused", TunnelConnected="NotConnected")
    (said,) = [each["message"] for each in status["conditions"] if each["type"] == "Ready"]
    assert "tctl tokens add --type=trusted_cluster" in said
    content = world.token()
    status = world.wait(
        Synced="Reconciled",
        CATrusted="Trusted",
        RoleMapValid="Reconciled",
        TunnelConnected="Connected",
        Ready="Reconciled",
    )
    assert content["caPin"] in status["caFingerprints"]
    assert status["lastHeartbeat"].endswith("Z")
    assert ("main", "TokenRefused") in kubernetes.events()

    kubernetes.declare(world.trusted(roleMap=[{"remote": "admin", "local": ["ops"]}]))
    world.wait(CATrusted="Trusted", RoleMapValid="RoleNotFound", Ready="RoleNotFound", TunnelConnected="Connected")
    kubernetes.declare(document("Role", "ops", allow={"logins": ["ops"]}))
    world.wait(RoleMapValid="Reconciled", Ready="Reconciled")

    kubernetes.declare(world.trusted(enabled=False))
    world.wait(CATrusted="Disabled", TunnelConnected="Disabled", Ready="Disabled")
    kubernetes.declare(world.trusted(enabled=True))
    world.wait(CATrusted="Trusted", Ready="Reconciled", TunnelConnected="Connected")

    kubernetes.delete(world.trusted())
    kubernetes.wait_gone(world.trusted())
    wait_for(lambda: [line for line in world.leaf.tctl("auth", "ls").stdout.splitlines() if line.startswith("main ")])
