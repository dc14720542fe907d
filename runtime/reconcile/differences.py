"""What is different between two documents, field by field, for people to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runtime.core.resources import KEPT_BY_THE_CLUSTER, Resource, Token, TrustedCluster, User
from runtime.core.yaml_marks import Path

SECRET = "(secret)"  # noqa: S105 - what is shown in place of one
"""Stands for a value that is not shown."""


@dataclass(frozen=True, slots=True)
class Change:
    """One field: what it was and what it becomes, as plain data; None where there is nothing."""

    path: Path
    old: object
    new: object


def differences(old: Resource | None, new: Resource) -> tuple[Change, ...]:
    """Return the fields in which `new` differs, in the order of the documents.

    Of a new resource these are the fields that are no defaults. That a token has another value is told, not which.
    """
    before = _data(old, defaults=True) if old else {}
    return (*_changes((), before, _data(new, defaults=old is not None)), *_value(old, new))


def _data(resource: Resource, *, defaults: bool) -> dict[str, object]:
    data = resource.model_dump(mode="json", exclude_none=True, exclude_defaults=not defaults)
    hidden = {"name", *KEPT_BY_THE_CLUSTER}
    metadata = {field: value for field, value in data["metadata"].items() if field not in hidden}
    return {"metadata": metadata, "spec": data["spec"]}


def _changes(path: Path, old: object, new: object) -> Iterator[Change]:
    if old == new:
        return
    if _nested(old, new, dict):
        before, after = old or {}, new or {}
        assert isinstance(before, Mapping)  # noqa: S101 - _nested said so, in words that mypy does not follow
        assert isinstance(after, Mapping)  # noqa: S101
        for key in dict.fromkeys((*before, *after)):
            yield from _changes((*path, key), before.get(key), after.get(key))
    elif isinstance(old, list) and isinstance(new, list) and any(isinstance(item, dict) for item in (*old, *new)):
        for place in range(max(len(old), len(new))):
            yield from _changes((*path, place), _at(old, place), _at(new, place))
    else:
        yield Change(path, old, new)


def _nested(old: object, new: object, kind: type) -> bool:
    """Return whether both are of the kind, or one is and the other is nothing."""
    return all(isinstance(each, kind) or each is None for each in (old, new))


def _at(items: list[object], place: int) -> object:
    return items[place] if place < len(items) else None


def _value(old: Resource | None, new: Resource) -> Iterator[Change]:
    """Tell of what a Secret holds: a token's value, what a trusted cluster is known by, a user's invite; never what."""
    if isinstance(new, Token):
        was = old.metadata.issued.digest if isinstance(old, Token) and old.metadata.issued else ""
        becomes = new.metadata.issued.digest if new.metadata.issued else ""
        if not becomes or was != becomes:
            yield Change(("value",), SECRET if was else None, SECRET)
    elif isinstance(new, TrustedCluster) and new.metadata.means is not None:
        was = old.metadata.means.digest if isinstance(old, TrustedCluster) and old.metadata.means else ""
        if was != new.metadata.means.digest:
            yield Change(("secret",), SECRET if was else None, SECRET)
    elif isinstance(new, User) and new.metadata.invite is not None:
        was = old.metadata.invite.digest if isinstance(old, User) and old.metadata.invite else ""
        if was != new.metadata.invite.digest:
            yield Change(("invite",), SECRET if was else None, SECRET)
