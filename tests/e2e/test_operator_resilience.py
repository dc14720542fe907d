"""What goes wrong around the operator, and what it makes of it: nothing is lost, and nothing else waits for it."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from runtime.backend.base import Backend
from runtime.core.keys import resource
from runtime.core.resources import Origin, Resource, User, encode
from tests.e2e.declaring import Declaring, Object, all_stored, document, install, until, wait_for
from tests.e2e.faulty_proxy import FaultyProxy
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import Operator

SECRETS = "/api/v1/namespaces/default/secrets"
BROKEN = 210
GOOD = 20
GOOD_SECONDS = 30.0
"""How long the good ones may take among the broken ones, on a busy machine; alone on one they take two."""
VALUE = "1f0e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.fixture
def kubernetes(control_plane: ControlPlane) -> Iterator[Declaring]:
    """Declare things; they are gone after the test."""
    install(control_plane)
    declaring = Declaring(control_plane)
    yield declaring
    declaring.clear()
    declaring.close()


def kubeconfig(control_plane: ControlPlane, folder: Path, url: str) -> Path:
    """Return a kubeconfig that leads to another address."""
    there = json.loads(control_plane.kubeconfig.read_text())
    there["clusters"][0]["cluster"] = {"server": url}
    path = folder / "proxy.conf"
    path.write_text(json.dumps(there))
    return path


async def test_the_api_server_has_forgotten_what_happened(
    control_plane: ControlPlane, kubernetes: Declaring, config: Path, backend: Backend, tmp_path: Path
) -> None:
    """Its 410 Gone, on every watch at once, has everything listed anew; what changed meanwhile is done."""
    put_secret(kubernetes, VALUE)
    mine = document("Token", "mine", roles=["node"], secretRef={"name": "mine"})
    async with FaultyProxy(control_plane.url, control_plane.authority.folder) as proxy:
        path = kubeconfig(control_plane, tmp_path, proxy.url)
        with Operator(path, config, log=tmp_path / "operator.log") as operator:
            await asyncio.to_thread(operator.wait_leads)
            await asyncio.to_thread(kubernetes.declare, mine, *users("a", 3))
            await asyncio.to_thread(kubernetes.wait, mine, *users("a", 3))
            before = await all_stored(backend)
            proxy.too_old = True
            await proxy.end_watches()
            watched = {"users", "roles", "tokens", "trustedclusters", "secrets"}
            await asyncio.to_thread(wait_for, lambda: watched - set(proxy.forgotten))
            put_secret(kubernetes, VALUE[::-1])
            await asyncio.to_thread(kubernetes.declare, *users("b", 3))
            proxy.too_old = False
            await asyncio.to_thread(kubernetes.wait, *users("b", 3))
            await until(lambda: differs(backend, before))
            assert operator.running
            assert operator.probe("healthz") == (200, "ok\n")
            assert "starting anew" not in operator.log.read_text()


async def test_the_api_server_has_too_much_to_do(
    control_plane: ControlPlane, kubernetes: Declaring, config: Path, backend: Backend, tmp_path: Path
) -> None:
    """Its 429 is waited for; a hundred of them in a row lose nothing, and no object is set aside."""
    async with FaultyProxy(control_plane.url, control_plane.authority.folder) as proxy:
        path = kubeconfig(control_plane, tmp_path, proxy.url)
        with Operator(path, config, log=tmp_path / "operator.log") as operator:
            await asyncio.to_thread(operator.wait_leads)
            proxy.refuse = 100
            await asyncio.to_thread(kubernetes.declare, *users("a", 40))
            await asyncio.to_thread(kubernetes.wait, *users("a", 40))
            assert proxy.refused == 100
            assert len(await all_stored(backend)) == 40
            assert operator.metric("teleport_operator_throttled_total") == 0
            assert "starting anew" not in operator.log.read_text()


async def test_hundreds_of_broken_documents_do_not_hold_up_the_good_ones(
    control_plane: ControlPlane, kubernetes: Declaring, config: Path, backend: Backend, tmp_path: Path
) -> None:
    """Names that others have, roles and Secrets that are missing: each says so, and good ones are ready in seconds."""
    taken = users("a", BROKEN // 3, name="taken")
    for each in taken:
        theirs = User.model_validate({**each, "metadata": {"name": each["metadata"]["name"]}})
        await backend.put(resource("User", theirs.name), encode(theirs.with_origin(Origin.TCTL)))
    roleless = [document("User", f"roleless-{place}", roles=["gone"]) for place in range(BROKEN // 3)]
    lost = BROKEN - len(taken) - len(roleless)
    secretless = [
        document("User", f"secretless-{place}", logins=["a"], credentialsSecretRef={"name": "gone"})
        for place in range(lost)
    ]
    await asyncio.to_thread(kubernetes.declare, *taken, *roleless, *secretless)
    with Operator(control_plane.kubeconfig, config, log=tmp_path / "operator.log") as operator:
        await asyncio.to_thread(operator.wait_leads)
        reasons = {"taken": "OwnedByAnother", "roleless": "RoleNotFound", "secretless": "SecretNotFound"}
        await asyncio.to_thread(wait_reasons, kubernetes, reasons)
        started = time.monotonic()
        for login in ("a", "b"):
            good = users(login, GOOD, name="good")
            await asyncio.to_thread(kubernetes.declare, *good)
            await asyncio.to_thread(kubernetes.wait, *good)
        assert time.monotonic() - started < GOOD_SECONDS
        assert operator.probe("healthz") == (200, "ok\n")


async def test_a_cold_start_on_what_has_not_changed_writes_nothing(
    control_plane: ControlPlane, kubernetes: Declaring, config: Path, backend: Backend, tmp_path: Path
) -> None:
    """Neither to the backend, nor to the objects, nor to Secrets, whatever the kind."""
    put_secret(kubernetes, VALUE)
    everything = [
        document("Role", "dev", allow={"logins": ["dev"]}),
        document("Token", "mine", roles=["node"], ttl="30h", secretRef={"name": "mine"}),
        document("Token", "made", roles=["node"], ttl="30h"),
        *users("a", 20, roles=["dev"]),
    ]
    lease = f"test-{secrets.token_hex(4)}"
    await asyncio.to_thread(kubernetes.declare, *everything)
    with Operator(control_plane.kubeconfig, config, log=tmp_path / "first.log", lease=lease) as operator:
        await asyncio.to_thread(operator.wait_leads)
        await asyncio.to_thread(kubernetes.wait, *everything)
        await asyncio.to_thread(operator.stop)
    before = (await backend.range("resources/")).items, versions(kubernetes)
    with Operator(control_plane.kubeconfig, config, log=tmp_path / "second.log", lease=lease) as operator:
        await asyncio.to_thread(operator.wait_leads)
        looked = {"Role": 1, "Token": 2, "User": 20}
        await asyncio.to_thread(operator.wait_until, lambda: unchanged(operator) == looked, timeout=60)
        written = [line for line in operator.probe("metrics")[1].splitlines() if 'result="written"' in line]
        assert written == []
        await asyncio.to_thread(operator.stop)
    assert ((await backend.range("resources/")).items, versions(kubernetes)) == before


async def differs(backend: Backend, before: Mapping[tuple[str, str], Resource]) -> bool:
    """Return whether the backend has another value of the token `mine` than before."""
    return (await all_stored(backend))["Token", "mine"] != before["Token", "mine"]


def users(login: str, count: int, *, name: str = "user", roles: list[str] | None = None) -> list[Object]:
    """Return documents of users who may log in so."""
    return [document("User", f"{name}-{place}", logins=[login], roles=roles or []) for place in range(count)]


def put_secret(kubernetes: Declaring, value: str) -> None:
    """Have the Secret `mine` hold a token's value."""
    metadata = {"name": "mine", "labels": {"teleport.internal/secret": "true"}}
    secret = {"metadata": metadata, "data": {"token": base64.b64encode(value.encode()).decode()}}
    if kubernetes.api.request("POST", SECRETS, secret)[0] == 409:
        kubernetes.api.done("PUT", f"{SECRETS}/mine", secret)


def wait_reasons(kubernetes: Declaring, reasons: dict[str, str]) -> None:
    """Wait until all users whose names begin so give that reason."""

    def unlike() -> list[str]:
        found = kubernetes.found("User")
        ready = kubernetes.ready("User")
        return [
            name
            for name in found
            if (kind := name.rpartition("-")[0]) in reasons and ready.get(name, {}).get("reason") != reasons[kind]
        ]

    wait_for(unlike, timeout=90)


def versions(kubernetes: Declaring) -> dict[str, str]:
    """Return the resourceVersion of each object and each Secret."""
    kinds = [kubernetes.found(kind) for kind in ("User", "Role", "Token")]
    there = [each for kind in kinds for each in kind.values()] + kubernetes.api.done("GET", SECRETS)["items"]
    return {each["metadata"]["uid"]: each["metadata"]["resourceVersion"] for each in there}


def unchanged(operator: Operator) -> dict[str, float]:
    """Return how many documents of each kind were looked at, and were as declared."""
    head, found = "teleport_operator_reconciles_total{kind=", {}
    for line in operator.probe("metrics")[1].splitlines():
        if line.startswith(head) and 'result="unchanged"' in line:
            found[line.split('"')[1]] = float(line.rpartition(" ")[2])
    return found
