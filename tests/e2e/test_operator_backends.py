"""The operator on each backend, with no more rights there than it needs: a file, etcd by role, DynamoDB by policy."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from runtime.backend.base import Backend, Snapshot
from runtime.backend.open import open_backend
from runtime.backend.options import Options
from runtime.core.clock import SystemClock
from runtime.core.errors import AccessDenied
from runtime.core.keys import RESOURCES, resource
from runtime.core.resources import Origin, Resource, Role, Token, User, encode, read_object
from runtime.core.resources.token import digest_of
from tests.e2e.declaring import Declaring, Object, all_stored, document, install, stored, until
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import Operator
from tests.servers.shared_store import STORES, SharedStore, shared_store

WAITS_FOR_BACKEND = "waiting for the backend: "
DRIFT_SECONDS = 5.0
"""How long what somebody else changed may stay."""


class Place:
    """A backend, and the operator that runs on it at the moment."""

    def __init__(self, store: SharedStore, plane: ControlPlane, folder: Path, running: ExitStack) -> None:
        self.store = store
        self._plane = plane
        self._folder = folder
        self._running = running
        self._config = folder / "teleport.yaml"
        storage = store.section(store.operator)
        self._config.write_text(json.dumps({"teleport": {"data_dir": str(folder), "storage": storage}}))
        self._logs: list[Path] = []
        self.launch()
        if store.name == "dynamodb":
            self.operator.wait_said(WAITS_FOR_BACKEND)  # it may not make the table
        asyncio.run(_make(store))
        self.operator.wait_leads()

    def launch(self) -> None:
        """Start an operator in the place of one that was killed, for whose Lease nobody waits."""
        self._logs.append(self._folder / f"operator-{len(self._logs)}.log")
        lease = f"test-{secrets.token_hex(4)}"
        self.operator = Operator(self._plane.kubeconfig, self._config, log=self._logs[-1], lease=lease)
        self._running.callback(self.operator.stop)

    def said(self) -> str:
        """Return what all of them have logged."""
        return "".join(each.read_text(errors="replace") for each in self._logs)

    async def open(self, options: Options) -> Backend:
        """Open the backend once more."""
        return await open_backend(options, clock=SystemClock())


@pytest.fixture(scope="module", params=STORES)
def place(
    request: pytest.FixtureRequest, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Run a backend and the operator on it, which may touch what it has to, and no more."""
    install(control_plane)
    folder = tmp_path_factory.mktemp(request.param)
    with shared_store(request.param, folder) as store, ExitStack() as running:
        yield Place(store, control_plane, folder, running)


async def _make(store: SharedStore) -> None:
    """Make the backend as auth does, and see that the operator's rights are not auth's."""
    await (await open_backend(store.auth, clock=SystemClock())).close()
    if store.operator == store.auth:
        return
    as_operator = await open_backend(store.operator, clock=SystemClock())
    try:
        for key in ("authority/local/user", "secrets/users/joe", "presence/node/a"):
            with pytest.raises(AccessDenied):
                await as_operator.get(key)
    finally:
        await as_operator.close()
        store.refused.clear()


@pytest.fixture
async def backend(place: Place) -> AsyncIterator[Backend]:
    """Open the backend as auth does; and see that the operator was refused nothing while the test ran."""
    opened = await place.open(place.store.auth)
    yield opened
    await opened.close()
    assert place.store.refused == []
    assert "denied" not in place.said()
    assert "Traceback" not in place.said()


@pytest.fixture
def kubernetes(place: Place, control_plane: ControlPlane) -> Iterator[Declaring]:
    """Declare to Kubernetes; what is left at the end is removed while the operator still runs."""
    with Declaring(control_plane) as declaring:
        yield declaring
        declaring.clear()


def in_thread(work: Callable[..., object], *arguments: object, **named: object) -> Awaitable[object]:
    """Call what blocks."""
    return asyncio.to_thread(partial(work, *arguments, **named))


async def logins(backend: Backend, name: str) -> tuple[str, ...]:
    """Return the logins that the backend has for a user; none if it has no such user."""
    found = await stored(backend, "User", name)
    return found.spec.logins if isinstance(found, User) else ()


async def has(backend: Backend, name: str, *expected: str) -> bool:
    """Return whether the backend has these logins for a user."""
    return await logins(backend, name) == expected


def declared_by(origin: Origin, body: Object) -> Resource:
    """Return a document as that origin would have stored it."""
    return read_object({**body}, source="the test").with_origin(origin)


async def behind(backend: Backend, body: Object) -> None:
    """Write something else, in Kubernetes' name, behind everybody's back."""
    await backend.put(resource("User", body["metadata"]["name"]), encode(declared_by(Origin.KUBERNETES, body)))


def hundred(login: str, ttl: str) -> list[Object]:
    """Return as many documents: roles, users who are invited, and tokens, in no order."""
    documents = [
        *(document("Role", f"role-{number}", allow={"logins": [login]}) for number in range(50)),
        *(document("User", f"user-{number}", logins=[login]) for number in range(40)),
        *(document("Token", f"token-{number}", roles=["node"], ttl=ttl) for number in range(10)),
    ]
    random.Random(7).shuffle(documents)
    return documents


async def test_killed_amid_the_work(place: Place, kubernetes: Declaring, backend: Backend) -> None:
    """Killed with -9 five times while a hundred objects are made, changed and deleted: nothing is lost or doubled."""

    async def killed(work: Callable[..., None], documents: list[Object]) -> None:
        """Kill the operator half way through these documents, and launch another."""
        async with aclosing(backend.watch(f"{RESOURCES}/")) as events:
            assert isinstance(await anext(events), Snapshot)
            working = asyncio.create_task(asyncio.to_thread(work, *documents))
            for _ in range(len(documents) // 2):
                await anext(events)
            place.operator.kill()
            await working
        await in_thread(place.launch)

    everything = hundred("b", "2h")
    await killed(kubernetes.declare, hundred("a", "1h"))
    await killed(kubernetes.declare, everything[:50])
    await killed(kubernetes.declare, everything[50:])
    await in_thread(kubernetes.wait, *everything)
    found = await all_stored(backend)
    assert set(found) == {(each["kind"], each["metadata"]["name"]) for each in everything}
    in_secrets = await asyncio.to_thread(kubernetes.secrets)
    known = {}
    for one in found.values():
        match one:
            case Role():
                assert one.spec.allow.logins == ("b",)
            case User():
                assert one.spec.logins == ("b",)
                known[f"{one.name}-invite"] = one.metadata.invite.digest if one.metadata.invite else None
            case Token():
                assert one.spec.ttl == timedelta(hours=2)
                known[f"{one.name}-token"] = one.metadata.issued.digest if one.metadata.issued else None
    assert {name: digest_of(held["token"]) for name, held in in_secrets.items()} == known

    await killed(kubernetes.delete, everything[:50])
    await killed(kubernetes.delete, everything[50:])
    await in_thread(kubernetes.wait_gone, *everything)
    assert await all_stored(backend) == {}


async def test_declared_changed_and_deleted(kubernetes: Declaring, backend: Backend) -> None:
    """What a document says is in the backend as long as there is the document, in Kubernetes' name."""
    role, joe = document("Role", "dev", allow={"logins": ["dev"]}), document("User", "joe", roles=["dev"])
    await in_thread(kubernetes.declare, joe)
    waiting = await asyncio.to_thread(kubernetes.wait, joe, reason="RoleNotFound")
    assert "has the role dev" in waiting["message"]
    await in_thread(kubernetes.declare, role)
    await in_thread(kubernetes.wait, role, joe)
    found = await stored(backend, "User", "joe")
    assert found is not None
    assert (found.metadata.origin, found.metadata.namespace) == (Origin.KUBERNETES, "default")
    changed = document("User", "joe", roles=["dev"], logins=["joe"])
    await in_thread(kubernetes.declare, changed)
    await in_thread(kubernetes.wait, changed)
    assert await logins(backend, "joe") == ("joe",)
    await in_thread(kubernetes.delete, joe, role)
    await in_thread(kubernetes.wait_gone, joe, role)
    assert await all_stored(backend) == {}


async def test_what_somebody_else_changes(kubernetes: Declaring, backend: Backend) -> None:
    """It is put back within 5 s, or told of where the document wants that; an Event says which."""
    ann, bob = document("User", "ann", logins=["ann"]), document("User", "bob", logins=["bob"], driftPolicy="Report")
    await in_thread(kubernetes.declare, ann, bob)
    await in_thread(kubernetes.wait, ann, bob)
    await behind(backend, document("User", "ann", logins=["root"]))
    await behind(backend, document("User", "bob", logins=["root"], driftPolicy="Report"))
    await until(lambda: has(backend, "ann", "ann"), timeout=DRIFT_SECONDS)
    drifted = await asyncio.to_thread(kubernetes.wait, bob, reason="Drifted")
    assert "spec.logins" in drifted["message"]
    assert await logins(backend, "bob") == ("root",)
    await backend.delete(resource("User", "ann"))
    await until(lambda: has(backend, "ann", "ann"), timeout=DRIFT_SECONDS)
    told = await asyncio.to_thread(kubernetes.events)
    assert ("ann", "DriftCorrected") in told
    assert ("bob", "Drifted") in told
    await in_thread(kubernetes.delete, ann, bob)
    await in_thread(kubernetes.wait_gone, ann, bob)
    assert await all_stored(backend) == {}


async def test_a_name_that_tctl_has(kubernetes: Declaring, backend: Backend) -> None:
    """It is left alone, also by the document's deletion, until a document adopts it."""
    body = document("User", "eve", logins=["eve"])
    theirs = declared_by(Origin.TCTL, document("User", "eve", logins=["theirs"]))
    await backend.put(resource("User", "eve"), encode(theirs))
    await in_thread(kubernetes.declare, body)
    refused = await asyncio.to_thread(kubernetes.wait, body, reason="OwnedByAnother")
    assert "declared by tctl" in refused["message"]
    await in_thread(kubernetes.delete, body)
    await in_thread(kubernetes.wait_gone, body)
    assert await stored(backend, "User", "eve") == theirs
    adopting = document("User", "eve", adopt=True, logins=["eve"])
    await in_thread(kubernetes.declare, adopting)
    await in_thread(kubernetes.wait, adopting)
    adopted = await stored(backend, "User", "eve")
    assert adopted is not None
    assert adopted.metadata.origin is Origin.KUBERNETES
    assert await logins(backend, "eve") == ("eve",)
    await in_thread(kubernetes.delete, adopting)
    await in_thread(kubernetes.wait_gone, adopting)
    assert await all_stored(backend) == {}


async def test_the_value_of_a_token(kubernetes: Declaring, backend: Backend) -> None:
    """It is in a Secret of the Token's; the backend has its digest only, and follows when the value is changed."""
    token = document("Token", "web", roles=["node"])
    await in_thread(kubernetes.declare, token)
    await in_thread(kubernetes.wait, token)
    secret = (await asyncio.to_thread(kubernetes.secrets))["web-token"]
    item = await backend.get(resource("Token", "web"))
    assert digest_of(secret["token"]).encode() in item.value
    assert secret["token"].encode() not in item.value
    await in_thread(kubernetes.delete, token)
    await in_thread(kubernetes.wait_gone, token)
    assert await all_stored(backend) == {}


async def test_the_backend_goes_and_comes(place: Place, kubernetes: Declaring, backend: Backend) -> None:
    """Documents say that it is away; when it is back, they are carried out, and what was changed before is put back."""
    ann, bob = document("User", "ann", logins=["ann"]), document("User", "bob", logins=["bob"])
    await in_thread(kubernetes.declare, ann)
    await in_thread(kubernetes.wait, ann)
    await behind(backend, document("User", "ann", logins=["root"]))
    await in_thread(place.store.go_away)
    try:
        await in_thread(kubernetes.declare, bob)
        await in_thread(kubernetes.wait, bob, reason="Unavailable")
        if place.store.name == "sqlite":  # the file can still be read: what was changed before is seen now
            await in_thread(kubernetes.wait, ann, reason="Unavailable")
        assert place.operator.probe("healthz") == (200, "ok\n")
    finally:
        await in_thread(place.store.come_back)
    await in_thread(kubernetes.wait, ann)
    await until(lambda: has(backend, "ann", "ann"))
    await in_thread(kubernetes.wait, bob)
    await behind(backend, document("User", "ann", logins=["root"]))
    await until(lambda: has(backend, "ann", "ann"))
    assert await logins(backend, "bob") == ("bob",)
    assert place.operator.running
    await in_thread(kubernetes.delete, ann, bob)
    await in_thread(kubernetes.wait_gone, ann, bob)
    assert await all_stored(backend) == {}
