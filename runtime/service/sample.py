"""The sample that `teleport configure` prints: each key with its description, at its default or behind a `#`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import timedelta
from enum import Enum
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from runtime.core.durations import format_duration
from runtime.service.schema import Section
from runtime.service.settings import Settings
from runtime.service.values import Address

_HEADER = """\
# teleport.yaml, usually /etc/teleport.yaml
#
# Every key there is. What is in force below is the default. The lines
#that_look: like this
# are examples; take their # away to use them. The flags of teleport start win
# over this file. To check it: teleport configure --test -c FILE
"""
_WIDTH = 80
_INDENT = "  "


def sample() -> str:
    """Return the sample, which means the same as an empty file."""
    parts = [_HEADER]
    for key, field in Settings.model_fields.items():
        parts.append("\n".join(_lines(key, field, "")) + "\n")
    return "\n".join(parts)


def written(value: object) -> object:
    """Return a setting's value as YAML has it: text for addresses, durations and choices."""
    match value:
        case Enum():
            return value.value
        case Address():
            return str(value)
        case timedelta():
            return format_duration(value)
        case tuple() | list():
            return [written(item) for item in value]
        case dict():
            return {key: written(item) for key, item in value.items()}
    return value


def as_yaml(data: object) -> str:
    """Return data as YAML in the manual's manner: `yes` and `no`, short lists on one line."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=1000, allow_unicode=True)


def _lines(key: str, field: FieldInfo, indent: str) -> Iterator[str]:
    comment = (field.description or "").replace("`", "")
    yield from textwrap.wrap(comment, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Section):
        yield f"{indent}{key}:"
        first = True
        for inner_key, inner in type(default).model_fields.items():
            if not first:
                yield ""
            first = False
            yield from _lines(inner_key, inner, indent + _INDENT)
    elif field.examples:
        for place, example in enumerate(field.examples):
            if place:
                yield f"{indent}# or"
            for line in as_yaml({key: example}).splitlines():
                yield f"{indent}#{line}"
    else:
        yield indent + as_yaml({key: written(default)}).rstrip()


class _Dumper(yaml.SafeDumper):
    """Writes as the manual does: mappings in lines, `yes` and `no`."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = False) -> yaml.MappingNode:
        return super().represent_mapping(tag, mapping, flow_style=flow_style)


def _yes_or_no(dumper: yaml.SafeDumper, value: bool) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:bool", "yes" if value else "no")


_Dumper.add_representer(bool, _yes_or_no)
