"""What changed of a declared resource, for the audit log. Pure.

Resources hold no secrets: they name the Secrets that do. Of a token's value it is told only that it is another.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

from runtime.audit.log import Field
from runtime.core.resources import KEPT_BY_THE_CLUSTER, Resource, Token, TrustedCluster, User

MAX_CHANGES = 50
MAX_VALUE = 200
"""Characters of a value that are told."""
NOTHING = "none"

Flat = Mapping[str, str]
Complete = Callable[[Resource, Resource | None], Resource]


class Change:
    """Notes what a write changes, on its way through `Declared.write`."""

    def __init__(self, complete: Complete) -> None:
        """Take what else completes the resource."""
        self._complete = complete
        self.fields: dict[str, Field] = {}
        """Those of the event, after the write."""

    def __call__(self, resource: Resource, before: Resource | None) -> Resource:
        """Return the resource as it is to be written over `before`."""
        after = self._complete(resource, before)
        self.fields = of(before, after)
        return after


def of(before: Resource | None, after: Resource | None) -> dict[str, Field]:
    """Return the fields of the event that tells of a change; one of the two is there."""
    resource = after or before
    assert resource is not None  # noqa: S101 - nothing has not become nothing
    return {"kind": resource.kind, "name": resource.name, "changes": changes(before, after)}


def changes(before: Resource | None, after: Resource | None) -> list[str]:
    """Return each field that differs, as `spec.logins: ["joe"] -> ["joe","root"]`, by name.

    None: there was, or is, none; then fields that nobody set are left out.
    """
    both = before is not None and after is not None
    old, new = _flat(before, all_fields=both), _flat(after, all_fields=both)
    told = [
        f"{path}: {_cut(old.get(path, NOTHING))} -> {_cut(new.get(path, NOTHING))}"
        for path in sorted({*old, *new})
        if old.get(path) != new.get(path)
    ]
    if (was := _digest(before)) != (now := _digest(after)):
        told.append(f"value: {'the old one' if was else NOTHING} -> {'a new one' if now else NOTHING}")
    if (invited := _invite(before)) != (invites := _invite(after)):
        told.append(f"invite: {'the old one' if invited else NOTHING} -> {'a new one' if invites else NOTHING}")
    if (more := len(told) - MAX_CHANGES) > 0:
        told[MAX_CHANGES:] = [f"and {more} more"]
    return told


def _flat(resource: Resource | None, *, all_fields: bool) -> Flat:
    if resource is None:
        return {}
    body = resource.model_dump(mode="json", exclude_none=True, exclude_defaults=not all_fields)
    for kept in set(KEPT_BY_THE_CLUSTER) - {"origin"}:
        body["metadata"].pop(kept, None)
    return dict(_walk({part: body[part] for part in ("metadata", "spec") if part in body}, ""))


def _digest(resource: Resource | None) -> str:
    """Return what is kept of the value in a Secret: it tells one from another, and is told to nobody."""
    match resource:
        case Token():
            return resource.metadata.issued.digest if resource.metadata.issued else ""
        case TrustedCluster():
            return resource.metadata.means.digest if resource.metadata.means else ""
    return ""


def _invite(resource: Resource | None) -> str:
    """Return what is kept of the token that a user was invited with."""
    invite = resource.metadata.invite if isinstance(resource, User) else None
    return invite.digest if invite else ""


def _walk(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _walk(each, f"{path}.{name}" if path else name)
    elif path != "metadata.name":
        yield path, json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _cut(value: str) -> str:
    return value if len(value) <= MAX_VALUE else f"{value[:MAX_VALUE]}..."
