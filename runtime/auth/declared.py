"""The declared resources in the backend: User, Role, Token, TrustedCluster, each with its origin."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from runtime.api.resource_messages import ResourceDocument, ResourceEvent
from runtime.auth.persons import identified
from runtime.auth.trusted_means import without_token
from runtime.backend.base import Backend, Delete, Item, Put, Snapshot
from runtime.core import keys
from runtime.core.errors import AlreadyExists, CompareFailed, InvalidInput, NotFound
from runtime.core.resources import DECLARED, Origin, Resource, Role, decode, encode, key_of
from runtime.reconcile.steps import Owner, owner_of

AnyResource = TypeVar("AnyResource", bound=Resource)
_TRUSTED_CLUSTERS = keys.resource_prefix("TrustedCluster")

Complete = Callable[[Resource, Resource | None], Resource]
"""Adds to a document what the cluster keeps with it, such as a token's uses; the second is what is there so far."""


def _as_it_is(resource: Resource, before: Resource | None) -> Resource:
    return resource


class Declared:
    """Reads, writes and follows declared resources. One origin overwrites another's only where it asks to adopt it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def get(self, model: type[AnyResource], name: str) -> AnyResource:
        """Return one resource. Raises NotFound."""
        kind = kind_of(model)
        try:
            item = await self._backend.get(keys.resource(kind, name))
        except NotFound:
            raise NotFound(f"there is no {kind.lower()} {name}", hint=f"See tctl get {kind.lower()}s.") from None
        return decode(model, item.value)

    async def document(self, kind: str, name: str) -> ResourceDocument:
        """Return one resource as the API shows it. Raises NotFound, InvalidInput for an unknown kind."""
        known_kind(kind)
        try:
            return _document(await self._backend.get(keys.resource(kind, name)))
        except NotFound:
            raise NotFound(f"there is no {kind.lower()} {name}", hint=f"See tctl get {kind.lower()}s.") from None

    async def all(self, model: type[AnyResource]) -> list[AnyResource]:
        """Return all resources of a kind, by name."""
        prefix = keys.resource_prefix(kind_of(model))
        return [decode(model, item.value) for item in (await self._backend.range(prefix)).items]

    async def roles(self) -> dict[str, Role]:
        """Return all declared roles by name."""
        return {role.name: role for role in await self.all(Role)}

    async def documents(self, kind: str) -> list[ResourceDocument]:
        """Return all resources of a kind as the API shows them. Raises InvalidInput for an unknown kind."""
        prefix = keys.resource_prefix(known_kind(kind))
        return [_document(item) for item in (await self._backend.range(prefix)).items]

    async def create(self, resource: Resource) -> ResourceDocument:
        """Write a resource that must be new. Raises AlreadyExists."""
        resource = identified(resource, None)
        try:
            return _document(await self._backend.create(key_of(resource), encode(resource)))
        except AlreadyExists:
            kind = resource.kind.lower()
            raise AlreadyExists(
                f"{kind} {resource.name} exists already",
                hint=f"Choose another name, or see the one there: tctl get {kind}/{resource.name}",
            ) from None

    async def write(
        self, resource: Resource, *, revision: int, overwrite: bool, complete: Complete = _as_it_is
    ) -> ResourceDocument:
        """Write a resource over the one of `revision` (0: none), or over any with `overwrite`.

        Raises AlreadyExists, CompareFailed, and CompareFailed too for a resource of another origin that the document
        does not ask to adopt.
        """
        key = key_of(resource)
        if not revision and not overwrite:
            return await self.create(complete(resource, None))
        try:
            item = await self._backend.get(key)
        except NotFound:
            if revision:
                raise CompareFailed(f"{resource.kind.lower()} {resource.name} is gone", hint="Read it again.") from None
            return await self.create(complete(resource, None))
        existing = decode(type(resource), item.value)
        _check_origin(existing, resource.metadata.origin, adopt=resource.metadata.adopt)
        at = item.revision if overwrite else revision
        content = encode(identified(complete(resource, existing), existing))
        return _document(await self._backend.compare_and_swap(key, content, revision=at))

    async def remove(self, kind: str, name: str, origin: Origin, *, revision: int = 0) -> Resource:
        """Delete a resource of that origin and return it; with `revision` only if it is still at that one.

        Raises NotFound, CompareFailed, and CompareFailed too for one of another origin.
        """
        model = DECLARED[known_kind(kind)]
        document = await self.document(kind, name)
        resource = decode(model, document.document.encode())
        _check_origin(resource, origin, adopt=False)
        await self._backend.delete(keys.resource(kind, name), revision=revision or document.revision)
        return resource

    async def follow(self, kind: str) -> AsyncGenerator[ResourceEvent, None]:
        """Yield a snapshot of a kind and then its changes, for ever. Raises InvalidInput for an unknown kind."""
        prefix = keys.resource_prefix(known_kind(kind))
        async with aclosing(self._backend.watch(prefix)) as events:
            async for event in events:
                match event:
                    case Snapshot(items):
                        yield ResourceEvent(snapshot=tuple(map(_document, items)))
                    case Put(item):
                        yield ResourceEvent(put=_document(item))
                    case Delete(key):
                        yield ResourceEvent(deleted=key.removeprefix(prefix))


def kind_of(model: type[Resource]) -> str:
    """Return the kind of a model, as documents name it."""
    return model.__name__


def known_kind(kind: str) -> str:
    """Return the kind if it is one that people declare. Raises InvalidInput."""
    if kind not in DECLARED:
        raise InvalidInput(f"there is no kind {kind!a}", hint=f"Kinds are {', '.join(DECLARED)}.")
    return kind


def _document(item: Item) -> ResourceDocument:
    """Return an item as the API shows it: a token that is still to be shown to a root is for that one alone."""
    content = item.value
    if item.key.startswith(_TRUSTED_CLUSTERS):
        content = without_token(content)
    return ResourceDocument(document=content.decode(), revision=item.revision)


def _check_origin(existing: Resource, origin: Origin | None, *, adopt: bool) -> None:
    """Refuse to touch what another origin declared, by the reconciler's rule. Raises CompareFailed."""
    if adopt or (origin is not None and Owner(origin).owns(existing)):
        return
    raise CompareFailed(
        f"{existing.kind.lower()} {existing.name} is declared by {owner_of(existing)}, not by {origin or 'anybody'}",
        hint='Change it there, or take it over with the annotation teleport.internal/adopt: "true".',
    )
