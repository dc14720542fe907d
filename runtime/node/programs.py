"""What a session runs: made of what was asked for, the certificate, and what the roles allow. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from runtime.core.access import Grant
from runtime.node import transfer
from runtime.node.environment import terminal_type
from runtime.node.spawner import Program, Terminal
from runtime.pki.identity import UserIdentity
from runtime.transport.sessions import RequestedTerminal, SessionRequest


def is_known(asked: SessionRequest) -> bool:
    """Tell whether it is something that a node has at all."""
    return asked.kind != "subsystem" or asked.command == transfer.SUBSYSTEM


def enforced(asked: SessionRequest, identity: UserIdentity) -> SessionRequest:
    """Return what is to run: the certificate's forced command, if it has one, else what was asked for."""
    return asked if identity.force_command is None else replace(asked, kind="exec", command=identity.force_command)


def copy_of(request: SessionRequest, grant: Grant) -> transfer.Copy | None:
    """Return the copy of files that a request is, if it is one. Raises AccessDenied, InvalidInput."""
    if request.kind == "shell":
        return None
    if request.kind == "subsystem":
        return transfer.copy_of_subsystem(request.command, grant)
    return transfer.copy_of_command(request.command, grant)


def program_of(
    asked: SessionRequest,
    request: SessionRequest,
    copy: transfer.Copy | None,
    *,
    login: str,
    environment: Mapping[str, str],
) -> Program:
    """Return what the spawner is to start.

    A command in whose place a forced one runs is told to that one (sshd_config(5), ForceCommand).
    """
    if request is not asked and asked.command:
        environment = {**environment, "SSH_ORIGINAL_COMMAND": asked.command}
    if copy is not None:
        return Program(login, copy.kind, copy.command, environment)  # in a terminal its bytes would not be its own
    kind: Literal["shell", "exec"] = "shell" if request.kind == "shell" else "exec"
    return Program(login, kind, request.command, environment, _terminal(request.terminal))


def _terminal(requested: RequestedTerminal | None) -> Terminal | None:
    if requested is None:
        return None
    return Terminal(terminal_type(requested.term), *requested.size, modes=requested.modes)
