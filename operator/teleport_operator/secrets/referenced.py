"""The Secrets that a document refers to: which ones, and what is known of each after it was read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runtime.core.errors import NotFound
from runtime.core.resources import Resource, Token, TrustedCluster, User
from teleport_operator.kubernetes.api_server import ApiServer
from teleport_operator.objects import NO_SECRET, Objects, Ref
from teleport_operator.secrets.tokens import OPT_IN, reference
from teleport_operator.verdicts.conditions import Reason
from teleport_operator.verdicts.reconciling import Unready


def secrets_of(resource: Resource) -> tuple[str, ...]:
    """Return the names of the Secrets that a document refers to, in its namespace."""
    match resource:
        case Token():
            return (reference(resource)[0],)
        case User():
            refs = [resource.spec.credentials_secret_ref]
        case TrustedCluster():
            refs = [resource.spec.token_secret_ref, resource.spec.ca_secret_ref]
        case _:
            refs = []
    return tuple(ref.name for ref in refs if ref)


def opted_in(secret: Mapping[str, Any]) -> bool:
    """Return whether a Secret lets documents of its namespace refer to it."""
    return (secret["metadata"].get("labels") or {}).get(OPT_IN) == "true"


async def usable(found: NotedSecrets, namespace: str | None, name: str, *, field: str) -> dict[str, Any]:
    """Return the Secret that a document refers to in that field. Raises Unready if it may not, or there is none."""
    try:
        secret = await found.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    except NotFound:
        raise Unready(
            Reason.SECRET_NOT_FOUND,
            f"there is no Secret {name}, which {field} names",
            hint=f"Create it, with the label {OPT_IN}=true.",
        ) from None
    if not opted_in(secret):
        raise Unready(
            Reason.SECRET_NOT_OPTED_IN,
            f"the Secret {name} does not say that documents may refer to it",
            hint=f"Label it: kubectl label secret {name} {OPT_IN}=true; or name another one in {field}.",
        )
    return secret


class NotedSecrets:
    """The API server's Secrets, for one object: the version of each that is read or written is remembered."""

    def __init__(self, api: ApiServer, objects: Objects, ref: Ref) -> None:
        self._api = api
        self._objects = objects
        self._ref = ref

    async def get(self, path: str) -> dict[str, Any]:
        """Return a Secret. Raises NotFound, and what the API server raises."""
        try:
            return self._note(await self._api.get(path))
        except NotFound:
            self._objects.saw(self._ref, path.rpartition("/")[2], NO_SECRET)
            raise

    async def create(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Create a Secret and return it. Raises AlreadyExists, and what the API server raises."""
        return self._note(await self._api.create(path, body))

    async def replace(self, path: str, body: Mapping[str, object]) -> dict[str, Any]:
        """Replace a Secret of that version and return it. Raises CompareFailed, and what the API server raises."""
        return self._note(await self._api.replace(path, body))

    def _note(self, secret: dict[str, Any]) -> dict[str, Any]:
        metadata = secret["metadata"]
        version = str(metadata["resourceVersion"]) if opted_in(secret) else NO_SECRET
        self._objects.saw(self._ref, metadata["name"], version)
        return secret
