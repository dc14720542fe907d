"""What is different between two documents, field by field, for people to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from runtime.core.resources import KEPT_BY_THE_CLUSTER, Resource, Token
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
    """Tell of a token's value: one that it gets now, or another one."""
    if not isinstance(new, Token):
        return
    was = old.metadata.issued if isinstance(old, Token) else None
    becomes = new.metadata.issued
    if becomes is None or was is None or was.digest != becomes.digest:
        yield Change(("value",), SECRET if was else None, SECRET)
