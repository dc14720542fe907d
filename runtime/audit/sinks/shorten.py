"""An event made to fit where the whole of it does not. Pure."""

from __future__ import annotations

import json

SHORTENED = "shortened"
"""The field that says that values were cut; the whole event is in the log, under its uid."""
MAX_VALUE = 256
"""Characters that are left of a value."""
_MAX_FIELDS = 32


def shorten(line: bytes) -> bytes:
    """Return a line of the log with its long values cut; of one that is no event, the beginning as text."""
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        event = {"line": line[:MAX_VALUE].decode("ascii", "replace")}
    cut = {key[:MAX_VALUE]: _cut(value) for key, value in list(event.items())[:_MAX_FIELDS]}
    return json.dumps({**cut, SHORTENED: True}, ensure_ascii=True, separators=(",", ":")).encode()


def _cut(value: object) -> object:
    if isinstance(value, str):
        return value[:MAX_VALUE]
    if isinstance(value, list | dict):
        return json.dumps(value)[:MAX_VALUE]
    return value
