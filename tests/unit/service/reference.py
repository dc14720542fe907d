"""Writes the tables of docs/configuration.md from the settings; run as `python -m tests.unit.service.reference`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import PlainValidator, SecretStr
from pydantic.fields import FieldInfo

from runtime.service.sample import as_yaml, written
from runtime.service.schema import Section, sections
from runtime.service.settings import Settings
from runtime.service.values import Address, StaticToken

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
BEGIN = "<!-- The tables are written by: python -m tests.unit.service.reference -->\n"
END = "<!-- The tables end here. -->\n"

KINDS: dict[object, str] = {
    bool: "yes or no",
    int: "number",
    str: "text",
    timedelta: "duration",
    Address: "host:port",
    SecretStr: "secret text",
    StaticToken: "secret text",
}


def tables() -> str:
    """Return a heading and a table of keys for each section."""
    return "\n".join("\n".join(_table(path, section)) + "\n" for path, section in _sections())


def page(current: str) -> str:
    """Return the page with its tables written anew."""
    before, _, rest = current.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _sections() -> Iterator[tuple[tuple[str, ...], type[Section]]]:
    """Yield the sections below the top; of those that are one under several names, the first name only."""
    seen: list[type[Section]] = []
    for path, section in sections(Settings):
        if path and section not in seen:
            seen.append(section)
            yield path, section


def _table(path: tuple[str, ...], section: type[Section]) -> Iterator[str]:
    typed = path[:2] in (("teleport", "storage"), ("audit", "sinks"))
    name = f"{'.'.join(path[:2])}, type {path[2]}" if typed else ".".join(path)
    yield f"### {name}"
    yield ""
    yield from ["| Key | Kind | Default | Meaning |", "|---|---|---|---|"]
    for key, field in section.model_fields.items():
        extra = field.json_schema_extra
        added = " *(added)*" if isinstance(extra, dict) and extra.get("added") else ""
        yield f"| `{key}`{added} | {_field_kind(field)} | {_default(field)} | {field.description} |"


def _field_kind(field: FieldInfo) -> str:
    """Return how the value is written: what one parser takes whole, a tuple of logins say, is text."""
    read_whole = any(isinstance(part, PlainValidator) for part in field.metadata)
    return "text" if read_whole and get_origin(field.annotation) is tuple else _kind(field.annotation)


def _kind(annotation: object) -> str:
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is Mapping:
        return "section of text"
    if arguments:
        return "section" if all(map(_is_section, arguments)) else _kind(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    return "section" if _is_section(annotation) else KINDS.get(annotation, "text")


def _is_section(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None or default == () or default == {} or isinstance(default, Section):
        return ""
    return f"`{as_yaml(written(default)).removesuffix('...' + chr(10)).strip()}`"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
