"""What changed of declared resources is in the log, whoever changed it: tctl, or who writes to the storage itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from runtime.auth.declared import Declared
from runtime.backend.open import open_backend
from runtime.core.clock import SystemClock
from runtime.core.resources import Origin, load_documents
from tests.servers.auth_pair import AuthPair, running_pair
from tests.servers.sshclient import events, wait_until

ROLE = """apiVersion: teleport.internal/v1
kind: Role
metadata: {{name: {name}}}
spec: {{allow: {{logins: [{login}]}}}}
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthPair]:
    """Run two auth servers on one storage."""
    with running_pair("sqlite", tmp_path_factory.mktemp("pair")) as pair:
        yield pair


def told(pair: AuthPair, name: str) -> list[tuple[str, str, object]]:
    """Return what both logs have of a resource: type, who, what changed; by the time of it."""
    found = [
        event
        for server in pair.both
        for kind in ("resource.written", "resource.removed")
        for event in events(server, kind)
        if event["name"] == name
    ]
    found.sort(key=lambda event: str(event["uid"]))
    return [(str(event["event"]), str(event["by"]).split()[0], event["changes"]) for event in found]


def in_storage(pair: AuthPair, work: Callable[[Declared], Awaitable[object]]) -> None:
    """Do to the storage what the operator does, past auth."""

    async def do() -> None:
        backend = await open_backend(pair.store.options, clock=SystemClock())
        try:
            await work(Declared(backend))
        finally:
            await backend.close()

    asyncio.run(do())


def test_by_tctl(pair: AuthPair, tmp_path: Path) -> None:
    """Who, which document, and old and new of each field; by the server that was asked, and by no other."""
    file = tmp_path / "role.yaml"
    for login in ("dev", "root"):
        file.write_text(ROLE.format(name="by-tctl", login=login))
        assert pair.one.tctl("create", "--force", str(file)).returncode == 0
    assert pair.one.tctl("rm", "role/by-tctl").returncode == 0
    file.write_text(ROLE.format(name="by-tctl-too", login="dev"))
    assert pair.two.tctl("create", str(file)).returncode == 0
    wait_until(lambda: told(pair, "by-tctl-too"))
    assert told(pair, "by-tctl") == [
        ("resource.written", "admin", ['metadata.origin: none -> "tctl"', 'spec.allow.logins: none -> ["dev"]']),
        ("resource.written", "admin", ['spec.allow.logins: ["dev"] -> ["root"]']),
        ("resource.removed", "admin", ['metadata.origin: "tctl" -> none', 'spec.allow.logins: ["root"] -> none']),
    ]


def test_past_auth(pair: AuthPair) -> None:
    """The operator's changes are told by one of the auth servers, also those made while none ran."""

    def write(login: str) -> Callable[[Declared], Awaitable[object]]:
        (role,) = load_documents(ROLE.format(name="by-operator", login=login), source="test")
        return lambda declared: declared.write(role.with_origin(Origin.KUBERNETES), revision=0, overwrite=True)

    created = (
        "resource.written",
        "kubernetes",
        ['metadata.origin: none -> "kubernetes"', 'spec.allow.logins: none -> ["dev"]'],
    )
    changed = ("resource.written", "kubernetes", ['spec.allow.logins: ["dev"] -> ["root"]'])
    removed = (
        "resource.removed",
        "kubernetes",
        ['metadata.origin: "kubernetes" -> none', 'spec.allow.logins: ["root"] -> none'],
    )
    in_storage(pair, write("dev"))
    wait_until(lambda: told(pair, "by-operator") == [created])
    for server in pair.both:
        server.process.kill()
    in_storage(pair, write("root"))
    pair.start()
    wait_until(lambda: told(pair, "by-operator") == [created, changed])
    in_storage(pair, lambda declared: declared.remove("Role", "by-operator", Origin.KUBERNETES))
    wait_until(lambda: told(pair, "by-operator") == [created, changed, removed])
