"""YAML text in, plain data and the line of each part out, so that an error can say where.

The dialect is the one that Go's YAML (kubectl, Teleport) reads: YAML 1.1 with `yes`/`no`, without dates and without
numbers in base 60, so that `2026-01-02` and `10:30` stay text. JSON is YAML. Stricter than a usual loader: no key
twice, keys are text, no tags, bounded size, depth and aliases. Nothing here does I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import yaml
from yaml.reader import Reader

from runtime.core.errors import InvalidInput

Path = tuple[str | int, ...]
"""A place within a document: keys and list indices from the root, as in `("spec", "logins", 1)`."""

MAX_TEXT_CHARACTERS = 4 * 1024 * 1024
"""Of one text: some ten thousand resources. It bounds the seconds that parsing may take."""

MAX_DEPTH = 50
"""Levels of nesting; the deepest document of ours has eight."""

MAX_ALIASED_NODES = 10_000
"""Nodes that aliases (`*name`) may repeat in one text: a "billion laughs" ends here."""

_LONGEST_NUMBER = 40


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document. `data` is made of dict (with text keys), list, str, int, float, bool and None only."""

    source: str
    """What the text was called by whoever loaded it: a file name, `<stdin>`."""
    index: int
    """Its place in the text: 1 for the first."""
    data: object
    _marks: Mapping[Path, tuple[int, str | None]] = field(repr=False, compare=False)

    def line_of(self, path: Path = ()) -> int:
        """Return the line, from 1, on which the key or item at `path` stands, or else the nearest thing around it."""
        while path and path not in self._marks:
            path = path[:-1]
        return self._marks[path][0]

    def text_of(self, path: Path) -> str | None:
        """Return a scalar as it was written, or None if there is none: what YAML reads as 8e3 may be half a token."""
        mark = self._marks.get(path)
        return mark[1] if mark else None


def load(text: str, *, source: str, raises: type[InvalidInput] = InvalidInput) -> list[Document]:
    """Return the documents of a YAML text, in order.

    There is none in a text of blanks and comments; a document without content (`---` alone) has `data` None.

    Raises `raises`, with the source and the line in the message, for what is not such YAML.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise raises(
            f"{source} has {len(text):,} characters; {MAX_TEXT_CHARACTERS:,} is the most", hint="Split it into files."
        )
    if found := Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise raises(f"{source}:{line}: holds the character U+{ord(found[0]):04X}, which YAML does not allow")
    # Events, not nodes: PyYAML composes nodes by recursion in C, and a deep text ends the process there.
    builder = _Builder(yaml.parse(text, Loader=yaml.CSafeLoader), source, raises)
    try:
        return list(builder.documents())
    except yaml.MarkedYAMLError as error:
        raise _translated(error, text, source, raises) from error


def dump(data: object) -> str:
    """Return plain data as a YAML document: block style, keys in the order given, text quoted where `load` needs it."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def show_path(path: Path) -> str:
    """Return a path as people write it: `spec.allow.logins[1]`; a key that is no plain word stands in `["…"]`."""
    shown = ""
    for step in path:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", step):
            shown += f".{step}" if shown else step
        else:
            shown += f'["{ascii(step)[1:-1]}"]'
    return shown or "the document"


_STR_TAG = "tag:yaml.org,2002:str"
_MERGE = "<<"
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_INTEGER = re.compile(r"[-+]?(?:0b[01][01_]*|0o?[0-7][0-7_]*|0x[0-9a-fA-F][0-9a-fA-F_]*|0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(?:(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?|\.inf)|\.nan")


@dataclass(frozen=True, slots=True)
class _Anchored:
    data: object
    text: str | None
    nodes: int


class _Builder:
    """Turns the parser's events into plain data and marks; the depth and what aliases repeat are bounded here."""

    def __init__(self, events: Iterator[yaml.Event], source: str, raises: type[InvalidInput]) -> None:
        self._events = events
        self._source = source
        self._raises = raises
        self._nodes = 0
        self._aliased = 0
        self._anchors: dict[str, _Anchored] = {}
        self._marks: dict[Path, tuple[int, str | None]] = {}

    def documents(self) -> Iterator[Document]:
        index = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                index += 1
                self._anchors, self._marks = {}, {}  # both end with their document
                root = next(self._events)
                data = self._child(root, root, ())
                yield Document(self._source, index, data, self._marks)

    def _child(self, at: yaml.Event, event: yaml.Event, path: Path) -> object:
        """Build what the event starts, and note that it stands at `at`, its key if it has one."""
        if len(path) > MAX_DEPTH:
            raise self._error(event, f"is nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            found = self._alias(event)
        else:
            text = event.value if isinstance(event, yaml.ScalarEvent) else None
            before = self._nodes
            found = _Anchored(self._build(event, path), text, self._nodes + 1 - before)
            self._nodes += 1
            if isinstance(event, yaml.NodeEvent) and event.anchor:
                self._anchors[event.anchor] = found
        self._marks[path] = (_line(at), found.text)
        return found.data

    def _alias(self, event: yaml.AliasEvent) -> _Anchored:
        found = self._anchors.get(event.anchor or "")
        if found is None:
            # Its name is not shown, nor is a tag's: it may be an unquoted password that starts with `*` or `!`.
            raise self._error(
                event,
                "an alias (*) stands for nothing that is complete before it",
                hint="Quote text that starts with *.",
            )
        self._nodes += found.nodes
        self._aliased += found.nodes
        if self._aliased > MAX_ALIASED_NODES:
            raise self._error(event, f"aliases repeat more than {MAX_ALIASED_NODES:,} values")
        return found

    def _build(self, event: yaml.Event, path: Path) -> object:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if isinstance(event, yaml.CollectionStartEvent) and event.tag not in (None, "!"):
            raise self._bad_tag(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        return self._sequence(path)

    def _sequence(self, path: Path) -> list[object]:
        items: list[object] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._child(event, event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, object]:
        own: dict[str, object] = {}
        merged: dict[str, object] = {}
        while not isinstance(at := next(self._events), yaml.MappingEndEvent):
            key, quoted = self._key(at)
            if key == _MERGE and not quoted:
                for source in self._merge_sources(at, path):
                    merged = {**source, **merged}  # of several sources the first wins
                continue
            if key in own:
                raise self._error(at, f"the key {key!a} is there twice", hint="Keep one of them.")
            own[key] = self._child(at, next(self._events), (*path, key))
        return {**merged, **own}

    def _merge_sources(self, at: yaml.Event, path: Path) -> list[dict[str, object]]:
        built = self._child(at, next(self._events), (*path, _MERGE))
        sources: list[dict[str, object]] = []
        for source in built if isinstance(built, list) else [built]:
            if not isinstance(source, dict):
                raise self._error(at, f"`{_MERGE}` merges mappings only")
            sources.append(source)
        return sources

    def _key(self, event: yaml.Event) -> tuple[str, bool]:
        """Return a key, and whether it was in quotes."""
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(event, "a key is text, not a list, a mapping or an alias")
        if not isinstance(self._scalar(event), str):
            raise self._error(event, f"the key {event.value} is not text to YAML", hint=f'Write it as "{event.value}".')
        return str(event.value), not event.implicit[0]

    def _scalar(self, event: yaml.ScalarEvent) -> object:
        text = str(event.value)
        if event.tag not in (None, "!", _STR_TAG):
            raise self._bad_tag(event)
        if not event.implicit[0] or event.tag == _STR_TAG:  # quoted, or said to be text
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in "+-.0123456789":
            return text
        is_integer, is_float = _INTEGER.fullmatch(text), _FLOAT.fullmatch(text)
        if (is_integer or is_float) and len(text) > _LONGEST_NUMBER:
            raise self._error(event, f"has a number of {len(text)} digits", hint="Quote it if it is text.")
        if is_integer:
            return _integer(text)
        return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan")) if is_float else text

    def _bad_tag(self, event: yaml.Event) -> InvalidInput:
        return self._error(event, "has a tag (!); tags are not understood here", hint="Quote text that starts with !.")

    def _error(self, event: yaml.Event, what: str, hint: str = "") -> InvalidInput:
        return self._raises(f"{self._source}:{_line(event)}: {what}", hint=hint)


class _Dumper(yaml.SafeDumper):
    """Quotes what this dialect, too, would not read as text: PyYAML's own rules do not know `1e3` as a number."""

    def ignore_aliases(self, data: object) -> bool:
        return True  # the same value twice is written twice


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = text not in _CONSTANTS and not _INTEGER.fullmatch(text) and not _FLOAT.fullmatch(text)
    return dumper.represent_scalar(_STR_TAG, text, style=None if plain else "'")


_Dumper.add_representer(str, _represent_text)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _integer(text: str) -> int:
    """Return the number; a leading zero means base 8, as in YAML 1.1 and Go."""
    sign = -1 if text[0] == "-" else 1
    digits = text.lstrip("+-").replace("_", "").lower()
    for prefix, base in (("0b", 2), ("0x", 16), ("0o", 8)):
        if digits.startswith(prefix):
            return sign * int(digits[2:], base)
    return sign * int(digits, 8 if digits.startswith("0") else 10)


def _translated(error: yaml.MarkedYAMLError, text: str, source: str, raises: type[InvalidInput]) -> InvalidInput:
    mark = error.problem_mark or error.context_mark
    number = mark.line + 1 if mark else 1
    lines = text.split("\n")
    line = lines[number - 1] if number <= len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return raises(f"{source}:{number}: is indented with a tab", hint="YAML takes spaces only: replace the tab.")
    where = f" {error.context}" if error.context else ""
    return raises(
        f"{source}:{number}: is not YAML: {error.problem}{where}",
        hint="Look at the indentation, colons and quotes of that line and of the one above it.",
    )
