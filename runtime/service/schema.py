"""What every section of teleport.yaml shares: how a key's text becomes its value, and a walk over all sections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from runtime.core.errors import InvalidInput
from runtime.service.values import did_you_mean, either, shown

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

ADDED: dict[str, Any] = {"added": True}  # Any: pydantic's own type for json_schema_extra
"""Marks a key that the manual does not have: `Field(…, json_schema_extra=ADDED)`."""


class Section(BaseModel):
    """A mapping of known keys. A value never changes; text that came from a file is never shown whole."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _left_empty(cls, data: object) -> object:
        """Take a key with nothing after it (what is under it commented out, say) as not written."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None or key not in cls.model_fields}


def read(kind: type[T], parse: Callable[[str], T]) -> PlainValidator:
    """Return the validator of a key whose text `parse` understands; a ready value of `kind` passes as it is.

    `parse` raises InvalidInput with a message that says what was expected.
    """

    def validate(value: object) -> T:
        if isinstance(value, str):
            try:
                return parse(value)
            except InvalidInput as error:
                raise PydanticCustomError("value", "{reason}", {"reason": str(error)}) from error
        if isinstance(value, kind):
            return value
        raise PydanticCustomError("kind", "expected a single value")

    return PlainValidator(validate)


def choice(kind: type[E]) -> PlainValidator:
    """Return the validator of a key that takes one of the values of an enumeration, in any case."""
    known = {member.value.lower(): member for member in kind}

    def parse(text: str) -> E:
        if text.lower() not in known:
            names = [member.value for member in kind]
            raise InvalidInput(f"expected {either(names)}, found {shown(text)}{did_you_mean(text, names)}")
        return known[text.lower()]

    return read(kind, parse)


def contradiction(*path: str | int, reason: str) -> PydanticCustomError:
    """Return the error of a section's validator that its keys exclude each other; `path` in it says where to look."""
    return PydanticCustomError("contradiction", "{reason}", {"reason": reason, "path": path})


def sections(root: type[Section], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], type[Section]]]:
    """Yield each section below `root` with its path, itself first.

    The items of a list share the list's path. Where a key takes one of several sections, as `storage` does, the `type`
    of each is a further step of the path, which is also how pydantic's errors name it.
    """
    yield path, root
    for key, field in root.model_fields.items():
        kinds = [kind for kind in _leaves(field.annotation) if isinstance(kind, type) and issubclass(kind, Section)]
        for kind in kinds:
            tags: tuple[str, ...] = get_args(kind.model_fields["type"].annotation) if len(kinds) > 1 else ()
            for below in [(*path, key, tag) for tag in tags] or [(*path, key)]:
                yield from sections(kind, below)


def _leaves(annotation: object) -> Iterator[object]:
    if get_origin(annotation) is Literal or not get_args(annotation):
        yield annotation
    else:
        for argument in get_args(annotation):
            yield from _leaves(argument)
