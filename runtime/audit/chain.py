"""The chain through the event log: each line names the SHA-256 of the line before it. Pure.

Whoever changes, removes or inserts a line has to rewrite all that follow; `runtime.audit.verify` finds the first link
that does not hold.
"""

from __future__ import annotations

import hashlib

PREV = "prev"
"""The field with the link: hexadecimal digits, in lower case."""
START = "0" * 64
"""What the first line of all names."""


def link(line: bytes) -> str:
    """Return what the line after this one has to name; `line` is without its newline."""
    return hashlib.sha256(line).hexdigest()
