"""What the process of a transfer tells the node about each operation on a file, on its standard error.

A record is an element of a JSON text sequence (RFC 7464: RS, JSON, LF); everything else there is text for the person.
A process that was root's before it became the user's cannot be traced by that user (ptrace(2), PR_SET_DUMPABLE): where
the node runs as root, a user cannot forge a record.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from typing import NamedTuple

logger = logging.getLogger(__name__)

RECORD_START = b"\x1e"
RECORD_LIMIT = 128 * 1024
"""Bytes of a record that is taken: two paths of PATH_MAX (4096) bytes, each of which may become `\\udc80`, and some."""


class FileTransfer(NamedTuple):
    """One operation on a file of the node's. Empty fields do not apply."""

    protocol: str
    """sftp or scp."""
    action: str
    """upload, download, remove, rename, mkdir, rmdir, link, symlink, attributes; refused, for what was not begun."""
    path: str
    """Absolute, as the user named it: links are not followed. Bytes that are not UTF-8 are surrogates (PEP 383)."""
    success: bool
    size: int = 0
    """Bytes that were copied."""
    error: str = ""
    target: str = ""
    """Where a rename or link leads."""

    def fields(self) -> dict[str, str | int | bool]:
        """Return the fields of the event file.transfer that say something."""
        always = ("protocol", "action", "path", "success")
        return {name: value for name, value in self._asdict().items() if name in always or value}


def record_to_bytes(record: FileTransfer) -> bytes:
    """Return a record as it goes over standard error."""
    return RECORD_START + json.dumps(record._asdict(), separators=(",", ":")).encode() + b"\n"


def text_to_bytes(text: str) -> bytes:
    """Return a line for the person."""
    return shown_to_bytes(text) + b"\r\n"


def shown_to_bytes(text: str) -> bytes:
    """Return text as it may be shown: no control character of a file's name reaches a terminal, or begins a record.

    Bytes that are not UTF-8 (PEP 383) stay as they are, but for those of C1, which are control characters of Latin-1.
    """
    return os.fsencode(
        "".join(letter if letter.isprintable() or "\udca0" <= letter <= "\udcff" else "?" for letter in text)
    )


class Transcript:
    """Parts the records from the text in what a transfer's process writes to its standard error."""

    def __init__(self, record: Callable[[FileTransfer], None]) -> None:
        self._record = record
        self._begun = b""
        """A record whose end has not come, from its RS on."""

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes; return those that are for the person. Records in them are handed on."""
        data, self._begun = self._begun + data, b""
        text, start, rest = data.partition(RECORD_START)
        shown = text
        while start:
            line, end, after = rest.partition(b"\n")
            if not end:
                self._begun = (start + line) if len(line) <= RECORD_LIMIT else start
                break
            self._take(line)
            text, start, rest = after.partition(RECORD_START)
            shown += text
        return shown

    def close(self) -> bytes:
        """Tell that no more will come. Returns nothing: a record without its end is dropped."""
        if self._begun:
            logger.warning("a file transfer ended within a record of %d bytes", len(self._begun))
        self._begun = b""
        return b""

    def _take(self, line: bytes) -> None:
        try:
            self._record(_record_from_json(json.loads(line)))
        except (ValueError, TypeError) as error:
            logger.warning("a file transfer told of something that is not a record: %s", error)


def _record_from_json(value: object) -> FileTransfer:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    record = FileTransfer(**value)
    for name, kind in _KINDS.items():
        if type(getattr(record, name)) is not kind:
            raise TypeError(f"{name} is not a {kind.__name__}")
    return record


_KINDS: dict[str, type] = {
    "protocol": str,
    "action": str,
    "path": str,
    "success": bool,
    "size": int,
    "error": str,
    "target": str,
}
