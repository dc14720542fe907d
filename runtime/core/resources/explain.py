"""Turns what pydantic says about a document into words for whoever wrote it: the path, what was found and expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from runtime.core.resources.names import shown
from runtime.core.yaml_marks import Path


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with a document, and where."""

    path: Path
    what: str


def mistakes_in(model: type[BaseModel], error: ValidationError) -> list[Mistake]:
    """Return everything that is wrong, in the order of the model's fields."""
    found: list[Mistake] = []
    for detail in error.errors(include_url=False):
        path = tuple(step for step in detail["loc"] if step != "[key]")  # pydantic's mark for "the key, not its value"
        found.append(Mistake(path, _words(model, path, detail)))
    # A list without its wrong entries counts as too short as well: that is no second mistake.
    inner = {mistake.path[:depth] for mistake in found for depth in range(len(mistake.path))}
    return [mistake for mistake in found if not (mistake.what.startswith(_TOO_SHORT) and mistake.path in inner)]


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?`, or nothing if no known word is near, capitals apart."""
    by_folded = {each.casefold(): each for each in known}
    close = get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return f"; did you mean {by_folded[close[0]]}?" if close else ""


def one_of(known: Sequence[str]) -> str:
    """Return `A or B`, or `one of A, B, C`."""
    return " or ".join(known) if len(known) < 3 else "one of " + ", ".join(known)


def kind_of(value: object) -> str:
    """Return what a value of plain data is called in YAML."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text {shown(value)}"
        case list() | tuple():
            return "a list"
    return "a mapping"


def _words(model: type[BaseModel], path: Path, detail: ErrorDetails) -> str:
    if detail["type"] == "extra_forbidden":
        known = sorted(_fields(_model_at(model, path)))
        name = str(path[-1])
        return "is not a field here" + (nearest(name, known) or f"; the fields are {', '.join(known)}")
    words = _WORDS.get(detail["type"])
    return words(detail["input"], detail.get("ctx", {})) if words else detail["msg"]


def _one_of(value: object, context: dict[str, Any]) -> str:
    known = re.findall(r"'([^']*)'", context["expected"])
    hint = nearest(value, known) if isinstance(value, str) else ""
    return f"expected {one_of(known)}, got {kind_of(value)}{hint}"


_TOO_SHORT = "expected at least"


def _entries(count: object) -> str:
    return f"{count} entry" if count == 1 else f"{count} entries"


# What a library calls its context is not typed; the keys are pydantic's, documented at "Validation Errors".
_WORDS: dict[str, Callable[[object, dict[str, Any]], str]] = {
    "invalid": lambda _, context: str(context["what"]),
    "missing": lambda _, __: "is required",
    "enum": _one_of,
    "literal_error": _one_of,
    "bool_type": lambda value, _: f"expected true or false, got {kind_of(value)}",
    "int_type": lambda value, _: f"expected a whole number, got {kind_of(value)}",
    "string_type": lambda value, _: (
        f"expected text, got {kind_of(value)}"
        + ("" if isinstance(value, list | dict) or value is None else "; put it in quotes")
    ),
    "tuple_type": lambda value, _: f"expected a list, got {kind_of(value)}; write [A, B]",
    **dict.fromkeys(
        ("model_type", "mapping_type", "dict_type", "model_attributes_type"),
        lambda value, _: f"expected a mapping, got {kind_of(value)}",
    ),
    "greater_than_equal": lambda value, context: f"expected at least {context['ge']}, got {value}",
    "less_than_equal": lambda value, context: f"expected at most {context['le']}, got {value}",
    "too_short": lambda _, context: f"{_TOO_SHORT} {_entries(context['min_length'])}",
    "too_long": lambda _, context: f"expected at most {_entries(context['max_length'])}",
}


def _model_at(model: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel]:
    """Return the model that the last step of the path is looked up in."""
    for step in path[:-1]:
        if isinstance(step, str) and step in _fields(model):
            model = _model_in(_fields(model)[step]) or model
    return model


def _fields(model: type[BaseModel]) -> dict[str, object]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model within an annotation such as `tuple[Rule, ...] | None`; ours hold one at most."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)
