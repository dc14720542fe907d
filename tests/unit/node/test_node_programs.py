"""What a session runs, of what was asked for, the certificate, and what the roles allow."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from runtime.core.access import Grant
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.core.resources.authority import AuthorityType
from runtime.node import programs
from runtime.node.spawner import Program, Terminal
from runtime.pki.identity import Proof, UserIdentity
from runtime.pki.keys import generate_key
from runtime.pki.trust import AuthorityKey
from runtime.transport.sessions import RequestedTerminal, SessionRequest, TerminalSize

NOW = datetime(2026, 11, 22, tzinfo=UTC)
KEY = generate_key().public
GRANT = Grant("joe", ("user:joe",), True, True, True, 10, None)
JOE = UserIdentity(
    user="joe",
    cluster="main",
    logins=("joe",),
    roles=(),
    permit_pty=True,
    permit_port_forwarding=True,
    permit_agent_forwarding=True,
    source_addresses=(),
    force_command=None,
    proof=Proof(KEY, 1, NOW, NOW, AuthorityKey(AuthorityType.USER, "main", KEY)),
)
WINDOW = RequestedTerminal("xterm", TerminalSize(80, 24), {53: 1})


def program(asked: SessionRequest, identity: UserIdentity = JOE, grant: Grant = GRANT) -> Program:
    """Go the way that a session goes."""
    request = programs.enforced(asked, identity)
    copy = programs.copy_of(request, grant)
    return programs.program_of(asked, request, copy, login="joe", environment={"LANG": "C"})


def test_a_shell_and_a_command() -> None:
    """As asked for, with and without a terminal."""
    terminal = Terminal("xterm", 80, 24, 0, 0, {53: 1})
    assert program(SessionRequest("shell", "", WINDOW)) == Program("joe", "shell", "", {"LANG": "C"}, terminal)
    assert program(SessionRequest("exec", "id")) == Program("joe", "exec", "id", {"LANG": "C"}, None)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        (SessionRequest("subsystem", "sftp", WINDOW), "sftp"),
        (SessionRequest("exec", "scp -t -- file", WINDOW), "scp"),
        (SessionRequest("exec", "scp -f file"), "scp"),
    ],
)
def test_copies_are_no_business_of_a_shell(asked: SessionRequest, kind: str) -> None:
    """They run without one, and never in a terminal; roles may forbid them."""
    made = program(asked)
    assert (made.kind, made.terminal) == (kind, None)
    with pytest.raises(AccessDenied, match="copying files is not allowed"):
        program(asked, grant=replace(GRANT, file_copy=False))


def test_scp_with_what_only_a_shell_understands() -> None:
    """It is refused: a shell would run it."""
    with pytest.raises(InvalidInput):
        program(SessionRequest("exec", "scp -t $(id)"))


@pytest.mark.parametrize(
    "asked",
    [
        SessionRequest("exec", "id"),
        SessionRequest("exec", "scp -f secret"),
        SessionRequest("subsystem", "sftp"),
    ],
)
def test_a_forced_command_takes_the_place_of_all(asked: SessionRequest) -> None:
    """Of a copy too; what was asked for it can read."""
    made = program(asked, replace(JOE, force_command="/bin/backup --now"))
    assert (made.kind, made.command) == ("exec", "/bin/backup --now")
    assert made.environment == {"LANG": "C", "SSH_ORIGINAL_COMMAND": asked.command}


def test_a_forced_command_in_place_of_a_shell() -> None:
    """It runs in the terminal that was asked for, and there was no command to tell of."""
    made = program(SessionRequest("shell", "", WINDOW), replace(JOE, force_command="/bin/menu"))
    assert (made.kind, made.command, made.environment) == ("exec", "/bin/menu", {"LANG": "C"})
    assert made.terminal is not None


def test_subsystems_that_there_are_not() -> None:
    """There is one."""
    assert programs.is_known(SessionRequest("subsystem", "sftp"))
    assert not programs.is_known(SessionRequest("subsystem", "netconf"))
    assert programs.is_known(SessionRequest("exec", "netconf"))
