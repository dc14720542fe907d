"""Resources: their documents as the backend has them, and how they change."""

from __future__ import annotations

from runtime.api.messages import Message, SecretContent, Text


class ResourceRef(Message):
    """A resource by kind (as in documents: User, Role, Token, TrustedCluster) and name."""

    kind: Text
    name: Text
    revision: int = 0
    """To remove it only if it is still at that revision; 0 for whichever."""


class ResourceQuery(Message):
    """Which resources to list or to follow."""

    kind: Text


class ResourceDocument(Message):
    """A resource as the backend has it: its document as JSON text, and its revision for compare-and-swap."""

    document: str
    revision: int = 0
    """0 in a request: the resource must be new. Else it must still be at that revision."""
    overwrite: bool = False
    """In a request: write whatever was there (tctl create --force)."""
    value: SecretContent | None = None
    """In a request: what the Secret of a token or trusted cluster holds. In the answer: the value that was made for a
    token that had none, told this once."""


class ResourceList(Message):
    """Resources of one kind, ordered by name."""

    resources: tuple[ResourceDocument, ...]


class ResourceEvent(Message):
    """A change, as a piece of the answer to resources.watch.

    `snapshot` replaces all that was known; else `put` came or changed, or `deleted` (a name) is gone.
    """

    snapshot: tuple[ResourceDocument, ...] | None = None
    put: ResourceDocument | None = None
    deleted: Text | None = None
