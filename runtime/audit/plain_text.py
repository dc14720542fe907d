"""What a terminal's output says, without what it tells the terminal: for reading and searching. Pure."""

from __future__ import annotations

import re

_SEQUENCES = re.compile(
    r"""
      \x1b\[[0-?]*[ -/]*[@-~]          # control sequences (ECMA-48 §5.4)
    | \x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?  # strings for the operating system and others (§5.6)
    | \x1b[ -/]*[0-~]                  # other escape sequences (§5.3)
    | [\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]
    """,
    re.VERBOSE,
)


def plain_text(printed: bytes) -> str:
    """Return output as text: lines, tabs and letters. A line that was drawn over is the last that was drawn."""
    text = _SEQUENCES.sub("", printed.decode("utf-8", "replace")).replace("\r\n", "\n")
    return "\n".join(line.rpartition("\r")[2] for line in text.split("\n"))
