"""Somebody who declares resources to the API server, sees what is said of them, and looks into the backend."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from runtime.backend.base import Backend
from runtime.core.errors import NotFound
from runtime.core.keys import resource
from runtime.core.resources import DECLARED, Resource, decode
from tests.e2e.kubernetes.api import GROUP, Api, collection
from tests.e2e.kubernetes.control_plane import ControlPlane

CRDS = Path(__file__).parents[2] / "crds"
SECRETS = "/api/v1/namespaces/default/secrets"
KINDS = ("User", "Role", "Token", "TrustedCluster")
PATIENCE_SECONDS = 60.0
"""How long anything may take on a busy machine."""
LOOK_SECONDS = 0.1

Object = dict[str, Any]


def document(kind: str, name: str, *, adopt: bool = False, **spec: Any) -> Object:
    """Return a document of ours."""
    metadata: Object = {"name": name, "namespace": "default"}
    if adopt:
        metadata["annotations"] = {"teleport.internal/adopt": "true"}
    return {"apiVersion": "teleport.internal/v1", "kind": kind, "metadata": metadata, "spec": spec}


def install(plane: ControlPlane) -> None:
    """Declare the custom resources."""
    plane.kubectl("apply", "-f", CRDS)
    plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", CRDS)


def collect_garbage(plane: ControlPlane) -> None:
    """Delete the Secrets whose owner is gone, as Kubernetes does: its controllers do not run here."""
    with Api(plane.url, plane.authority.folder) as api:
        owners: set[str] = set()
        for kind in KINDS:
            status, found = api.request("GET", collection(kind))
            if status == HTTPStatus.OK:  # else the custom resources are not declared
                owners.update(each["metadata"]["uid"] for each in found["items"])
        for secret in api.done("GET", SECRETS)["items"]:
            owned_by = {each["uid"] for each in secret["metadata"].get("ownerReferences", [])}
            if owned_by and not owned_by & owners:
                api.request("DELETE", f"{SECRETS}/{secret['metadata']['name']}")


class Declaring:
    """Kubernetes as its users see it, in the namespace default."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.api = Api(plane.url, plane.authority.folder)

    def declare(self, *documents: Object) -> None:
        """Create objects, or change what is there: `spec` and annotations become those of the document."""
        for each in documents:
            path = collection(each["kind"])
            if self.api.request("POST", path, each)[0] == HTTPStatus.CONFLICT:
                changes = {"spec": each["spec"], "metadata": {"annotations": each["metadata"].get("annotations")}}
                self.api.done("PATCH", f"{path}/{each['metadata']['name']}", changes)

    def delete(self, *documents: Object) -> None:
        """Ask for their deletion; their finalizer may hold them."""
        for each in documents:
            self.api.request("DELETE", f"{collection(each['kind'])}/{each['metadata']['name']}")

    def found(self, kind: str) -> dict[str, Object]:
        """Return the objects of a kind by name."""
        return {each["metadata"]["name"]: each for each in self.api.done("GET", collection(kind))["items"]}

    def ready(self, kind: str) -> dict[str, Object]:
        """Return the condition Ready of each object whose latest generation has one."""
        return {
            name: each
            for name, found in self.found(kind).items()
            for each in found.get("status", {}).get("conditions", [])
            if (each["type"], each["observedGeneration"]) == ("Ready", found["metadata"]["generation"])
        }

    def wait(self, *documents: Object, reason: str = "Reconciled") -> Object:
        """Wait until all of these say that of their latest generation; return the condition of the last."""

        def unlike() -> list[str]:
            said.update({kind: self.ready(kind) for kind in kinds})
            return [
                f"{each['kind']} {name}: {said[each['kind']].get(name)}"
                for each in documents
                if said[each["kind"]].get(name := each["metadata"]["name"], {}).get("reason") != reason
            ]

        said: dict[str, dict[str, Object]] = {}
        kinds = {each["kind"] for each in documents}
        wait_for(unlike)
        last = documents[-1]
        return said[last["kind"]][last["metadata"]["name"]]

    def wait_gone(self, *documents: Object) -> None:
        """Wait until none of these is there any more."""
        kinds = {each["kind"] for each in documents}

        def left() -> list[str]:
            there = {(kind, name) for kind in kinds for name in self.found(kind)}
            return [each["metadata"]["name"] for each in documents if (each["kind"], each["metadata"]["name"]) in there]

        wait_for(left)

    def secrets(self) -> dict[str, dict[str, str]]:
        """Return what is in each Secret."""
        found = self.api.done("GET", SECRETS)["items"]
        return {
            each["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in each["data"].items()}
            for each in found
        }

    def events(self) -> list[tuple[str, str]]:
        """Return name and reason of what Events tell of."""
        found = self.api.done("GET", "/api/v1/namespaces/default/events")["items"]
        return [(each["involvedObject"]["name"], each["reason"]) for each in found]

    def clear(self) -> None:
        """Delete all that is declared in any namespace with no regard to operators, and all Secrets of ours."""
        for kind in KINDS:
            status, found = self.api.request("GET", f"{GROUP}/{kind.lower()}s")
            for each in found["items"] if status == HTTPStatus.OK else ():  # else the custom resources are not declared
                path = f"{collection(kind, each['metadata']['namespace'])}/{each['metadata']['name']}"
                self.api.request("PATCH", path, {"metadata": {"finalizers": None}})
                self.api.request("DELETE", path)
        self.api.request("DELETE", SECRETS)

    def close(self) -> None:
        """Hang up."""
        self.api.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def wait_for(missing: Callable[[], Collection[str]], *, timeout: float = PATIENCE_SECONDS) -> None:
    """Wait until nothing is missing."""
    deadline = time.monotonic() + timeout
    while left := missing():
        assert time.monotonic() < deadline, f"after {timeout:g} s: {', '.join([*left][:5])} ({len(left)} in all)"
        time.sleep(LOOK_SECONDS)


async def stored(backend: Backend, kind: str, name: str) -> Resource | None:
    """Return what the backend has of that name."""
    try:
        return decode(DECLARED[kind], (await backend.get(resource(kind, name))).value)
    except NotFound:
        return None


async def all_stored(backend: Backend) -> Mapping[tuple[str, str], Resource]:
    """Return all that the backend has, by kind and name."""
    items = (await backend.range("resources/")).items
    keys: Iterable[tuple[str, str]] = [(each.key.split("/")[1], each.key.split("/", 2)[2]) for each in items]
    return {key: decode(DECLARED[key[0]], item.value) for key, item in zip(keys, items, strict=True)}


async def until(condition: Callable[[], Any], *, timeout: float = PATIENCE_SECONDS) -> float:  # noqa: ASYNC109 (a failing test says how long it has waited)
    """Wait until what `condition` returns, awaited, is true; return after how many seconds it was."""
    started = time.monotonic()
    while not await condition():
        assert time.monotonic() - started < timeout, f"not so after {timeout:g} s"
        await asyncio.sleep(LOOK_SECONDS)
    return time.monotonic() - started
