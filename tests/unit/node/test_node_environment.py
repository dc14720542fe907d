"""What a client may set in a session's environment, and what we tell there."""

from __future__ import annotations

import pytest

from runtime.node.environment import MAX_VALUE_BYTES, MAX_VARIABLES, ClientVariables, session_environment, terminal_type
from runtime.transport.guards import Peer


@pytest.mark.parametrize("name", [b"LANG", b"LC_ALL", b"LC_TIME", b"LC_MY_OWN"])
def test_language_may_be_set(name: bytes) -> None:
    """The variables that sshd of Debian accepts."""
    variables = ClientVariables()
    assert variables.take(name, b"de_DE.UTF-8")
    assert variables.all() == {name.decode(): "de_DE.UTF-8"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"PATH", b"/evil"),
        (b"LD_PRELOAD", b"/evil.so"),
        (b"BASH_ENV", b"/evil"),
        (b"SSH_AUTH_SOCK", b"/evil"),
        (b"SSH_ORIGINAL_COMMAND", b"evil"),
        (b"LANGUAGE", b"en"),
        (b"LC_", b"x"),
        (b"LC_\xff", b"x"),
        (b"LC_A=B", b"x"),
        (b"LC_A\n", b"x"),
        (b"LANG", b"x\0y"),
        (b"LANG", b"x" * (MAX_VALUE_BYTES + 1)),
        (b"", b""),
    ],
)
def test_nothing_else_may(name: bytes, value: bytes) -> None:
    """What could run code or mislead us, is malformed, or too long."""
    variables = ClientVariables()
    assert not variables.take(name, value)
    assert variables.all() == {}


def test_only_so_many() -> None:
    """A client cannot fill the memory; one that it has set it may set again."""
    variables = ClientVariables()
    taken = [variables.take(f"LC_{number}".encode(), b"x" * MAX_VALUE_BYTES) for number in range(100)]
    assert taken == [True] * MAX_VARIABLES + [False] * (100 - MAX_VARIABLES)
    assert variables.take(b"LC_0", b"again")
    assert variables.all()["LC_0"] == "again"


def test_bytes_pass_as_they_are() -> None:
    """A value need not be UTF-8."""
    variables = ClientVariables()
    variables.take(b"LC_X", b"\xff")
    assert variables.all()["LC_X"].encode("utf-8", "surrogateescape") == b"\xff"


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("xterm-256color", "xterm-256color"),
        ("screen.xterm", "screen.xterm"),
        ("", "dumb"),
        ("../../etc/passwd", "dumb"),
        ("x" * 65, "dumb"),
        ("a\nb", "dumb"),
        (".hidden", "dumb"),
    ],
)
def test_a_terminal_type_names_a_terminal(asked: str, given: str) -> None:
    """It becomes part of the path of a file that programs read; what cannot be one is `dumb`."""
    assert terminal_type(asked) == given


def test_a_session_is_told_what_it_is() -> None:
    """sshd's variables in sshd's form (ssh(1), "ENVIRONMENT"), and ours."""  # noqa: D403 - a program's name
    found = session_environment(
        session="5d1c", user="joe", cluster="main", host_id="f84f", peer=Peer("::1", 5), local=Peer("::2", 3022)
    )
    assert found == {
        "SSH_CONNECTION": "::1 5 ::2 3022",
        "SSH_CLIENT": "::1 5 3022",
        "SSH_SESSION_ID": "5d1c",
        "SSH_TELEPORT_USER": "joe",
        "SSH_TELEPORT_CLUSTER_NAME": "main",
        "SSH_TELEPORT_HOST_UUID": "f84f",
    }
