"""The command lines of tsh ssh, scp and sftp: how they are read, and what OpenSSH is then told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from runtime.cli import tsh_run, tsh_ssh
from runtime.cli.profile import Home, Wish
from runtime.cli.tsh import tsh
from runtime.cli.tsh_asked import AskedCopy, AskedSession
from runtime.cli.tsh_ssh import Destination, Place
from runtime.core.errors import InvalidInput, NotFound, TeleportError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Wish, Any]]:
    """Return what reaches the code behind the command line, which does nothing here and ends with 7."""
    calls: list[tuple[Wish, Any]] = []

    def record(home: Home, wish: Wish, session: Any, **_: object) -> int:
        calls.append((wish, session))
        return 7

    for name in ("session", "copy", "browse"):
        monkeypatch.setattr(tsh_run, name, record)
    return calls


def run(*arguments: str) -> int:
    """Run tsh in this process and return its exit code."""
    result = CliRunner().invoke(tsh, list(arguments))
    return result.exit_code


@pytest.mark.parametrize(
    ("arguments", "session"),
    [
        (["ssh", "db1"], AskedSession("db1")),
        (["root@db1"], AskedSession("root@db1")),
        (["root@db1", "ls", "-l", "/"], AskedSession("root@db1", ("ls", "-l", "/"))),
        (["ssh", "-l", "root", "db1", "ls", "-la"], AskedSession("db1", ("ls", "-la"), login="root")),
        (
            ["ssh", "db1", "-p", "22", "-l", "root", "ls", "-p"],
            AskedSession("db1", ("ls", "-p"), login="root", port=22),
        ),
        (["ssh", "db1", "--", "-x", "--"], AskedSession("db1", ("-x", "--"))),
        (["ssh", "-p22", "--", "db1", "-t", "x"], AskedSession("db1", ("x",), port=22, options=("-t",))),
        (["ssh", "-tt", "-AvN", "db1"], AskedSession("db1", options=("-A", "-t", "-t", "-N", "-v"))),
        (
            ["ssh", "-L", "1:a:2", "-R1:b:2", "-D", "-3", "-o", "User=x", "-L", "3:c:4", "db1"],
            AskedSession("db1", options=("-L", "1:a:2", "-L", "3:c:4", "-R", "1:b:2", "-D", "-3", "-o", "User=x")),
        ),
        (["--cluster=leaf", "ssh", "db1"], AskedSession("db1", cluster="leaf")),
        (["--cluster=leaf", "ssh", "--cluster=other", "db1"], AskedSession("db1", cluster="other")),
        (["ssh", "env=a,role=db", "--parallel=3", "up"], AskedSession("env=a,role=db", ("up",), parallel=3)),
        (["ssh", "--builtin", "db1"], AskedSession("db1", builtin=True)),
    ],
)
def test_ssh(asked: list[tuple[Wish, AskedSession]], arguments: list[str], session: AskedSession) -> None:
    """Options stand before the host or right after it, as with ssh; the exit code is the session's."""
    assert run(*arguments) == 7
    assert asked[0][1] == session


def test_whose_session_it_is(asked: list[tuple[Wish, AskedSession]]) -> None:
    """--proxy, --user and the rest work before the command, as in the manual, and after it."""
    assert run("--proxy=work", "--user=joe", "--ttl=60", "root@luna") == 7
    assert run("ssh", "--proxy=work", "--user=joe", "--ttl=60", "root@luna") == 7
    assert asked[0] == asked[1]
    assert (asked[0][0].proxy, asked[0][0].user, str(asked[0][0].ttl)) == ("work", "joe", "1:00:00")


@pytest.mark.parametrize(
    "arguments",
    [
        ["ssh"],
        ["ssh", "--nosuch", "db1"],
        ["ssh", "db1", "--nosuch"],
        ["ssh", "-p", "0", "db1"],
        ["ssh", "-p", "x", "db1"],
        ["ssh", "-l"],
        ["ssh", "--parallel=0", "a=b", "x"],
        ["scp", "db1:x"],
        ["sftp"],
        ["nosuch"],
    ],
)
def test_misused(asked: list[tuple[Wish, Any]], arguments: list[str]) -> None:
    """What is no command line of ours runs nothing."""
    assert run(*arguments) == 2
    assert asked == []


def test_scp_and_sftp(asked: list[tuple[Wish, AskedCopy]]) -> None:
    """Their options are passed on in the order in which they are known."""
    assert run("scp", "-rp", "-C", "-q", "-O", "-P", "22", "-l", "root", "a", "db1:b") == 7
    options = ("-r", "-p", "-C", "-q", "-O")
    assert asked[0][1] == AskedCopy(("a", "db1:b"), login="root", port=22, options=options)
    assert asked[0][1].openssh_options() == [*options, "-P", "22"]
    run("sftp", "-b", "-", "-P", "22", "root@db1:x")
    assert asked[1][1] == AskedCopy(("root@db1:x",), port=22, options=("-b", "-"))


def test_errors_end_as_with_ssh(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever keeps a session from being is 255, with the error and its hint."""

    def refuse(*_: object, **__: object) -> int:
        raise TeleportError("no way", hint="try again")

    monkeypatch.setattr(tsh_run, "session", refuse)
    with pytest.raises(click.exceptions.Exit) as ended, tsh.make_context("tsh", ["ssh", "db1"]) as context:
        tsh.invoke(context)
    assert ended.value.exit_code == 255
    assert capsys.readouterr().err == "error: no way\nhint: try again\n"


@pytest.mark.parametrize(
    ("text", "destination", "selects"),
    [
        ("db1", Destination(None, "db1"), False),
        ("root@db1", Destination("root", "db1"), False),
        ("@db1", Destination("", "db1"), False),
        ("a@b@c", Destination("a", "b@c"), False),
        ("env=a", Destination(None, "env=a"), True),
        ("root@env=a,role=b", Destination("root", "env=a,role=b"), True),
        ("owner=joe@example.com", Destination(None, "owner=joe@example.com"), True),
    ],
)
def test_destinations(text: str, destination: Destination, selects: bool) -> None:
    """A login stands before the first @; what has an equals sign in it is labels."""
    assert Destination.parse(text) == destination
    assert destination.is_selector is selects


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("file", Place("file")),
        ("/a:b", Place("/a:b")),
        ("./a:b", Place("./a:b")),
        (":x", Place(":x")),
        ("db1:", Place("", "db1")),
        ("db1:a b:c", Place("a b:c", "db1")),
        ("root@db1:/x", Place("/x", "db1", "root")),
        ("root@[2001:db8::1]:/x", Place("/x", "2001:db8::1", "root")),
    ],
)
def test_places(text: str, place: Place) -> None:
    """A colon before the first slash makes a file a node's, as scp has it; and scp is told the same again."""
    assert Place.parse(text) == place
    assert place.word() == text


@pytest.mark.parametrize("text", ["scp://db1/x", "a b:x", "-oX=y:x", "a;b:x", "$(x):y", "db1\0:x", "@:x"])
def test_no_places(text: str) -> None:
    """URIs, and nodes that can be none, are refused."""
    with pytest.raises(InvalidInput):
        Place.parse(text)


def test_sftp_destinations() -> None:
    """A path is not needed; a node is."""
    assert Place.parse_for_sftp("root@db1") == Place("", "db1", "root")
    assert Place.parse_for_sftp("db1:x") == Place("x", "db1")
    with pytest.raises(InvalidInput):
        Place.parse_for_sftp("/etc/passwd")


def test_handing_over_to_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is not installed, and one that cannot be run, are errors that say so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound, match="ssh is not installed"):
        tsh_ssh.hand_over(["ssh"])
    (tmp_path / "ssh").write_text("")
    with pytest.raises(TeleportError, match="ssh cannot be run"):
        tsh_ssh.hand_over(["ssh"])
    with pytest.raises(TeleportError, match="null byte"):
        tsh_ssh.hand_over(["ssh", "a\0b"])


def test_nobody_is_known(tmp_path: Path) -> None:
    """Without any proxy there is nothing to log in at, terminal or not."""
    for at_terminal in (True, False):
        with pytest.raises(InvalidInput, match="which proxy"):
            tsh_ssh.enter(Home(tmp_path), Wish(), at_terminal=at_terminal, now=lambda: datetime.now(UTC))
