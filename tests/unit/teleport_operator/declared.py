"""Documents as the API server has them."""

from __future__ import annotations

from typing import Any

from runtime.core.resources import Resource, read_object


def document(kind: str, name: str, *, namespace: str = "team", adopt: bool = False, **spec: Any) -> Resource:
    """Return a document of that namespace."""
    annotations = {"teleport.internal/adopt": "true"} if adopt else {}
    metadata = {"name": name, "namespace": namespace, "annotations": annotations}
    data = {"apiVersion": "teleport.internal/v1", "kind": kind, "metadata": metadata, "spec": spec}
    return read_object(data, source="test")


def user(*logins: str, roles: tuple[str, ...] = (), namespace: str = "team", adopt: bool = False) -> Resource:
    """Return the document of user joe."""
    return document("User", "joe", namespace=namespace, adopt=adopt, logins=list(logins or ("joe",)), roles=list(roles))
