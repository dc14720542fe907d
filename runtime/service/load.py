"""From a file and flags to settings: read, parse, validate, apply the flags, check. Every mistake is told at once."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path as FilePath
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from runtime.core import defaults, yaml_marks
from runtime.core.errors import InvalidSettings
from runtime.core.yaml_marks import Document, Path, show_path
from runtime.service.checks import contradictions
from runtime.service.flags import NO_FLAGS, Flags, one_or_all, with_flags
from runtime.service.schema import sections
from runtime.service.settings import Settings
from runtime.service.values import did_you_mean, either, shown

MAX_FILE_BYTES = 1024 * 1024
"""Of teleport.yaml; the sample has four thousand."""

_SECTIONS = {path: tuple(section.model_fields) for path, section in sections(Settings)}
_TYPES: Mapping[tuple[str, ...], tuple[str, ...]] = {
    above: tuple(path[-1] for path in _SECTIONS if path[:-1] == above)
    for above in (("teleport", "storage"), ("audit", "sinks"))
}
"""The kinds of section that may stand under one key, each with its `type`."""
_TYPE_NAMES = frozenset(name for names in _TYPES.values() for name in names)
_HINT = "Nothing was started. `teleport configure` prints a sample with every key."


class Mistake(NamedTuple):
    """One thing that is wrong: where, and what was expected there."""

    line: int
    path: Path
    message: str


def load_settings(flags: Flags = NO_FLAGS, *, default_file: str = defaults.CONFIG_FILE) -> Settings:
    """Return the settings that the flags and their file give.

    Without --config it is `default_file`; where that does not exist the defaults hold.
    Raises InvalidSettings, which tells every mistake in the order of lines.
    """
    file = flags.config or default_file
    try:
        text = _read(file)
    except FileNotFoundError as error:
        if flags.config is not None:
            hint = "Nothing was started. Make one with: teleport configure > FILE"
            raise InvalidSettings(f"{file}: there is no such file", hint=hint) from error
        text = ""
    except OSError as error:
        hint = "Nothing was started. It must be a file that the user who starts teleport may read."
        raise InvalidSettings(f"{file}: cannot be read: {error.strerror}", hint=hint) from error
    return resolve(text, flags, source=file)


def resolve(text: str, flags: Flags = NO_FLAGS, *, source: str = defaults.CONFIG_FILE) -> Settings:
    """Return the settings that the text of a file (called `source` in errors) and flags give. Does no I/O.

    Raises InvalidSettings.
    """
    documents = yaml_marks.load(text, source=source, raises=InvalidSettings)
    if len(documents) > 1:
        line = documents[1].line_of()
        raise InvalidSettings(f"{source}:{line}: a second document begins; one file holds one", hint=_HINT)
    if not documents or documents[0].data is None:
        return _checked(Settings(), flags, source, None)
    document = documents[0]
    try:
        settings = Settings.model_validate(_as_written(document, document.data))
    except ValidationError as error:
        raise _invalid(source, [_mistake(document, details) for details in error.errors()]) from error
    return _checked(settings, flags, source, document)


def _read(file: str) -> str:
    with FilePath(file).open("rb") as stream:
        content = stream.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise InvalidSettings(f"{file}: is larger than {MAX_FILE_BYTES:,} bytes", hint=_HINT)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidSettings(f"{file}:{line}: is not UTF-8 text", hint=_HINT) from error


def _checked(settings: Settings, flags: Flags, source: str, document: Document | None) -> Settings:
    settings = with_flags(settings, flags)
    mistakes = [
        Mistake(document.line_of(path) if document else 0, path, message)
        for path, message in contradictions(settings, flags)
    ]
    if mistakes:
        raise _invalid(source, mistakes)
    return settings


def _as_written(document: Document, value: object, path: Path = ()) -> object:
    """Return the document with every scalar as its text, so that `off`, `0123` and `1.10` mean what their keys say."""
    if isinstance(value, dict):
        return {key: _as_written(document, item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_written(document, item, (*path, place)) for place, item in enumerate(value)]
    text = document.text_of(path)
    return value if value is None or text is None else text


def _invalid(source: str, mistakes: list[Mistake]) -> InvalidSettings:
    told = [
        f"{source}:{line}: {show_path(path)}: {message}" if line and path
        else f"{source}:{line}: {message}" if line
        else f"{show_path(path)}: {message}" if path
        else message
        for line, path, message in sorted(mistakes, key=attrgetter("line"))
    ]  # fmt: skip
    return InvalidSettings(one_or_all(told, source), hint=_HINT)


def _mistake(document: Document, details: ErrorDetails) -> Mistake:
    context = details.get("ctx", {})
    path, value = _find(document.data, (*details["loc"], *context.get("path", ())))
    found = _kind(value)
    match details["type"]:
        case "value" | "contradiction":
            message = str(context["reason"])
        case "kind":
            message = f"expected a single value, found {found}"
            if found == "a section":
                message += "; text with a colon in it stands in quotes"
        case "extra_forbidden":
            message = _unknown_key(details["loc"])
        case "missing":
            message = "is required"
        case "model_type" | "model_attributes_type" | "mapping_type" | "dict_type":
            message = f"expected a section of keys, found {found}"
        case "tuple_type":
            message = f"expected a list, found {found}"
        case "too_short":
            message = "expected at least one item, found none"
        case "union_tag_not_found":
            path, message = (*path, "type"), f"is required: {either(_types(path))}"
        case "union_tag_invalid":
            tag = str(context["tag"])
            known = _types(path)
            message = f"expected {either(known)}, found {shown(tag)}{did_you_mean(tag, known)}"
            path = (*path, "type")
        case _:
            message = details["msg"]
    return Mistake(document.line_of(path), path, message)


def _find(data: object, steps: tuple[str | int, ...]) -> tuple[Path, object]:
    """Return the path within the document that pydantic's location means, and what stands there.

    Steps that are not in the document are left out (pydantic names the `type` of a storage, say), but for a last key:
    that one is missing.
    """
    path: list[str | int] = []
    for place, step in enumerate(steps, 1):
        below: dict[object, object] = (
            dict(enumerate(data)) if isinstance(data, list) else data if isinstance(data, dict) else {}
        )
        if step in below or (place == len(steps) and step not in ("[key]", *_TYPE_NAMES)):
            data = below.get(step)
            path.append(step)
    return tuple(path), data


def _kind(value: object) -> str:
    """Return what kind of thing it is; never the thing itself, which may be a secret."""
    match value:
        case None:
            return "nothing"
        case dict():
            return "a section"
        case list():
            return "a list"
    return "a single value"


def _unknown_key(location: tuple[str | int, ...]) -> str:
    """Say where the key belongs, if that is another section, or which key of this one is meant."""
    *above, key = (step for step in location if isinstance(step, str))
    homes = [path for path, keys in _SECTIONS.items() if key in keys]
    what = f"does not belong here, but in {either(map(_section_name, homes))}" if homes else "unknown key"
    return what + did_you_mean(key, _SECTIONS.get(tuple(above), ()))


def _types(path: Path) -> tuple[str, ...]:
    """Return what may be the `type` of the section at a path."""
    return _TYPES[tuple(step for step in path if isinstance(step, str))]


def _section_name(path: tuple[str, ...]) -> str:
    if path[:-1] in _TYPES:
        return f"{'.'.join(path[:-1])} of type {path[-1]}"
    return ".".join(path) or "the top of the file"
