"""The reconciler's way to the documents for who opens the backend itself: the operator."""

from __future__ import annotations

from runtime.backend.base import Backend, Item
from runtime.core import keys
from runtime.core.errors import InvalidInput, InvalidResource, NotFound
from runtime.core.resources import DECLARED, Resource, Token, decode, encode, key_of
from runtime.reconcile import Actual, Desired


class BackendDocuments:
    """Documents under `resources/`. What belongs to a user beside its document, auth deletes when the user is gone."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def list(self, kind: str) -> list[Actual]:
        """Return all resources of a kind. Raises Unavailable."""
        prefix = keys.resource_prefix(kind)
        return [_actual(kind, item, prefix) for item in (await self._backend.range(prefix)).items]

    async def get(self, kind: str, name: str) -> Actual | None:
        """Return one resource, None if there is none. Raises Unavailable."""
        try:
            item = await self._backend.get(keys.resource(kind, name))
        except NotFound:
            return None
        return _actual(kind, item, keys.resource_prefix(kind))

    async def create(self, desired: Desired, resource: Resource) -> None:
        """Write a resource that is new. Raises AlreadyExists, Unavailable, InvalidInput for a token without a value."""
        await self._backend.create(key_of(resource), encode(_with_value(resource)))

    async def swap(self, desired: Desired, resource: Resource, *, revision: int) -> None:
        """Write over the one at that revision. Raises CompareFailed, Unavailable, InvalidInput as `create` does."""
        await self._backend.compare_and_swap(key_of(resource), encode(_with_value(resource)), revision=revision)

    async def delete(self, kind: str, name: str, *, revision: int) -> None:
        """Delete the one at that revision. Raises CompareFailed, Unavailable."""
        await self._backend.delete(keys.resource(kind, name), revision=revision)


def _actual(kind: str, item: Item, prefix: str) -> Actual:
    name = item.key.removeprefix(prefix)
    try:
        return Actual(kind, name, item.revision, decode(DECLARED[kind], item.value))
    except InvalidResource as error:
        return Actual(kind, name, item.revision, None, str(error))


def _with_value(resource: Resource) -> Resource:
    """Refuse a token that nobody could join with: here nobody could be told a value that is made."""
    if isinstance(resource, Token) and resource.metadata.issued is None:
        raise InvalidInput(f"token {resource.name} has no value", hint="Put one into its Secret.")
    return resource
