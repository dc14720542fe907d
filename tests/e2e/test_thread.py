"""The first thread through everything: what is declared to Kubernetes decides who gets in by ssh."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runtime.auth.authorities import LocalAuthorities, ensure_authorities
from runtime.backend.base import Backend
from runtime.backend.open import open_backend
from runtime.backend.options import SqliteOptions
from runtime.core.clock import SystemClock
from runtime.core.errors import AccessDenied, NotFound
from runtime.core.keys import resource
from runtime.core.resources import Origin, User, decode, encode
from runtime.pki.claims import HostClaims, MemberRole
from runtime.pki.export import export_authority, trusted_user_ca_keys
from runtime.pki.keys import PrivateKey, generate_key
from runtime.pki.signing import random_serial, sign_host
from tests.e2e.follower import Follower
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import start_operator
from tests.servers.processes import Process
from tests.servers.sshd import LOGIN, Sshd

CRDS = Path(__file__).parents[2] / "crds"
CLOCK = SystemClock()
HOUR = timedelta(hours=1)
HOST = "db1.main"


@pytest.fixture(scope="module")
def crds(control_plane: ControlPlane) -> None:
    """Declare the custom resources."""
    control_plane.kubectl("apply", "-f", CRDS)
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRDS)


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[Backend]:
    """Open the SQLite file that the operator, another process, writes."""
    opened = await open_backend(SqliteOptions(str(tmp_path / "backend.sqlite")), clock=CLOCK)
    yield opened
    await opened.close()


@pytest.fixture
async def authorities(backend: Backend) -> LocalAuthorities:
    """Make the authorities of cluster main."""
    return await ensure_authorities(backend, "main", clock=CLOCK)


@pytest.fixture
async def follower(backend: Backend, authorities: LocalAuthorities) -> AsyncIterator[Follower]:
    """Follow the backend as auth will."""
    following = Follower(backend, authorities, clock=CLOCK)
    task = asyncio.create_task(following.follow())
    yield following
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write the teleport.yaml that the operator shares with auth."""
    path = tmp_path / "teleport.yaml"
    path.write_text(f"teleport:\n  data_dir: {tmp_path}\n  storage:\n    type: sqlite\n    path: backend.sqlite\n")
    return path


@pytest.fixture
def operator(control_plane: ControlPlane, crds: None, config: Path, tmp_path: Path) -> Iterator[Process]:
    """Run the operator on the same backend."""
    with start_operator(control_plane, config, log=tmp_path / "operator.log") as running:
        yield running


@dataclass
class Host:
    """An sshd that trusts the user CA, and a client who trusts the host CA and has a key."""

    sshd: Sshd
    known_hosts: str
    key: PrivateKey

    def login(self, certificate: bytes) -> str:
        """Log in with the real ssh as whoever runs this, and return what the command there printed."""
        key = self.key.to_openssh()
        return self.sshd.ssh(HOST, key=key, certificate=certificate, known_hosts=self.known_hosts).stdout


@pytest.fixture
def host(authorities: LocalAuthorities, tmp_path: Path) -> Iterator[Host]:
    """Serve as db1.main."""
    key = generate_key()
    claims = HostClaims(host_id=str(uuid.uuid4()), role=MemberRole.NODE, name="db1", cluster="main", ttl=HOUR)
    signer = authorities.host.signer
    certificate = sign_host(claims, key.public, signer=signer, now=CLOCK.now(), serial=random_serial())
    folder = tmp_path / "sshd"
    folder.mkdir()
    with Sshd(
        folder,
        host_key=key.to_openssh(),
        host_certificate=certificate.line,
        trusted_user_ca_keys=trusted_user_ca_keys([authorities.user.signer.public]),
    ) as sshd:
        yield Host(sshd, export_authority(signer.public) + "\n", generate_key())


def user(name: str, *logins: str) -> dict[str, Any]:
    """Return a document of kind User."""
    return {
        "apiVersion": "teleport.internal/v1",
        "kind": "User",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"logins": list(logins)},
    }


async def wait_ready(control_plane: ControlPlane, name: str, status: str) -> dict[str, Any]:
    """Wait for the condition Ready of a User to be `status` for its latest generation, and return the condition."""
    await asyncio.to_thread(
        control_plane.kubectl,
        "wait",
        f"--for=condition=Ready={status}",
        f"user.teleport.internal/{name}",
        "--timeout=20s",
    )
    document = await asyncio.to_thread(control_plane.get, "user.teleport.internal", name)
    condition: dict[str, Any] = next(each for each in document["status"]["conditions"] if each["type"] == "Ready")
    assert condition["observedGeneration"] == document["metadata"]["generation"]
    assert document["status"]["observedGeneration"] == document["metadata"]["generation"]
    return condition


async def test_a_declared_user_gets_in_until_it_is_deleted(
    control_plane: ControlPlane, operator: Process, backend: Backend, follower: Follower, host: Host
) -> None:
    """From kubectl apply → operator → backend → certificate → ssh; after kubectl delete no certificate is issued."""
    key = resource("User", "joe")
    with pytest.raises(AccessDenied):
        follower.issue("joe", host.key.public, ttl=HOUR)

    await asyncio.to_thread(control_plane.kubectl, "apply", "-f", "-", document=user("joe", LOGIN, "deploy"))
    await follower.until(lambda users: key in users)
    condition = await wait_ready(control_plane, "joe", "True")
    assert condition["reason"] == "Reconciled"
    stored = decode(User, (await backend.get(key)).value)
    assert stored.metadata.origin is Origin.KUBERNETES
    assert stored.spec.logins == (LOGIN, "deploy")
    certificate = follower.issue("joe", host.key.public, ttl=HOUR)
    assert certificate.principals == (LOGIN, "deploy")
    assert await asyncio.to_thread(host.login, certificate.line) == "in\n"

    await asyncio.to_thread(control_plane.kubectl, "apply", "-f", "-", document=user("joe", "deploy"))
    await follower.until(lambda users: users[key].spec.logins == ("deploy",))
    narrowed = follower.issue("joe", host.key.public, ttl=HOUR)
    assert await asyncio.to_thread(host.login, narrowed.line) == ""

    await asyncio.to_thread(control_plane.kubectl, "delete", "user.teleport.internal", "joe", "--timeout=20s")
    await follower.until(lambda users: key not in users)
    with pytest.raises(AccessDenied):
        follower.issue("joe", host.key.public, ttl=HOUR)


async def test_a_document_that_cannot_be_right_says_so_in_its_status(
    control_plane: ControlPlane, operator: Process, backend: Backend
) -> None:
    """A user whom tctl has declared is not taken over; the condition says why, and deleting the document spares him."""
    theirs = User.model_validate(user("ann", "ann")).with_origin(Origin.TCTL)
    await backend.put(resource("User", "ann"), encode(theirs))
    await asyncio.to_thread(control_plane.kubectl, "apply", "-f", "-", document=user("ann", "root"))
    condition = await wait_ready(control_plane, "ann", "False")
    assert condition["reason"] == "OwnedByAnother"
    assert "declared by tctl" in condition["message"]
    await asyncio.to_thread(control_plane.kubectl, "delete", "user.teleport.internal", "ann", "--timeout=20s")
    assert decode(User, (await backend.get(resource("User", "ann"))).value) == theirs


async def test_what_happened_while_the_operator_was_away_is_caught_up(
    control_plane: ControlPlane, crds: None, config: Path, backend: Backend, tmp_path: Path
) -> None:
    """Killed and started again, it writes what was declared meanwhile and deletes what was deleted meanwhile."""
    log = tmp_path / "operator.log"
    await asyncio.to_thread(control_plane.kubectl, "apply", "-f", "-", document=user("bob", "bob"))
    operator = await asyncio.to_thread(start_operator, control_plane, config, log=log)
    try:
        await wait_ready(control_plane, "bob", "True")
        assert decode(User, (await backend.get(resource("User", "bob"))).value).spec.logins == ("bob",)
    finally:
        operator.kill()
    kubectl = control_plane.kubectl
    await asyncio.to_thread(kubectl, "apply", "-f", "-", document=user("eve", "eve"))
    await asyncio.to_thread(kubectl, "delete", "user.teleport.internal", "bob", "--wait=false")
    operator = await asyncio.to_thread(start_operator, control_plane, config, log=tmp_path / "again.log")
    try:
        await wait_ready(control_plane, "eve", "True")
        await asyncio.to_thread(kubectl, "wait", "--for=delete", "user.teleport.internal/bob", "--timeout=20s")
        with pytest.raises(NotFound):
            await backend.get(resource("User", "bob"))
        await asyncio.to_thread(kubectl, "delete", "user.teleport.internal", "eve", "--timeout=20s")
    finally:
        operator.stop()
