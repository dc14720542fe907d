"""Roles and tokens declared to Kubernetes: what they say becomes true, and is said of them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runtime.backend.base import Backend
from runtime.backend.open import open_backend
from runtime.backend.options import SqliteOptions
from runtime.core.clock import SystemClock
from runtime.core.errors import NotFound
from runtime.core.resources import Origin, User, decode, encode
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import start_operator
from tests.servers.teleport import Teleport

CRDS = Path(__file__).parents[2] / "crds"
NAMESPACE = "default"
DRIFT_SECONDS = 5.0
"""How long what is changed elsewhere may stay."""
VALUE = "1f0e2d3c4b5a69788796a5b4c3d2e1f0"


def document(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    """Return a document of ours."""
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "teleport.internal/v1", "kind": kind, "metadata": metadata, "spec": spec}


@pytest.fixture
async def teleport(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Teleport]:
    """Run auth, for which the storage is the truth, and the operator on the same storage."""
    control_plane.kubectl("apply", "-f", CRDS)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRDS)
    settings = {"auth_service": {"dynamic_config": True}}
    with Teleport(tmp_path / "teleport", ["auth"], config=settings).start() as running:
        log = tmp_path / "operator.log"
        with await asyncio.to_thread(start_operator, control_plane, running.config_file, log=log):
            yield running


async def apply(control_plane: ControlPlane, body: dict[str, Any]) -> None:
    """Apply an object."""
    await asyncio.to_thread(control_plane.kubectl, "apply", "-f", "-", document=body)


async def delete(control_plane: ControlPlane, plural: str, name: str) -> None:
    """Delete one of our objects, and wait until it is gone."""
    await asyncio.to_thread(control_plane.kubectl, "delete", f"{plural}.teleport.internal", name, "--timeout=30s")


async def conditions(
    control_plane: ControlPlane, plural: str, name: str, *, ready: str, reason: str
) -> dict[str, dict[str, Any]]:
    """Wait until an object says so of its latest generation, and return its conditions by type."""
    async with asyncio.timeout(40):
        while True:
            found = await asyncio.to_thread(control_plane.get, f"{plural}.teleport.internal", name)
            by_type = {each["type"]: each for each in found.get("status", {}).get("conditions", [])}
            said = by_type.get("Ready", {})
            if (said.get("status"), said.get("reason"), said.get("observedGeneration")) == (
                ready,
                reason,
                found["metadata"]["generation"],
            ):
                return by_type
            await asyncio.sleep(0.2)


def node(teleport: Teleport, name: str, token: str) -> Teleport:
    """Return a node that has a token."""
    return Teleport(teleport.folder.parent / name, ("node",), auth_servers=[teleport.auth_address], token=token)


async def test_a_user_waits_for_its_role(control_plane: ControlPlane, teleport: Teleport) -> None:
    """Without the role the user is in the backend and not Ready, and says why; with it, it is, all by itself."""
    await apply(control_plane, document("User", "joe", roles=["dev"]))
    found = await conditions(control_plane, "users", "joe", ready="False", reason="RoleNotFound")
    assert found["Synced"]["status"] == "True"
    assert "has the role dev, which does not exist" in found["Ready"]["message"]
    await apply(control_plane, document("Role", "dev", allow={"logins": ["dev"]}))
    await conditions(control_plane, "roles", "dev", ready="True", reason="Reconciled")
    await conditions(control_plane, "users", "joe", ready="True", reason="Reconciled")
    assert "dev" in (await asyncio.to_thread(teleport.tctl, "users", "ls", "--all")).stdout

    # Kubernetes' roles are not tctl's to change, as its users are not: neither by apply nor by prune.
    theirs = '{"apiVersion": "teleport.internal/v1", "kind": "Role", "metadata": {"name": "NAME"}, "spec": {}}'
    refused = await asyncio.to_thread(teleport.tctl, "apply", "-f", "-", stdin=theirs.replace("NAME", "dev"))
    assert refused.returncode == 1
    assert "declared by kubernetes in namespace default, not by tctl" in refused.stderr
    pruned = await asyncio.to_thread(teleport.tctl, "apply", "--prune", "-f", "-", stdin=theirs.replace("NAME", "mine"))
    assert pruned.stdout == "Role 'mine' has been created\n"
    await delete(control_plane, "roles", "dev")
    await delete(control_plane, "users", "joe")
    assert "joe" not in (await asyncio.to_thread(teleport.tctl, "users", "ls", "--all")).stdout


async def test_a_node_joins_with_a_token_that_kubectl_applied(control_plane: ControlPlane, teleport: Teleport) -> None:
    """The operator puts a value into the Secret NAME-token; deleted, the token lets nobody in."""
    await apply(control_plane, document("Token", "web", roles=["node"], labels={"env": "prod"}))
    await conditions(control_plane, "tokens", "web", ready="True", reason="Reconciled")
    secret = await asyncio.to_thread(control_plane.get, "secret", "web-token")
    assert [(each["kind"], each["name"]) for each in secret["metadata"]["ownerReferences"]] == [("Token", "web")]
    value = base64.b64decode(secret["data"]["token"]).decode()
    with await asyncio.to_thread(node(teleport, "first", value).start):
        assert "env=prod" in (await asyncio.to_thread(teleport.tctl, "nodes", "ls")).stdout
    await delete(control_plane, "tokens", "web")
    late = node(teleport, "late", value)
    late.launch()
    assert await asyncio.to_thread(late.wait) == 1
    assert "the token is not valid" in late.log()
    await asyncio.to_thread(control_plane.kubectl, "delete", "secret", "web-token")


@pytest.fixture
async def backend(teleport: Teleport) -> AsyncIterator[Backend]:
    """Open the storage, as somebody does who goes behind everybody's back."""
    path = str(teleport.data_dir / "backend.sqlite")
    opened = await open_backend(SqliteOptions(path), clock=SystemClock())
    yield opened
    await opened.close()


async def logins(backend: Backend, name: str) -> tuple[str, ...]:
    """Return the logins of a user as the backend has them, none if there is no such user."""
    try:
        return decode(User, (await backend.get(f"resources/User/{name}")).value).spec.logins
    except NotFound:
        return ()


async def change(backend: Backend, name: str, *others: str) -> None:
    """Give a user other logins, in Kubernetes' name."""
    item = await backend.get(f"resources/User/{name}")
    user = decode(User, item.value)
    changed = user.model_copy(update={"spec": user.spec.model_copy(update={"logins": others})})
    assert changed.metadata.origin is Origin.KUBERNETES
    await backend.put(item.key, encode(changed))


async def until_put_back(backend: Backend, name: str) -> None:
    """Wait, for as long as it may take, until a user has its own name as its login again."""
    async with asyncio.timeout(DRIFT_SECONDS):
        while await logins(backend, name) != (name,):  # noqa: ASYNC110 (it is not told)
            await asyncio.sleep(0.05)


async def test_drift(control_plane: ControlPlane, teleport: Teleport, backend: Backend) -> None:
    """What is changed or deleted in the backend is put back within 5 s; with driftPolicy Report it is told of."""
    await apply(control_plane, document("User", "ann", logins=["ann"]))
    await apply(control_plane, document("User", "bob", logins=["bob"], driftPolicy="Report"))
    for name in ("ann", "bob"):
        await conditions(control_plane, "users", name, ready="True", reason="Reconciled")
    await change(backend, "ann", "root")
    await change(backend, "bob", "root")
    await until_put_back(backend, "ann")
    found = await conditions(control_plane, "users", "bob", ready="False", reason="Drifted")
    assert "spec.logins" in found["Synced"]["message"]
    assert await logins(backend, "bob") == ("root",)
    await backend.delete("resources/User/ann")
    await until_put_back(backend, "ann")
    reasons = await asyncio.to_thread(
        control_plane.kubectl, "get", "events", "-o", "jsonpath={.items[*].reason}", "--namespace", NAMESPACE
    )
    assert "DriftCorrected" in reasons
    assert "Drifted" in reasons.split()
    for name in ("ann", "bob"):
        await delete(control_plane, "users", name)
        assert await logins(backend, name) == ()


async def test_a_secret_of_ones_own_has_to_opt_in(control_plane: ControlPlane, teleport: Teleport) -> None:
    """Unlabelled it is not read, and the Token says how to label it; labelled, its value lets nodes in."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "mine", "namespace": NAMESPACE},
        "stringData": {"token": VALUE},
    }
    await apply(control_plane, secret)
    await apply(control_plane, document("Token", "own", roles=["node"], secretRef={"name": "mine"}))
    found = await conditions(control_plane, "tokens", "own", ready="False", reason="SecretNotOptedIn")
    assert "kubectl label secret mine teleport.internal/secret=true" in found["Ready"]["message"]
    assert VALUE not in str(found)
    await asyncio.to_thread(control_plane.kubectl, "label", "secret", "mine", "teleport.internal/secret=true")
    await conditions(control_plane, "tokens", "own", ready="True", reason="Reconciled")
    refused = await asyncio.to_thread(teleport.tctl, "tokens", "del", VALUE)
    assert "declared by a document: Token own" in refused.stderr
    await delete(control_plane, "tokens", "own")
    await asyncio.to_thread(control_plane.kubectl, "delete", "secret", "mine")
