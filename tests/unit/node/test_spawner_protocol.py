"""The spawner's pure parts: messages, terminal modes, environment, accounts, how a process ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from runtime.core.errors import AccessDenied, InvalidInput, NotFound, TeleportError, Unavailable
from runtime.node.spawner import Exit, exit_of
from runtime.node.spawning import environment, protocol, sockets, users
from runtime.node.spawning.child import arguments_of
from runtime.node.spawning.protocol import Request, Terminal
from runtime.node.spawning.terminal import CC, CFLAG, IFLAG, ISPEED, LFLAG, OFLAG, OSPEED, with_modes

ROOT = Path(__file__).parents[3]
PLAIN = [termios.ICRNL, termios.OPOST, termios.CS8, termios.ECHO | termios.ISIG, termios.B38400, termios.B38400]
ATTRIBUTES = [*PLAIN, [b"\x03", *[b"\0"] * 31]]


def test_requests_survive_the_way() -> None:
    """A request is read as it was written: bytes that are not UTF-8, quotes, NUL, terminals with their modes."""
    requests = [
        Request("shell", "alice", terminal=Terminal("xterm", 80, 24, 640, 480, {1: 3, 53: 0})),
        Request("exec", "alice", "printf '\udcff\u00e9\0\"\\'", {"LANG": "de_DE.UTF-8"}),
        Request("listen_unix", "alice", path="/tmp/s", folder=True),
        Request("listen_tcp", "alice", host="::1", port=65535),
    ]
    assert [protocol.request_from_text(protocol.request_to_text(request)) for request in requests] == requests


def test_requests_of_any_length_fit_into_a_file() -> None:
    """A command far longer than a packet of the socket is read as it was written."""
    request = Request("exec", "alice", "x" * 1024 * 1024)
    with open(protocol.request_to_file(request), "rb") as file:  # noqa: PTH123 - a descriptor
        assert not os.get_inheritable(file.fileno())
        assert protocol.request_from_text(file.read()) == request


def test_messages_bring_their_descriptors() -> None:
    """What is sent with descriptors arrives with them, close-on-exec; the end is no message."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, Path(__file__).open("rb") as file:
        protocol.send(ours, {"pid": 7}, [file.fileno()])
        ours.close()
        received = protocol.receive(theirs)
        assert received is not None
        message, (descriptor,) = received
        assert message == {"pid": 7}
        assert os.path.sameopenfile(descriptor, file.fileno())
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)
        assert protocol.receive(theirs) is None


@pytest.mark.parametrize("kind", [NotFound, AccessDenied, InvalidInput, Unavailable])
def test_errors_survive_the_way(kind: type[TeleportError]) -> None:
    """An error is raised at the caller as what it was, with its text and hint."""
    with pytest.raises(kind, match=r"^no such user$") as raised:
        protocol.raise_from_message(protocol.error_to_message(kind("no such user", hint="make one")))
    assert raised.value.hint == "make one"


def test_an_error_is_shorter_than_a_packet() -> None:
    """However long a text a machine's file puts into an error, the error can be sent."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        protocol.send(ours, protocol.error_to_message(NotFound("\U0001f512" * 100_000, hint="x" * 100_000)))
        received = protocol.receive(theirs)
        assert received is not None
        with pytest.raises(NotFound):
            protocol.raise_from_message(received[0])


def test_modes_become_attributes() -> None:
    """RFC 4254 §8: characters, flags of each field, sizes and speeds; 255 switches a character off."""
    modes = {1: 255, 3: 8, 36: 0, 42: 1, 53: 0, 62: 1, 70: 0, 72: 1, 90: 1, 92: 1, 128: 9600, 129: 115200}
    changed = with_modes(ATTRIBUTES, modes)
    assert changed[CC][termios.VINTR] == b"\0"
    assert changed[CC][termios.VERASE] == b"\x08"
    assert changed[IFLAG] == 0o40000
    assert changed[OFLAG] == termios.ONLCR
    assert changed[CFLAG] == termios.CS7 | termios.PARENB
    assert changed[LFLAG] == termios.ISIG | termios.PENDIN
    assert (changed[ISPEED], changed[OSPEED]) == (termios.B9600, termios.B115200)


def test_modes_that_linux_has_not_change_nothing() -> None:
    """Unknown opcodes, a speed that no line has, and switching off a character size leave all as it is."""
    assert with_modes(ATTRIBUTES, {0: 1, 11: 1, 17: 1, 99: 1, 255: 1, 128: 12345, 90: 0, 91: 0}) == ATTRIBUTES
    assert ATTRIBUTES[CC][termios.VINTR] == b"\x03"  # type: ignore[index] # a list of both


def build(**changes: object) -> dict[str, str]:
    """Return the environment of alice."""
    given: dict[str, object] = {
        "login": "alice",
        "home": "/home/alice",
        "shell": "/bin/bash",
        "superuser": False,
        "defaults": {},
        "added": {},
    }
    return environment.build(**(given | changes))  # type: ignore[arg-type] # as in given


def test_the_environment_is_built_from_nothing() -> None:
    """Without a terminal and without additions there is what login gives, and no more."""
    assert build() == {
        "HOME": "/home/alice",
        "USER": "alice",
        "LOGNAME": "alice",
        "SHELL": "/bin/bash",
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/games",
    }
    assert build(superuser=True)["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_a_terminal_adds_its_type_and_name() -> None:
    """TERM and SSH_TTY are the terminal's, whatever the client adds."""
    built = build(term="xterm", tty="/dev/pts/7", added={"TERM": "vt100", "SSH_TTY": "/dev/null", "LANG": "C"})
    assert (built["TERM"], built["SSH_TTY"], built["LANG"]) == ("xterm", "/dev/pts/7", "C")
    assert build(added={"TERM": "vt100"})["TERM"] == "vt100"
    assert "SSH_TTY" not in build(added={"SSH_TTY": "/dev/null"})


def test_paths_come_from_login_defs() -> None:
    """ENV_PATH and ENV_SUPATH of login.defs, written as there, take the place of the built-in paths."""
    defaults = environment.parse_defaults(
        "# ENV_PATH PATH=/no\nENV_SUPATH\tPATH=/sbin:/bin\nENV_PATH  PATH=/bin \n\n  UMASK 027\nlonely\n"
    )
    assert build(defaults=defaults)["PATH"] == "/bin"
    assert build(defaults=defaults, superuser=True)["PATH"] == "/sbin:/bin"
    assert environment.umask(defaults) == 0o027


@pytest.mark.parametrize("text", ["", "UMASK", "UMASK 9", "UMASK rwx", "UMASK 7777", "UMASK -1"])
def test_an_umask_that_is_none_is_022(text: str) -> None:
    """A login.defs without a usable UMASK leaves files writable by their owner alone."""
    assert environment.umask(environment.parse_defaults(text)) == 0o022


@pytest.mark.parametrize(
    "name",
    [
        *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "IFS", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT"),
        *("BASH_ENV", "ENV", "BASH_FUNC_ls%%", "SHELLOPTS", "PS4", "PYTHONPATH", "PYTHONSTARTUP", "PERL5OPT"),
        *("GLIBC_TUNABLES", "GCONV_PATH", "NODE_OPTIONS", "", "A B", "A=B", "1A", "A\n", "\u00c4"),
    ],
)
def test_what_changes_how_programs_run_is_never_added(name: str) -> None:
    """Neither what the login says of itself, nor what makes a program load code, nor a name that is none."""
    assert build(added={name: "/evil"}) == build()


def test_harmless_variables_are_added() -> None:
    """What the node has allowed and told arrives; a value with a NUL does not."""
    added = {"LANG": "C.UTF-8", "LC_ALL": "C", "SSH_AUTH_SOCK": "/tmp/s", "SSH_CONNECTION": "::1 1 ::1 2", "X": "a=b"}
    assert build(added={**added, "Y": "a\0b"}) == build() | added


SHADOW = "root:*:1::::::\nalice:!:19000:0:99999:7:::\nbob:$y$x:1:0:1:7:0:100:\neve:x:1:::::0:\ndan:x:1:::::x:\nold:x\n"


def test_accounts_expire_on_their_day() -> None:
    """From the day of shadow(5) on an account has expired, as pam_unix has it; day 0 is a day, nonsense is refused."""
    assert not users.is_expired(SHADOW, "bob", 99)
    assert users.is_expired(SHADOW, "bob", 100)
    assert users.is_expired(SHADOW, "eve", 100)
    assert users.is_expired(SHADOW, "dan", 100)


@pytest.mark.parametrize("name", ["root", "alice", "old", "nobody", "bo", ""])
def test_other_accounts_have_not_expired(name: str) -> None:
    """A locked or aged password, no line at all, and a line of another format are no expiry."""
    assert not users.is_expired(SHADOW, name, 100_000)


def test_nologin_closes_the_machine(tmp_path: Path) -> None:
    """/etc/nologin, or systemd's in /run, closes the machine with its text; without either it is open."""
    etc = tmp_path / "etc"
    run = tmp_path / "run"
    etc.mkdir()
    run.mkdir()
    assert users.closed(etc) is None
    (run / "nologin").write_text("System is going down.\n")
    assert users.closed(etc) == "System is going down."
    (etc / "nologin").write_text("")
    assert users.closed(etc) == ""


def test_files_are_transferred_by_users_of_login_shells() -> None:
    """A shell of /etc/shells lets transfer files; nologin, false and a restricted one of its own do not."""
    shells = "# comment\n/bin/sh\n/bin/bash\n"
    assert users.is_login_shell("/bin/bash", shells)
    assert not any(users.is_login_shell(shell, shells) for shell in ("/usr/sbin/nologin", "/bin/false", "# comment"))
    assert users.is_login_shell("/bin/sh", "")
    assert not users.is_login_shell("/usr/sbin/nologin", "")


def test_shells_are_called_as_login_does() -> None:
    """A shell session's name begins with `-`; a command is the argument of -c, as one."""
    assert arguments_of(Request("shell", "alice"), "/bin/bash") == ["-bash"]
    assert arguments_of(Request("exec", "alice", "ls 'a b'"), "/usr/bin/zsh") == ["zsh", "-c", "ls 'a b'"]


@pytest.mark.parametrize(
    ("shell", "command"), [("bash", "true"), ("./bash", "true"), ("/bin/bash", "a\0b"), ("", "true")]
)
def test_what_cannot_be_executed_is_refused(shell: str, command: str) -> None:
    """A shell that is no absolute path would be looked for in the user's home; a command ends at a NUL."""
    with pytest.raises(InvalidInput):
        arguments_of(Request("exec", "alice", command), shell)


@pytest.mark.parametrize("path", ["", "agent.sock", "./agent.sock", "/tmp/a\0b", "/" + "x" * 107, "/" + "\u00e9" * 54])
def test_paths_that_no_socket_can_have_are_refused(path: str) -> None:
    """A socket's path is absolute, without NUL, and no longer than sun_path, counted in bytes."""
    with pytest.raises(InvalidInput, match="the socket's path"):
        sockets.checked(path)


def test_the_longest_path_is_a_path() -> None:
    """107 bytes fit."""
    assert len(sockets.checked("/" + "x" * 106)) == 107


def test_how_a_process_ended() -> None:
    """Exit codes, signals by name without SIG, and the flag for a core."""
    assert exit_of(0) == Exit(0)
    assert exit_of(3 << 8) == Exit(3)
    assert exit_of(255 << 8) == Exit(255)
    assert exit_of(signal.SIGTERM) == Exit(None, "TERM")
    assert exit_of(signal.SIGSEGV | 0x80) == Exit(None, "SEGV", core=True)
    assert exit_of(signal.SIGRTMIN + 1) == Exit(None, "RTMIN+1")


def test_the_spawner_imports_little() -> None:
    """Neither the event loop nor SSH nor cryptography is in the process that becomes users."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runtime.node.spawning.process; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    imported = {name.partition(".")[0] for name in done.stdout.split()}
    assert not imported & {"asyncio", "asyncssh", "cryptography", "dataclasses", "pydantic", "ssl", "subprocess"}
