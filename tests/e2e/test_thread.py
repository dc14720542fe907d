"""The first thread through everything: what is declared to Kubernetes decides who gets in by ssh."""

from __future__ import annotations

import asyncio
import getpass
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.backend.base import Backend
from runtime.core.clock import SystemClock
from runtime.core.errors import NotFound
from runtime.core.keys import resource
from runtime.core.resources import Origin, User, decode, encode
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.operator_process import start_operator
from tests.servers import people
from tests.servers.processes import Process
from tests.servers.teleport import Teleport, run

CLOCK = SystemClock()
LOGIN = getpass.getuser()
EFFECT_SECONDS = 10.0
"""How long a change may take from kubectl to the next session."""


@pytest.fixture
def operator(control_plane: ControlPlane, crds: None, config: Path, tmp_path: Path) -> Iterator[Process]:
    """Run the operator on the same backend."""
    with start_operator(control_plane, config, log=tmp_path / "operator.log") as running:
        yield running


@pytest.fixture
def teleport(tmp_path: Path) -> Iterator[Teleport]:
    """Run auth, proxy and node, for which the storage is the truth."""
    settings = {"auth_service": {"dynamic_config": True}}
    with Teleport(tmp_path / "teleport", ["auth", "proxy", "node"], config=settings) as running:
        yield running.start()


@dataclass
class Shell:
    """The command line of somebody who is logged in with tsh."""

    home: Path

    def ssh(self, login: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the node."""
        env = {"TELEPORT_HOME": str(self.home), "SSH_AUTH_SOCK": ""}
        return run("tsh", "ssh", f"{login}@localhost", "echo in; id -un", env=env)

    async def until_refused(self, login: str) -> str:
        """Wait until a new session is refused, for as long as a change may take; return what ssh said."""
        async with asyncio.timeout(EFFECT_SECONDS):
            while (done := await asyncio.to_thread(self.ssh, login)).returncode == 0:
                assert done.stdout == f"in\n{login}\n"
        assert done.returncode == 255
        assert done.stdout == ""
        return done.stderr

    async def until_in(self, login: str) -> None:
        """Wait until a session is possible."""
        async with asyncio.timeout(EFFECT_SECONDS):
            while (await asyncio.to_thread(self.ssh, login)).returncode:
                pass


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
    control_plane: ControlPlane, crds: None, teleport: Teleport, tmp_path: Path
) -> None:
    """From kubectl apply → operator → storage → auth → sign-up and login to a session on a node.

    What kubectl changes decides about the next session with the same certificate; after kubectl delete there is none.
    """
    kubectl, shell = control_plane.kubectl, Shell(tmp_path / "home")
    log = tmp_path / "operator.log"
    with await asyncio.to_thread(start_operator, control_plane, teleport.config_file, log=log):
        assert teleport.tctl("users", "reset", "joe").returncode == 1  # nobody knows joe yet
        await asyncio.to_thread(kubectl, "apply", "-f", "-", document=user("joe", LOGIN, "deploy"))
        assert (await wait_ready(control_plane, "joe", "True"))["reason"] == "Reconciled"

        invited = teleport.tctl("users", "reset", "joe")
        url = next(line for line in invited.stdout.splitlines() if line.startswith("https://"))
        phone = people.sign_up(teleport, url)
        logged_in = people.tsh_login(teleport, shell.home, "joe", phone)
        assert logged_in.returncode == 0, logged_in.stderr
        await shell.until_in(LOGIN)

        await asyncio.to_thread(kubectl, "apply", "-f", "-", document=user("joe", "deploy"))
        assert f"login '{LOGIN}'" in await shell.until_refused(LOGIN)
        await asyncio.to_thread(kubectl, "apply", "-f", "-", document=user("joe", LOGIN, "deploy"))
        await shell.until_in(LOGIN)

        await asyncio.to_thread(kubectl, "delete", "user.teleport.internal", "joe", "--timeout=20s")
        assert "no user joe" in await shell.until_refused(LOGIN)
        again = people.tsh_login(teleport, shell.home, "joe", phone)
        assert again.returncode == 1
        assert "wrong user name, password" in again.stderr


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
