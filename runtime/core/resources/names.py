"""What may be a name, login, label, address or duration. The CRDs hold the same patterns; a test compares them.

Only ASCII is a name, so that no two names look alike, and none of comma, space, slash and NUL is ever part of one:
names go into certificate principals, key paths and commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, Strict, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from runtime.core.durations import format_duration, parse_duration
from runtime.core.errors import InvalidInput

T = TypeVar("T")

MAX_NAME = 128
"""Characters of a resource's name: a Kubernetes name ends at 253, and names made of ours get prefixes and suffixes."""

MAX_ITEMS = 64
"""Entries of one list or map in a document; it bounds what one access decision costs."""

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""A DNS-1123 subdomain, because a Kubernetes object must be able to have the name."""
LOGIN_PATTERN = r"^[a-z_][a-z0-9_.-]{0,31}$"
LABEL_KEY_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?$"
LABEL_VALUE_PATTERN = r"^[ -~]{0,255}$"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
ADDRESS_PATTERN = r"^([A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]):" + _PORT + "$"
KEY_WITHIN_SECRET_PATTERN = r"^[-._a-zA-Z0-9]{1,253}$"  # noqa: S105 (a pattern, no password)
DURATION_PATTERN = (
    r"^([0-9]+(us|µs|μs)|([0-9]+(\.[0-9]{0,3})?|\.[0-9]{1,3})ms|([0-9]+(\.[0-9]{0,6})?|\.[0-9]{1,6})(s|m|h))+$"
)
"""Nothing finer than a microsecond, which an API server would take and we could not hold."""
SELECTOR_KEY_PATTERN = rf"^(\*|{LABEL_KEY_PATTERN[1:-1]})$"

ANY = "*"
GENERATED_ROLE = re.compile(r"(user|ca):(.+)")
"""`user:NAME` is made from a user's logins, `ca:NAME` for a trusted cluster; a person writes neither."""

WRITTEN_BY_PEOPLE = "written by people"
"""Key of the validation context: true for a document from a person, absent for what the cluster itself stored."""


def written_by_people(info: ValidationInfo) -> bool:
    """Tell whether what is validated is a document from a person, who may not name what the cluster generates."""
    return bool(info.context and info.context.get(WRITTEN_BY_PEOPLE))


def kept_by_the_cluster(value: T, info: ValidationInfo) -> T:
    """Return what is part of no document, as metadata have it. Raises PydanticCustomError where a person wrote it."""
    if value is not None and written_by_people(info):
        raise invalid("is kept by the cluster; leave it out")
    return value


def _text(pattern: str, longest: int, expected: str) -> Callable[[str], str]:
    """Return a check whose error says in words what was expected."""
    compiled = re.compile(pattern.removesuffix("$") + r"\Z")  # in Python `$` lets a newline through

    def check(value: str) -> str:
        if len(value) > longest or not compiled.match(value):
            raise invalid(f"expected {expected}", got=value)
        return value

    return check


def _schema(pattern: str, longest: int) -> WithJsonSchema:
    """Return what the CRDs say of such a text; a test compares the two."""
    return WithJsonSchema({"type": "string", "pattern": pattern, "maxLength": longest})


def invalid(what: str, got: object = None) -> PydanticCustomError:
    """Return an error for a validator to raise; `got` is shown, escaped and cut."""
    return PydanticCustomError("invalid", "{what}", {"what": what if got is None else f"{shown(got)}: {what}"})


def shown(value: object) -> str:
    """Return a value for an error message: ASCII, so that look-alikes and control characters show, and short."""
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "…"


_NAME_EXPECTED = (
    f"a name: a-z, 0-9, `-` and `.`, starting and ending with a letter or digit, at most {MAX_NAME} characters"
)
_name = _text(NAME_PATTERN, MAX_NAME, _NAME_EXPECTED)
Name = Annotated[str, Strict(), AfterValidator(_name), _schema(NAME_PATTERN, MAX_NAME)]
"""Name of a User, Token or TrustedCluster, of a cluster, and of a Kubernetes object that is referred to."""


def _role(value: str, info: ValidationInfo) -> str:
    if generated := GENERATED_ROLE.fullmatch(value):
        if written_by_people(info):
            raise invalid(f"the cluster makes {generated[1]}: roles itself; no document may name one", got=value)
        _name(generated[2])
        return value
    return _name(value)


RoleName = Annotated[str, Strict(), AfterValidator(_role), _schema(NAME_PATTERN, MAX_NAME)]
"""Name of a Role; `user:NAME` and `ca:NAME` are refused in documents from people."""

Login = Annotated[
    str,
    Strict(),
    AfterValidator(
        _text(LOGIN_PATTERN, 32, "a login: a-z or `_`, then at most 31 of a-z, 0-9, `_`, `.` and `-`"),
    ),
    _schema(LOGIN_PATTERN, 32),
]
"""An operating system user on the nodes."""

_label_key = _text(
    LABEL_KEY_PATTERN, 63, "a label: at most 63 of A-Z, a-z, 0-9, `_`, `.`, `/` and `-`, ends alphanumeric"
)
LabelKey = Annotated[str, Strict(), AfterValidator(_label_key)]
LabelValue = Annotated[
    str,
    Strict(),
    AfterValidator(_text(LABEL_VALUE_PATTERN, 255, "at most 255 printable ASCII characters")),
    _schema(LABEL_VALUE_PATTERN, 255),
]
Labels = Annotated[Mapping[LabelKey, LabelValue], Field(max_length=MAX_ITEMS)]
"""Labels of a node."""


_address = _text(ADDRESS_PATTERN, 320, "HOST:PORT, such as proxy.example.com:3080 or [::1]:3080")
Address = Annotated[str, Strict(), AfterValidator(_address), _schema(ADDRESS_PATTERN, 320)]
"""`host:port`; an IPv6 address stands in brackets."""

SecretKey = Annotated[
    str,
    Strict(),
    AfterValidator(_text(KEY_WITHIN_SECRET_PATTERN, 253, "a key of a Secret: letters, digits, `-`, `_`, `.`")),
    _schema(KEY_WITHIN_SECRET_PATTERN, 253),
]


_WRITTEN_DURATION = re.compile(DURATION_PATTERN.removesuffix("$") + r"\Z")


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not _WRITTEN_DURATION.match(value):
        raise invalid("expected a duration such as 30s, 5m, 8h or 1h30m", got=value)
    try:
        return parse_duration(value)
    except InvalidInput:
        raise invalid("expected a duration such as 30s, 5m, 8h or 1h30m", got=value) from None


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    _schema(DURATION_PATTERN, 64),
]


def _whole(value: object) -> object:
    """Take 3.0 for 3: to an API server they are the same number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = BeforeValidator(_whole)
"""What makes a strict int a whole number, however it is written."""


def between(shortest: timedelta, longest: timedelta) -> AfterValidator:
    """Return the check that a duration lies within both ends, which belong to the range."""

    def check(value: timedelta) -> timedelta:
        if not shortest <= value <= longest:
            bounds = f"expected {format_duration(shortest)} to {format_duration(longest)}"
            raise invalid(bounds, got=format_duration(value) if value >= timedelta() else str(value))
        return value

    return AfterValidator(check)


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise invalid("is there twice", got=value)
        seen.add(value)
    return values


Distinct = AfterValidator(_distinct)
"""No value twice in a list."""

_PREFIX = NAME_PATTERN[1:-1]
_NOTE_KEY_PATTERN = rf"^({_PREFIX}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$"
_note_key = _text(_NOTE_KEY_PATTERN, 317, "a key such as team or example.com/team")
_NOTE = r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$"
_note = _text(_NOTE, 63, "a label: at most 63 letters, digits, `-`, `_` and `.`, starting and ending alphanumeric")


def _annotation_key(value: str) -> str:
    _note_key(value.lower())  # as Kubernetes does, whose labels have prefixes in lower case only
    return value


ObjectLabels = Mapping[
    Annotated[str, Strict(), AfterValidator(_note_key)], Annotated[str, Strict(), AfterValidator(_note)]
]
"""metadata.labels, as an API server takes them."""

Annotations = Mapping[Annotated[str, Strict(), AfterValidator(_annotation_key)], Annotated[str, Strict()]]
"""metadata.annotations, as an API server takes them."""

_selector_key = _text(SELECTOR_KEY_PATTERN, 63, "a label, or * for any")


def _any_only_with_any(labels: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    if ANY in labels and labels[ANY] != (ANY,):
        raise invalid('the label * goes with the value * only: {"*": ["*"]} is every node')
    return labels


Selector = Annotated[
    Mapping[
        Annotated[str, Strict(), AfterValidator(_selector_key)],
        Annotated[tuple[LabelValue, ...], Field(min_length=1, max_length=MAX_ITEMS), Distinct],
    ],
    Field(max_length=MAX_ITEMS),
    AfterValidator(_any_only_with_any),
]
"""Labels that a node must have: for each key one of the values, `*` being any. `{"*": ["*"]}` is every node."""
