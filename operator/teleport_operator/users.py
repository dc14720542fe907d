"""Users: what a document of kind User means for the backend."""

from __future__ import annotations

from runtime.backend.base import Backend, Item
from runtime.core import keys
from runtime.core.errors import AccessDenied, AlreadyExists, CompareFailed, NotFound, Unavailable
from runtime.core.resources import Origin, User, decode, encode, key_of

ATTEMPTS = 5
"""How often a write that somebody else's write crossed is decided anew before it is left for later."""


def check_owner(desired: User, actual: User) -> None:
    """Refuse to touch what another origin, or the same name in another namespace, has declared.

    Raises AccessDenied, unless the document is annotated to adopt it.
    """
    if desired.metadata.adopt or owns(actual, desired.metadata.namespace):
        return
    owner = actual.metadata.origin or "nobody known"
    where = f" in namespace {actual.metadata.namespace}" if actual.metadata.namespace else ""
    raise AccessDenied(
        f"user {desired.name} is declared by {owner}{where} already",
        hint='Delete it there, choose another name, or annotate this document: teleport.internal/adopt: "true".',
    )


def owns(actual: User, namespace: str | None) -> bool:
    """Return whether it was declared by a document in that namespace."""
    return actual.metadata.origin is Origin.KUBERNETES and actual.metadata.namespace == namespace


async def apply(backend: Backend, document: User) -> bool:
    """Make the backend hold the user as the document says, and return whether that took a write.

    Raises AccessDenied when it is not the document's to change, InvalidResource when what is there cannot be read,
    Unavailable when the backend does not answer or others keep changing it.
    """
    desired = document.with_origin(Origin.KUBERNETES)
    key, value = key_of(desired), encode(desired)
    for _ in range(ATTEMPTS):
        try:
            item = await _get(backend, key)
            if item is None:
                await backend.create(key, value)
                return True
            check_owner(desired, decode(User, item.value))
            if item.value == value:
                return False
            await backend.compare_and_swap(key, value, revision=item.revision, expires=item.expires)
        except (AlreadyExists, CompareFailed):
            continue
        return True
    raise Unavailable(f"user {desired.name} was changed by others {ATTEMPTS} times while it was written")


async def remove(backend: Backend, name: str, namespace: str | None) -> bool:
    """Make the backend forget the user that a document in that namespace declared; return whether it was there.

    One that another origin has declared is left alone. Raises Unavailable.
    """
    key = keys.resource("User", name)
    for _ in range(ATTEMPTS):
        item = await _get(backend, key)
        if item is None or not owns(decode(User, item.value), namespace):
            return False
        try:
            await backend.delete(key, revision=item.revision)
        except CompareFailed:
            continue
        return True
    raise Unavailable(f"user {name} was changed by others {ATTEMPTS} times while it was deleted")


async def _get(backend: Backend, key: str) -> Item | None:
    try:
        return await backend.get(key)
    except NotFound:
        return None
