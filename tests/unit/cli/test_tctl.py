"""tctl's command line, as far as no auth server is called."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from runtime.cli.completion import SHELLS
from runtime.cli.tctl import tctl
from runtime.cli.tctl.connection import Where, reach
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.pki.keys import generate_key
from runtime.service.identity import StoredIdentity, write_private
from tests.servers.auth_thread import Outcome, run

SCRIPT = Path(sys.executable).parent / "tctl"
CLOCK = SystemClock()


def commands(command: click.Command = tctl, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """Return all commands of tctl, groups included, with the words that name them."""
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [(path, command), *(each for name, child in below for each in commands(child, (*path, name)))]


COMMANDS = commands()


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS], ids=" ".join)
def test_help(path: tuple[str, ...]) -> None:
    """Each command explains itself and each of its options, with 0 and on stdout."""
    outcome = run(*path, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    command = dict(COMMANDS)[path]
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option
            assert option.opts[0] in outcome.out


@pytest.mark.parametrize("path", [path for path, _ in COMMANDS], ids=" ".join)
def test_the_first_line_of_help_fits_where_commands_are_listed(path: tuple[str, ...]) -> None:
    """No command is cut off with dots in the list of commands above it."""
    assert "..." not in re.sub(r"\S+\.\.\.", "", dict(COMMANDS)[path].get_short_help_str(62))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["usrs"], r"No such command 'usrs'\. Did you mean 'users'\?"),
        (["users", "lss"], "Did you mean 'ls'"),
        (["users", "add"], r"Missing argument 'NAME'"),
        (["users", "add", "joe", "joe,,root"], "has an empty word between two commas"),
        (["users", "add", "joe", "--ttl=5x"], "'5x' is not a duration"),
        (["users", "add", "joe", "--ttl=-5m"], "'-5m' is not a duration"),
        (["users", "del"], "Missing argument"),
        (["users", "ls", "--format=xml"], "'xml' is not one of 'text', 'json', 'yaml'"),
        (["users", "ls", "--al"], "--all"),
        (["nodes", "add", "--roles=nod"], "did you mean node"),
        (["nodes", "add", "--roles="], "empty word"),
        (["nodes", "add", "--max-uses=0"], "0 is not in the range"),
        (["nodes", "add", "--labels=env"], "expected labels"),
        (["nodes", "add", '--labels=up=[1m:"uptime"]'], "cannot impose labels that are commands"),
        (["tokens", "del"], "Missing argument"),
        (["auth", "export", "--type=node"], "'node' is not one of 'user', 'host'"),
        (["auth", "export", "--compat=2.0"], "2.0"),
        (["auth", "--type=host", "ls"], "--type goes with tctl auth export only"),
        (["auth", "sign"], "Missing option '--out'"),
        (["auth", "rotate", "--phase=done"], "'done' is not one of 'standby', 'init', 'update_clients'"),
        (["auth", "rotate", "--type=node"], "'node' is not one of 'user', 'host', 'all'"),
        (["auth", "rotate", "--grace-period=30"], "'30' is not a duration"),
        (["auth", "rotate", "--grace-period=0", "--phase=standby"], "where a rotation begins, not in a later phase"),
        (["auth", "rotate", "--status", "--manual"], "--status goes with --type and --format only"),
        (["get"], "Missing argument"),
        (["get", "rolls"], r"there is no kind 'rolls', only users, roles, .*; did you mean roles\?"),
        (["get", "role/"], "expected role/NAME"),
        (["get", "a\x1bb"], r"a\\\\x1bb"),
        (["rm", "role"], "expected role/NAME"),
        (["create"], "name a FILE, a folder, or - for stdin"),
        (["plan"], "name a FILE, a folder, or - for stdin"),
        (["apply", "--prune"], "name a FILE, a folder, or - for stdin"),
        (["plan", "x.yaml", "--format=yaml"], "'yaml' is not one of 'text', 'json'"),
        (["completion", "csh"], "'csh' is not one of"),
    ],
)
def test_a_wrong_command_line(arguments: list[str], message: str) -> None:
    """A command line that is not understood ends with 2, says why on stderr, and calls nobody."""
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert re.search(message, outcome.err), outcome.err
    assert "--help tells more" in outcome.err


def test_nothing_heavy_is_imported_before_auth_is_called() -> None:
    """Help, version, completion and mistakes need neither asyncssh, which takes a second, nor pydantic."""
    program = (
        "import sys\nfrom runtime.cli import console\nfrom runtime.cli.tctl import tctl\n"
        "try:\n    console.run(tctl, sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print({'asyncssh', 'pydantic', 'cryptography', 'asyncio'} & sys.modules.keys(), file=sys.stderr)\n"
    )
    for arguments in (
        ["version"],
        ["users", "--help"],
        ["usrs"],
        ["completion", "bash"],
        ["get", "--help"],
        ["apply", "-h"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stderr.splitlines()[-1] == "set()", arguments


@pytest.mark.parametrize("shell", SHELLS)
def test_the_completion_script(shell: str) -> None:
    """Each shell gets the script that asks tctl in that shell's own way."""
    outcome = run("completion", shell)
    assert (outcome.code, outcome.err) == (0, "")
    assert f"_TCTL_COMPLETE={shell}_complete" in outcome.out


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (
            "tctl ",
            {
                "users",
                "nodes",
                "tokens",
                "auth",
                "audit",
                "events",
                "recordings",
                "sessions",
                "tunnels",
                "get",
                "create",
                "plan",
                "apply",
                "rm",
                "completion",
                "help",
                "version",
            },
        ),
        ("tctl users ", {"add", "ls", "del", "reset"}),
        ("tctl --config=x us", {"users"}),
        ("tctl get ro", {"roles"}),
        ("tctl auth export --type ", {"user", "host"}),
        ("tctl zzz", set()),
    ],
)
def test_bash_is_answered(line: str, offered: set[str]) -> None:
    """What bash asks with is answered with what fits there, one candidate a line."""
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    asked = {"_TCTL_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([SCRIPT], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60, check=True)
    assert {answer.partition(",")[2] for answer in done.stdout.splitlines() if answer} == offered


def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    """A real bash that loaded the script completes a subcommand."""
    script = tmp_path / "tctl.bash"
    script.write_text(run("completion", "bash").out)
    program = (
        f"source {shlex.quote(str(script))}; COMP_WORDS=(tctl tok); COMP_CWORD=1; "
        f'_tctl_completion {shlex.quote(str(SCRIPT))}; echo "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "tokens\n"


# --- the identity ------------------------------------------------------------------------------------------------


def stored(role: CallerKind = CallerKind.ADMIN, *, life: timedelta = timedelta(hours=1)) -> StoredIdentity:
    """Return an identity that is good for nothing but reading."""
    return StoredIdentity.model_validate(
        {
            "id": "d52527f9-b260-41d0-bb5a-e23b0cfe0f8f",
            "role": role,
            "cluster": "main",
            "key": generate_key().to_openssh(),
            "host_certificate": "",
            "member_certificate": "",
            "expires": datetime.now(UTC) + life,
            "authorities": [],
        }
    )


def machine(folder: Path, content: bytes | None, *, config: str = "") -> Path:
    """Write a configuration, and an administrator's identity into its data_dir; return the configuration."""
    data_dir = folder / "data"
    data_dir.mkdir(mode=0o700)
    if content is not None:
        write_private(data_dir / "admin.identity", content)
    file = folder / "teleport.yaml"
    file.write_text(f"teleport: {{data_dir: {data_dir}}}\n{config}")
    return file


def users_ls(config: Path) -> Outcome:
    """Run a command that needs the identity."""
    return run("--config", str(config), "users", "ls")


def test_without_an_identity(tmp_path: Path) -> None:
    """On a machine without auth the error names the file and both ways on."""
    outcome = users_ls(machine(tmp_path, None))
    assert outcome.code == 1
    assert f"there is no identity {tmp_path}/data/admin.identity" in outcome.err
    assert "Run tctl where auth runs" in outcome.err
    assert "--identity=FILE --auth-server=HOST:3025" in outcome.err


def test_an_identity_that_may_not_be_read() -> None:
    """Who is not root is told so, with the file and what to type."""
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: the folders above that are closed to others
        folder = Path(name)
        config = machine(folder, stored().model_dump_json().encode())
        assert "cannot be read" not in users_ls(config).err  # also imports what the other user may not
        folder.chmod(0o755)
        config.chmod(0o644)
        with another_user(folder / "data"):
            outcome = users_ls(config)
    assert outcome.code == 1
    assert f"the identity {folder}/data/admin.identity cannot be read: Permission denied" in outcome.err
    assert "sudo tctl" in outcome.err


@contextmanager
def another_user(folder: Path) -> Iterator[None]:
    """Be somebody who may not look into a folder."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    else:
        folder.chmod(0)
    try:
        yield
    finally:
        os.seteuid(before)
        folder.chmod(0o700)


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "is not an identity", "Restart teleport"),
        (b"{}", "is not an identity", "Restart teleport"),
        (stored(CallerKind.NODE).model_dump_json().encode(), "is the identity of a node", "tctl auth sign"),
        (stored(life=timedelta()).model_dump_json().encode(), "expired on 20", "Restart teleport"),
    ],
)
def test_an_identity_that_is_not_good(tmp_path: Path, content: bytes, message: str, hint: str) -> None:
    """An empty, foreign or expired identity is told before anybody is called."""
    outcome = users_ls(machine(tmp_path, content))
    assert outcome.code == 1
    assert message in outcome.err
    assert hint in outcome.err


def test_a_bad_configuration(tmp_path: Path) -> None:
    """A configuration that cannot be read is told with what tctl wants it for."""
    outcome = users_ls(tmp_path / "none.yaml")
    assert outcome.code == 1
    assert f"{tmp_path}/none.yaml: there is no such file" in outcome.err
    assert "--config" in outcome.err


@pytest.mark.parametrize(
    ("config", "heard", "servers"),
    [
        ("", None, ["127.0.0.1:3025"]),
        ("auth_service: {listen_addr: '10.0.0.1:4025'}", None, ["10.0.0.1:4025"]),
        ("auth_service: {listen_addr: '[::]:3025'}", None, ["[::1]:3025"]),
        ("", '["10.0.0.9:3025"]', ["127.0.0.1:3025", "10.0.0.9:3025"]),
    ],
)
def test_where_auth_is_looked_for(tmp_path: Path, config: str, heard: str | None, servers: list[str]) -> None:
    """Here first, at the address that auth listens on; then where heartbeats said that others are."""
    file = machine(tmp_path, stored().model_dump_json().encode(), config=config)
    if heard is not None:
        (tmp_path / "data" / "authservers.json").write_text(heard)
    _, found = reach(Where(config=str(file)), CLOCK)
    assert list(found()) == servers


def test_options_name_another_auth(tmp_path: Path) -> None:
    """With an identity and a server no configuration is read at all."""
    write_private(tmp_path / "admin", stored().model_dump_json().encode())
    where = Where(config="/nonexistent", identity=str(tmp_path / "admin"), auth_server=("a:1", "b"))
    _, found = reach(where, CLOCK)
    assert list(found()) == ["a:1", "b"]
