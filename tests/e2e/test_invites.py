"""Users declared to Kubernetes sign up: the operator makes the link, auth and the proxy take it, and it is told."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest

from runtime.core.resources.user import RENEW_INVITE
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import start_operator
from tests.servers.people import sign_up, tsh_login
from tests.servers.teleport import Teleport, run

CRDS = Path(__file__).parents[2] / "crds"
SECONDS = 80.0


class Next(pyotp.TOTP):
    """A phone whose code of now is used up: it shows the next one, which is good already (RFC 6238 §5.2)."""

    def now(self) -> str:
        """Return that code."""
        return self.at(int(time.time()) + 30)


class Cluster:
    """Auth and proxy in one process, the operator in another, and the API server."""

    def __init__(self, control_plane: ControlPlane, teleport: Teleport, operator_log: Path) -> None:
        self.control_plane = control_plane
        self.teleport = teleport
        self.operator_log = operator_log

    def declare(self, kind: str, name: str, **spec: Any) -> None:
        """Apply a document."""
        document = {"apiVersion": "teleport.internal/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        self.control_plane.kubectl("apply", "-f", "-", document=document)

    def forget(self, kind: str, name: str) -> None:
        """Delete a document, and wait until it is gone."""
        self.control_plane.kubectl("delete", f"{kind}.teleport.internal", name, "--timeout=80s")

    def wait_invite(self, name: str, reason: str) -> dict[str, Any]:
        """Wait until the condition InviteReady of a user has that reason, and return the user's status."""
        deadline = time.monotonic() + SECONDS
        while True:
            status: dict[str, Any] = self.control_plane.get("users.teleport.internal", name).get("status", {})
            said = {each["type"]: each["reason"] for each in status.get("conditions", [])}
            if said.get("InviteReady") == reason:
                return status
            assert time.monotonic() < deadline, status
            time.sleep(0.1)

    def secret(self, name: str) -> dict[str, str]:
        """Return what a Secret holds."""
        data = self.control_plane.get("secret", name)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def told(self) -> str:
        """Return all that anybody is told or that is stored beside Secrets: logs, Events, objects, the storage."""
        shown = [self.operator_log.read_text(), self.teleport.log(), self.teleport.output()]
        shown += [json.dumps(self.control_plane.get(kind)) for kind in ("events", "users.teleport.internal")]
        files = [path for path in self.teleport.data_dir.rglob("*") if path.is_file()]
        return "".join([*shown, *(path.read_bytes().decode("latin-1") for path in files)])


@pytest.fixture(scope="module")
def cluster(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run them all."""
    control_plane.kubectl("apply", "-f", CRDS)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRDS)
    folder = tmp_path_factory.mktemp("invites")
    log = folder / "operator.log"
    settings = {"auth_service": {"dynamic_config": True}}
    with (
        Teleport(folder / "teleport", ["auth", "proxy"], config=settings).start() as teleport,
        start_operator(control_plane, teleport.config_file, log=log),
    ):
        yield Cluster(control_plane, teleport, log)


def test_a_user_of_kubernetes_signs_up(cluster: Cluster, tmp_path: Path) -> None:
    """With the link in the Secret, once; an annotation makes a new one, and everything before it is void."""
    cluster.declare("User", "joe", logins=["joe"], invite={"ttl": "10m"})
    cluster.wait_invite("joe", "Pending")
    invite = cluster.secret("joe-invite")
    assert invite["url"] == f"https://{cluster.teleport.web_address}/web/newuser/{invite['token']}"
    old_phone = sign_up(cluster.teleport, invite["url"])
    status = cluster.wait_invite("joe", "Consumed")
    assert status["invite"]["consumed"]
    assert status["invite"]["expires"] == invite["expires"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        sign_up(cluster.teleport, invite["url"])

    cluster.control_plane.kubectl("annotate", "users.teleport.internal", "joe", f"{RENEW_INVITE}=again")
    status = cluster.wait_invite("joe", "Pending")
    assert (status["invite"]["renewal"], "consumed" in status["invite"]) == ("again", False)
    refused = tsh_login(cluster.teleport, tmp_path / "old", "joe", old_phone)
    assert refused.returncode == 1
    assert "wrong user name, password or one-time password" in refused.stderr
    again = cluster.secret("joe-invite")
    assert again["token"] != invite["token"]
    phone = sign_up(cluster.teleport, again["url"])
    entered = tsh_login(cluster.teleport, tmp_path / "new", "joe", phone)
    assert entered.returncode == 0, entered.stderr
    cluster.wait_invite("joe", "Consumed")
    said = cluster.told()
    assert "joe" in said
    for secret in (invite, again):
        assert secret["token"] not in said


def test_who_is_declared_anew_is_somebody_else(cluster: Cluster, tmp_path: Path) -> None:
    """Nobody watches while a user goes and another one of the name comes: what the first logged in with is void."""
    cluster.declare("User", "ann", logins=["ann"])
    cluster.wait_invite("ann", "Pending")
    first = cluster.secret("ann-invite")
    phone = sign_up(cluster.teleport, first["url"])
    entered = tsh_login(cluster.teleport, tmp_path, "ann", phone)
    assert entered.returncode == 0, entered.stderr
    cluster.wait_invite("ann", "Consumed")
    cluster.teleport.stop()
    cluster.forget("users", "ann")
    # Without a controller manager nobody collects what has lost its owner.
    cluster.control_plane.kubectl("delete", "secret", "ann-invite")
    cluster.declare("User", "ann", logins=["ann"])
    cluster.wait_invite("ann", "Pending")
    cluster.teleport.start()
    listed = run("tsh", "ls", env={"TELEPORT_HOME": str(tmp_path), "SSH_AUTH_SOCK": ""})
    assert listed.returncode == 1
    assert "the certificate was issued to who was user ann before" in listed.stderr
    refused = tsh_login(cluster.teleport, tmp_path, "ann", Next(phone.secret))
    assert "wrong user name, password or one-time password" in refused.stderr
    with pytest.raises(urllib.error.HTTPError, match="403"):
        sign_up(cluster.teleport, first["url"])
    sign_up(cluster.teleport, cluster.secret("ann-invite")["url"])
    cluster.wait_invite("ann", "Consumed")


def test_a_tokens_secret_has_the_pin(cluster: Cluster, tmp_path: Path) -> None:
    """Token and pin are all that a node needs to join without believing anybody else."""
    cluster.declare("Token", "nodes", roles=["node"])
    cluster.control_plane.kubectl("wait", "--for=condition=Ready", "--timeout=80s", "tokens.teleport.internal/nodes")
    secret = cluster.secret("nodes-token")
    node = Teleport(
        tmp_path / "node",
        ["node"],
        auth_servers=[cluster.teleport.auth_address],
        token=secret["token"],
        ca_pin=secret["caPin"],
    )
    with node.start():
        assert "the first server that answers" not in node.log()
