"""The --labels flag: `env=prod,uptime=[1m:"uptime -p"]` (manual, "Labeling Nodes").

    labels  = label *("," label)
    label   = name "=" (value / "[" period ":" command "]")
    value   = quoted / text without comma
    command = quoted / text up to the "]" that ends the label

In a quoted text a backslash takes the next character as it is. Quotes may be missing, as a shell removes them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from runtime.core.errors import InvalidInput
from runtime.service.sections.ssh import LabelCommand
from runtime.service.values import parse_command, parse_label_name, parse_label_value, parse_period, shown

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_LABEL = re.compile(
    rf"""\s*(?P<name>[^=,\[\]"]*)=
    (?:\[(?P<period>[^:\]]*):(?:(?P<quoted_command>{_QUOTED})|(?P<command>[^"].*?))\]
      |(?P<quoted_value>{_QUOTED})
      |(?P<value>[^",\[][^",]*|))
    (?:,|\Z)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Labels:
    """What --labels gives to a node: labels that stay, and labels whose values are what commands print."""

    static: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[LabelCommand, ...] = ()


def parse_labels(text: str) -> Labels:
    """Return the labels of the flag; an empty text has none. Raises InvalidInput."""
    static: dict[str, str] = {}
    commands: dict[str, LabelCommand] = {}
    end = 0
    while end < len(text):
        label = _LABEL.match(text, end)
        if not label:
            raise InvalidInput(f'expected labels such as env=prod,uptime=[1m:"uptime -p"], found {shown(text[end:])}')
        end = label.end()
        name = parse_label_name(label["name"])
        if name in static or name in commands:
            raise InvalidInput(f"the label {name} is set twice")
        if label["period"] is None:
            static[name] = parse_label_value(_unquoted(label["quoted_value"]) or label["value"] or "")
        else:
            command = parse_command(_unquoted(label["quoted_command"]) or label["command"] or "")
            commands[name] = LabelCommand(name=name, command=command, period=parse_period(label["period"]))
    if text.endswith(","):
        raise InvalidInput("expected a label after the last comma, found nothing")
    return Labels(static, tuple(commands.values()))


def _unquoted(text: str | None) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL) if text else ""
