"""What a release declares, and the objects that come of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime.core.errors import AlreadyExists, InvalidResource, NotFound, Unavailable
from teleport_operator.kubernetes.documents import LABEL, Folder, apply, documents, keep

TOKEN = """
apiVersion: teleport.internal/v1
kind: Token
metadata: {name: nodes}
spec: {roles: [node], ttl: 30h}
"""
CLUSTER = """
apiVersion: teleport.internal/v1
kind: TrustedCluster
metadata: {name: main}
spec: {enabled: true}
"""
OURS = {LABEL: "release"}


class Server:
    """An API server that keeps what it is sent, by path."""

    def __init__(self, **objects: dict[str, Any]) -> None:
        self.objects: dict[str, dict[str, Any]] = {path(name): content for name, content in objects.items()}
        self.away = 0
        """How many requests from now on it does not answer."""
        self.writes: list[str] = []

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise Unavailable("the API server is away")

    async def get(self, path: str) -> dict[str, Any]:
        """Return an object or, with a selector, a list."""
        self._answer()
        collection, query, selector = path.partition("?labelSelector=")
        if query:
            label, _, value = selector.partition("%3D")
            found = {each: content for each, content in self.objects.items() if each.startswith(f"{collection}/")}
            return {"items": [o for o in found.values() if o["metadata"].get("labels", {}).get(label) == value]}
        if path not in self.objects:
            raise NotFound(path)
        return self.objects[path]

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a new object."""
        self._answer()
        place = f"{path}/{body['metadata']['name']}"
        if place in self.objects:
            raise AlreadyExists(place)
        self.writes.append(f"create {body['metadata']['name']}")
        self.objects[place] = dict(body)
        return self.objects[place]

    async def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Keep an object in place of another."""
        self._answer()
        self.writes.append(f"replace {body['metadata']['name']}")
        self.objects[path] = dict(body)
        return self.objects[path]

    async def delete(self, path: str) -> None:
        """Forget an object."""
        self._answer()
        self.writes.append(f"delete {path.rpartition('/')[2]}")
        del self.objects[path]


def path(name: str, kind: str = "tokens") -> str:
    """Return the path of an object of the namespace."""
    return f"/apis/teleport.internal/v1/namespaces/there/{kind}/{name}"


def token(name: str, marks: Mapping[str, str] = OURS, **spec: Any) -> dict[str, Any]:
    """Return a Token as the API server has it."""
    metadata = {"name": name, "resourceVersion": "7", "finalizers": ["f"], "labels": dict(marks)}
    return {"metadata": metadata, "spec": spec, "status": {"uses": 3}}


def folder(where: Path) -> Folder:
    """Return the folder as the release `release` of the namespace `there` mounts it."""
    return Folder(where, "there", "release")


async def test_what_is_declared_is_made(tmp_path: Path) -> None:
    """Objects of the namespace, labelled as the release's; one that fails keeps no other from being made."""
    server = Server(nodes=token("nodes", {}, roles=["proxy"]))
    with pytest.raises(InvalidResource, match="Token nodes is there already, and not this release's"):
        await apply(server, folder(tmp_path), {"a.yaml": TOKEN, "b.yaml": CLUSTER})
    made = server.objects[path("main", "trustedclusters")]
    assert made["metadata"] == {"name": "main", "namespace": "there", "labels": OURS}
    assert made["spec"] == {"enabled": True}
    assert server.objects[path("nodes")]["spec"] == {"roles": ["proxy"]}


async def test_what_changes_is_changed(tmp_path: Path) -> None:
    """The whole spec is the declared one, so that a field that is gone goes too; the rest of the object stays."""
    server = Server(nodes=token("nodes", roles=["node"], labels={"env": "prod"}))
    await apply(server, folder(tmp_path), {"a.yaml": TOKEN})
    assert server.objects[path("nodes")] == token("nodes", roles=["node"], ttl="30h")


async def test_what_is_no_longer_declared_is_deleted(tmp_path: Path) -> None:
    """Only what this release has made, and what is being deleted already is left to that."""
    going = token("going")
    going["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    server = Server(old=token("old"), others=token("others", {LABEL: "another"}), plain=token("plain", {}), going=going)
    await apply(server, folder(tmp_path), {"b.yaml": CLUSTER})
    assert server.writes == ["create main", "delete old"]


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: teleport.internal/v1\nkind: User\nmetadata: {name: joe}\nspec: {}",
        "apiVersion: v1\nkind: Token\nmetadata: {name: joe}\nspec: {}",
        "apiVersion: teleport.internal/v1\nkind: Token\nmetadata: {}\nspec: {}",
        "just text",
    ],
    ids=["kind", "version", "name", "text"],
)
def test_what_no_release_declares(text: str) -> None:
    """It is refused, and the file is named: a release makes no users and no roles."""
    with pytest.raises(InvalidResource, match=r"a\.yaml:1: expected a Token or a TrustedCluster"):
        documents("a.yaml", text)
    assert documents("a.yaml", "---\n# nothing\n") == []


def nothing() -> None:
    """Let time pass."""


class Steps:
    """Pauses that do something each, until there is nothing more to do."""

    def __init__(self, *steps: Callable[[], None]) -> None:
        self._steps = list(steps)

    async def __call__(self, _: float) -> None:
        """Do the next thing; without one, end who pauses."""
        if not self._steps:
            raise asyncio.CancelledError
        self._steps.pop(0)()


async def test_the_folder_is_followed(tmp_path: Path) -> None:
    """A changed file counts at once; what somebody deletes comes back; what is unchanged is not written again."""
    server = Server()
    file = tmp_path / "a.yaml"
    file.write_text(TOKEN)

    def changed() -> None:
        assert server.writes == ["create nodes"]
        file.write_text(TOKEN.replace("30h", "5m"))

    def deleted() -> None:
        assert server.objects[path("nodes")]["spec"]["ttl"] == "5m"
        del server.objects[path("nodes")]

    with pytest.raises(asyncio.CancelledError):
        await keep(server, folder(tmp_path), pause=Steps(changed, deleted, nothing), again=2)
    assert server.writes == ["create nodes", "replace nodes", "create nodes"]


async def test_an_api_server_that_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is tried again until it answers, and said once."""
    server = Server()
    server.away = 9  # each attempt fails once for the document, and once for each kind to look through
    (tmp_path / "a.yaml").write_text(TOKEN)
    with caplog.at_level(logging.ERROR), pytest.raises(asyncio.CancelledError):
        await keep(server, folder(tmp_path), pause=Steps(*[nothing] * 4))
    assert server.writes == ["create nodes"]
    assert [record.message for record in caplog.records] == ["the documents of the release: the API server is away. "]
