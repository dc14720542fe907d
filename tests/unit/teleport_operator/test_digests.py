"""What of a document makes it another one to kopf."""

from __future__ import annotations

import copy
from typing import Any

import kopf
import pytest

from teleport_operator.kubernetes.digests import DigestStorage

STORAGE = DigestStorage("kopf.zalando.org")
USER = {
    "apiVersion": "teleport.internal/v1",
    "kind": "User",
    "metadata": {"name": "joe", "resourceVersion": "1", "generation": 1, "annotations": {"team": "a"}},
    "spec": {"logins": ["joe"]},
}


def digest(document: dict[str, Any]) -> object:
    """Return what is remembered of a document."""
    return STORAGE.build(body=kopf.Body(document))  # type: ignore[arg-type]  # a document as JSON has it


def changed(*path: str, to: object) -> dict[str, Any]:
    """Return the document with another value at that path."""
    document: dict[str, Any] = copy.deepcopy(USER)
    place = document
    for step in path[:-1]:
        place = place.setdefault(step, {})
    place[path[-1]] = to
    return document


@pytest.mark.parametrize(
    "path",
    [("spec", "logins"), ("metadata", "annotations", "teleport.internal/adopt"), ("metadata", "labels", "a")],
    ids=str,
)
def test_what_people_write_counts(path: tuple[str, ...]) -> None:
    """Another spec, annotation or label is another document."""
    assert digest(changed(*path, to="x")) != digest(USER)


@pytest.mark.parametrize(
    "path",
    [
        ("status", "conditions"),
        ("metadata", "resourceVersion"),
        ("metadata", "annotations", "kopf.zalando.org/user_declared"),
        ("metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"),
    ],
    ids=str,
)
def test_what_machines_write_does_not(path: tuple[str, ...]) -> None:
    """Status, versions, kopf's notes of its progress and kubectl's are not the document."""
    assert digest(changed(*path, to="x")) == digest(USER)


def test_there_and_back() -> None:
    """What is stored goes into the status and is found there; a new document has nothing."""
    assert STORAGE.fetch(body=kopf.Body(USER)) is None  # type: ignore[arg-type]  # a document as JSON has it
    patch = kopf.Patch()
    essence = STORAGE.build(body=kopf.Body(USER))  # type: ignore[arg-type]
    STORAGE.store(body=kopf.Body(USER), patch=patch, essence=essence)  # type: ignore[arg-type]
    assert list(patch) == ["status"]
    handled: dict[str, Any] = {**USER, "status": patch["status"]}
    assert STORAGE.fetch(body=kopf.Body(handled)) == essence  # type: ignore[arg-type]
