"""Roles and tokens declared to Kubernetes: what they say becomes true, and is said of them."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.backend.base import Backend
from runtime.backend.open import open_backend
from runtime.backend.options import SqliteOptions
from runtime.core.clock import SystemClock
from runtime.core.errors import NotFound
from runtime.core.resources import DECLARED, Origin, Token, User, decode, encode
from tests.e2e.declaring import collect_garbage
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


@pytest.fixture(scope="module")
def teleport(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Run auth, for which the storage is the truth, and the operator on the same storage."""
    control_plane.kubectl("apply", "-f", CRDS)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRDS)
    settings = {"auth_service": {"dynamic_config": True}}
    folder = tmp_path_factory.mktemp("declared")
    with (
        Teleport(folder / "teleport", ["auth"], config=settings).start() as running,
        start_operator(control_plane, running.config_file, log=folder / "operator.log"),
    ):
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
    assert (await asyncio.to_thread(teleport.tctl, "rm", "role/mine")).returncode == 0
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


CLUSTER = {
    "roles.yaml": """
# Two documents in one file.
apiVersion: teleport.internal/v1
kind: Role
metadata: {name: dev, labels: {team: web}}
spec:
  allow: {logins: [dev], nodeLabels: {env: [staging, test]}}
  options: {maxSessionTTL: 8h}
---
apiVersion: teleport.internal/v1
kind: Role
metadata: {name: audit}
spec:
  allow:
    rules: [{resources: [session, event], verbs: [list, read]}]
""",
    "people.yml": """
apiVersion: v1
kind: List
items:
  - apiVersion: teleport.internal/v1
    kind: User
    metadata: {name: joe}
    spec: {roles: [dev, audit], logins: [joe]}
  - apiVersion: teleport.internal/v1
    kind: User
    metadata: {name: ann, annotations: {note: on leave}}
    spec: {roles: [audit], driftPolicy: Report}
""",
    "token.json": """
{"apiVersion": "teleport.internal/v1", "kind": "Token", "metadata": {"name": "web"},
 "spec": {"roles": ["node"], "ttl": "1h", "maxUses": 3, "secretRef": {"name": "web-value"}}}
""",
    "web-value.yaml": f"""
apiVersion: v1
kind: Secret
metadata: {{name: web-value, labels: {{teleport.internal/secret: "true"}}}}
stringData: {{token: {VALUE}}}
""",
    "settings.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: b}\n",
    "README.md": "No document: neither of them reads this.\n",
    "more/ops.yaml": "apiVersion: teleport.internal/v1\nkind: Role\nmetadata: {name: ops}\nspec: {}\n",
}
"""A folder as people keep it under version control."""

OURS = ("roles.teleport.internal", "tokens.teleport.internal", "users.teleport.internal")


def write_folder(folder: Path) -> None:
    """Write CLUSTER."""
    for name, text in CLUSTER.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read_by_kubectl(control_plane: ControlPlane, *words: str) -> set[tuple[str, str]]:
    """Return kind and name of our documents that kubectl finds."""
    found = json.loads(control_plane.kubectl("apply", "--dry-run=client", "-o", "json", *words))
    items = [each for each in found["items"] if each["apiVersion"] == "teleport.internal/v1"]
    return {(each["kind"], each["metadata"]["name"]) for each in items}


def planned(teleport: Teleport, *words: str, code: int) -> set[tuple[str, str]]:
    """Return kind and name of the documents that tctl plan finds; it ends with that exit code."""
    done = teleport.tctl("plan", "--format=json", *words)
    assert done.returncode == code, done.stdout + done.stderr
    return {(each["kind"], each["name"]) for each in json.loads(done.stdout)["steps"]}


async def declared(backend: Backend) -> dict[str, tuple[object, str]]:
    """Return what the backend has, whoever declared it: the spec, and the digest of a token's value."""
    found: dict[str, tuple[object, str]] = {}
    for item in (await backend.range("resources/")).items:
        resource = decode(DECLARED[item.key.split("/")[1]], item.value)
        issued = resource.metadata.issued if isinstance(resource, Token) else None
        found[item.key] = (resource.spec, issued.digest if issued else "")
    return found


async def test_kubectl_and_tctl_take_the_same_files(
    control_plane: ControlPlane, teleport: Teleport, backend: Backend, tmp_path: Path
) -> None:
    """A folder, stdin, Lists, JSON: both read the same documents in it, and leave the same in the backend."""
    folder = tmp_path / "cluster"
    write_folder(folder)
    flat, deep = ("-f", str(folder)), ("-R", "-f", str(folder))
    people = {("User", "joe"), ("User", "ann")}
    everything = {("Role", "dev"), ("Role", "audit"), ("Role", "ops"), ("Token", "web"), *people}
    assert await asyncio.to_thread(planned, teleport, *flat, code=2) == everything - {("Role", "ops")}
    assert await asyncio.to_thread(read_by_kubectl, control_plane, *flat) == everything - {("Role", "ops")}

    await asyncio.to_thread(control_plane.kubectl, "apply", *deep)
    for kind, name in everything:
        await conditions(control_plane, f"{kind.lower()}s", name, ready="True", reason="Reconciled")
    by_kubectl = await declared(backend)
    assert set(by_kubectl) == {f"resources/{kind}/{name}" for kind, name in everything}
    printed = await asyncio.to_thread(control_plane.kubectl, "get", ",".join(OURS), "-o", "yaml")
    assert await asyncio.to_thread(planned, teleport, *deep, code=1) == everything  # they are Kubernetes' own
    await asyncio.to_thread(control_plane.kubectl, "delete", *deep, "--timeout=30s")
    await asyncio.to_thread(collect_garbage, control_plane)
    assert await declared(backend) == {}

    applied = await asyncio.to_thread(teleport.tctl, "apply", "-f", "-", f"--secrets={folder}", stdin=printed)
    assert applied.returncode == 0, applied.stderr
    assert await declared(backend) == by_kubectl
    assert await asyncio.to_thread(planned, teleport, *deep, code=0) == everything

    # Now the names are tctl's: kubectl's documents say so, and a pruned one is free for them.
    (folder / "more" / "ops.yaml").unlink()
    people_file = (folder / "people.yml").rename(tmp_path / "people.yml")
    await asyncio.to_thread(control_plane.kubectl, "apply", "-f", str(people_file))
    for _, name in people:
        await conditions(control_plane, "users", name, ready="False", reason="OwnedByAnother")
    assert await asyncio.to_thread(planned, teleport, *deep, "--prune", code=2) == everything
    pruned = await asyncio.to_thread(teleport.tctl, "apply", *deep, "--prune")
    assert pruned.returncode == 0, pruned.stderr
    for _, name in people:
        await conditions(control_plane, "users", name, ready="True", reason="Reconciled")
    assert await declared(backend) == {key: each for key, each in by_kubectl.items() if key != "resources/Role/ops"}
    await asyncio.to_thread(control_plane.kubectl, "delete", "-f", str(people_file), "--timeout=30s")
    nothing = await asyncio.to_thread(teleport.tctl, "rm", "role/dev", "role/audit", "token/web")
    assert nothing.returncode == 0, nothing.stderr
