"""File copies as the node's event loop sees them: which requests are copies, whether they are allowed, what they did.

The copy itself runs in a process of the login user's (`runtime.node.transfer_child`). Whether it may run is the role
option fileCopy. It keeps files from being copied by the programs for it; a person with a shell can still print a file,
or type one: a role that must not let data out does not give a shell.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from runtime.core.access import Grant
from runtime.core.errors import AccessDenied, TeleportError
from runtime.node.copying.command import ScpRequest, parse_scp
from runtime.node.copying.records import FileTransfer, Transcript, text_to_bytes

__all__ = [
    "Copy",
    "FileTransfer",
    "ScpRequest",
    "Transcript",
    "copy_of_command",
    "copy_of_subsystem",
    "parse_scp",
    "refusal",
    "refused",
]

SUBSYSTEM = "sftp"
_COPYING_PROGRAM = re.compile(
    r"[\s'\"\\]*+(?:exec\s++|command\s++|sudo\s++)*+(?:[^\s;|&]*/)?(scp|sftp-server|rsync)(?:[\s'\"]|$)"
)
"""A command that starts a program of the node's own for copying files. Possessive, so that it takes linear time."""


class Copy(NamedTuple):
    """A file copy to be run by a process of the login user's."""

    kind: Literal["sftp", "scp"]
    command: str = ""
    """What scp asked for."""


def copy_of_subsystem(name: str, grant: Grant) -> Copy | None:
    """Return the copy that a subsystem is; None for every other subsystem. Raises AccessDenied."""
    if name != SUBSYSTEM:
        return None
    _check_allowed(grant, "sftp")
    return Copy("sftp")


def copy_of_command(command: str, grant: Grant) -> Copy | None:
    """Return the copy that a command is; None for a command that is the login shell's.

    Raises AccessDenied; InvalidInput for a command of scp's with what only a shell understands.
    """
    if found := _COPYING_PROGRAM.match(command):
        _check_allowed(grant, found[1])
    return Copy("scp", command) if parse_scp(command) else None


def refusal(error: TeleportError) -> bytes:
    """Return an error as text for the person, to be sent as the standard error of what was not run."""
    return text_to_bytes(str(error)) + (text_to_bytes(f"hint: {error.hint}") if error.hint else b"")


def refused(protocol: str, error: TeleportError, command: str = "") -> FileTransfer:
    """Return the record of a copy that was not begun. It has the command in place of a path."""
    return FileTransfer(protocol, "refused", command, success=False, error=str(error))


def _check_allowed(grant: Grant, program: str) -> None:
    if not grant.file_copy:
        raise AccessDenied(
            f"{program}: copying files is not allowed as {grant.login} on this node",
            hint="a role with the option fileCopy: false forbids it; an administrator can change it",
        )
