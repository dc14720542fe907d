"""How kopf remembers what it has handled: by a digest in the status, not by a copy of the document in an annotation.

A copy would not always fit: an object's annotations hold 256 KiB in all, and a large Role is nearly that. Handlers
compare with the backend, not with an earlier document, so that it changed at all is everything there is to know. And
what stands in the status goes there with the conditions, in one request.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, cast

import kopf

FIELD = "handled"
"""Of status."""

Essence = dict[str, Any]


class DigestStorage(kopf.DiffBaseStorage):
    """Keeps the SHA-256 of what kopf would keep; a handler's `old`, `new` and `diff` are digests too."""

    def __init__(self, prefix: str) -> None:
        """Leave out annotations that start with `prefix` and a slash: kopf's own."""
        super().__init__()
        self._prefix = f"{prefix}/"

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        """Return what two versions of a document that mean the same have in common."""
        essence = cast("Essence", super().build(body=body, extra_fields=extra_fields))
        metadata = dict(essence.get("metadata", {}))
        notes = metadata.pop("annotations", {})
        ours = {key: value for key, value in notes.items() if not key.startswith(self._prefix)}
        same = {**essence, "metadata": {**metadata, "annotations": ours}}
        text = json.dumps(same, sort_keys=True, separators=(",", ":"))
        return _essence(hashlib.sha256(text.encode()).hexdigest())

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return what was handled last; None for a new document."""
        found = body.status.get(FIELD)
        return _essence(found) if isinstance(found, str) else None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Have it remembered with the next patch."""
        patch.status[FIELD] = cast("Essence", essence)["sha256"]


def _essence(digest: str) -> kopf.BodyEssence:
    return cast("kopf.BodyEssence", {"sha256": digest})
