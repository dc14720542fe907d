"""Sessions are recorded on the node, brought to auth while they run, listed, and exported."""

from __future__ import annotations

import getpass
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.audit.recording import verify
from tests.servers import people
from tests.servers.processes import Process
from tests.servers.teleport import Teleport, run

LOGIN = getpass.getuser()
SECONDS = 20.0
PLAYERS = {"owen": "owner", "ann": "auditor", "eve": "plain"}
"""Users and their roles."""


@pytest.fixture(scope="module")
def teleport(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Run auth and a node."""
    with Teleport(tmp_path_factory.mktemp("recordings"), ["auth", "proxy", "node"]) as running:
        running.start()
        people.declare(running, people.user("joe", [LOGIN]))
        yield running


def ssh(teleport: Teleport, folder: Path, *arguments: str) -> list[str | Path]:
    """Return the command that logs in on the node as joe."""
    joe = people.certify(teleport, "joe", [LOGIN])
    options = joe.ssh_options(folder)
    return ["ssh", *options, "-p", str(teleport.node_port), *arguments[:-1], f"{LOGIN}@localhost", arguments[-1]]


def listed(teleport: Teleport) -> list[dict[str, Any]]:
    """Return what tctl lists."""
    done = teleport.tctl("recordings", "ls", "--format=json")
    assert done.returncode == 0, done.stderr
    entries: list[dict[str, Any]] = json.loads(done.stdout)
    return entries


def until_listed(teleport: Teleport, command: str, *, over: bool) -> str:
    """Wait until the recording of a command is there, and return its session's id."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for entry in listed(teleport):
            if entry["session"]["command"] == command and entry["over"] == over:
                return str(entry["session"]["sid"])
        time.sleep(0.1)
    raise AssertionError(f"{command} was not recorded: {listed(teleport)}")


def test_a_command_in_a_terminal(teleport: Teleport, tmp_path: Path) -> None:
    """The manual's two files under data_dir/log/sessions/default; as an asciicast and as text."""
    command = "printf '\\033[1mhello\\033[0m'; stty size"
    done = subprocess.run(ssh(teleport, tmp_path, "-tt", command), capture_output=True, timeout=60, check=False)
    assert done.returncode == 0
    sid = until_listed(teleport, command, over=True)
    kept = teleport.data_dir / "log" / "sessions" / "default"
    with (kept / f"{sid}.session.log").open("rb") as log, (kept / f"{sid}.session.bytes").open("rb") as printed:
        assert verify(log, printed) == []
    assert (kept / f"{sid}.session.bytes").read_bytes() == done.stdout
    header, *lines = map(json.loads, teleport.tctl("recordings", "export", sid).stdout.splitlines())
    assert header["version"] == 2
    assert header["command"] == command
    assert "".join(line[2] for line in lines if line[1] == "o").encode() == done.stdout
    assert teleport.tctl("recordings", "export", sid, "--format=text").stdout.startswith("hello")
    assert list((teleport.data_dir / "spool").iterdir()) == []


def test_a_command_without_a_terminal(teleport: Teleport, tmp_path: Path) -> None:
    """Output and errors are there, in a file that is written as a whole."""
    command = "echo out; echo err >&2; exit 3"
    done = subprocess.run(ssh(teleport, tmp_path, command), capture_output=True, timeout=60, check=False)
    assert done.returncode == 3
    sid = until_listed(teleport, command, over=True)
    target = tmp_path / "recording"
    assert teleport.tctl("recordings", "export", sid, "--format=bytes", "-o", str(target)).returncode == 0
    assert sorted(target.read_text().splitlines()) == ["err", "out"]
    last = teleport.tctl("recordings", "export", sid, "--format=log").stdout.splitlines()[-1]
    assert json.loads(last)["exitCode"] == 3


def test_what_is_typed_unseen_is_not_recorded(teleport: Teleport, tmp_path: Path) -> None:
    """A password prompt turns echo off: the password is nowhere in the recording."""
    command = "stty -echo; printf 'Password: '; read -r secret; stty echo; echo ${#secret}"
    words = ssh(teleport, tmp_path, "-tt", command)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as typing:
        assert typing.stdin is not None
        assert typing.stdout is not None
        shown = b""
        while not shown.endswith(b"Password: "):
            more = typing.stdout.read(1)
            assert more
            shown += more
        typing.stdin.write(b"hunter2\n")
        typing.stdin.flush()
        assert b"7" in typing.stdout.read()
    sid = until_listed(teleport, command, over=True)
    files = [teleport.tctl("recordings", "export", sid, f"--format={part}").stdout for part in ("bytes", "log")]
    assert "Password: " in files[0]
    assert not any("hunter2" in text for text in files)


def test_a_session_that_runs_can_be_read_already(teleport: Teleport, tmp_path: Path) -> None:
    """What was shown is with auth a moment later, while the session goes on."""
    command = "echo begun; sleep 60"
    with Process(ssh(teleport, tmp_path / "key", command), log=tmp_path / "log") as running:
        sid = until_listed(teleport, command, over=False)
        running.wait_until(
            lambda: "begun" in teleport.tctl("recordings", "export", sid, "--format=bytes").stdout, timeout=SECONDS
        )
        assert "(live)" in teleport.tctl("recordings", "ls").stdout
    until_listed(teleport, command, over=True)


def test_a_killed_node_brings_the_rest_when_it_is_back(tmp_path: Path) -> None:
    """Killed with -9 in the middle of a session: all that was shown arrives, with an end that says lost."""
    with Teleport(tmp_path / "auth", ["auth"], config={"auth_service": {"tokens": ["node:0123456789abcdef"]}}) as auth:
        auth.start()
        people.declare(auth, people.user("joe", [LOGIN]))
        servers = [auth.auth_address]
        with Teleport(tmp_path / "node", ["node"], auth_servers=servers, token="0123456789abcdef") as node:
            node.start()
            joe = people.certify(auth, "joe", [LOGIN])
            command = "seq 1000; sleep 60"
            words = [
                "ssh",
                *joe.ssh_options(tmp_path / "key"),
                "-p",
                str(node.node_port),
                f"{LOGIN}@localhost",
                command,
            ]
            with Process(words, log=tmp_path / "log", output=tmp_path / "out") as running:
                running.wait_until(lambda: "\n1000\n" in (tmp_path / "out").read_text(), timeout=SECONDS)
                node.process.kill()
            node.start()
            sid = until_listed(auth, command, over=True)
            assert auth.tctl("recordings", "export", sid, "--format=bytes").stdout == (tmp_path / "out").read_text()
            last = auth.tctl("recordings", "export", sid, "--format=log").stdout.splitlines()[-1]
            assert json.loads(last)["lost"] is True


def test_who_may_play_what(teleport: Teleport, tmp_path: Path) -> None:
    """Everybody their own; those of others only with a role whose rules say so; nobody without a login."""
    people.declare(
        teleport,
        people.role("plain", allow={"logins": ["x"]}),
        people.role(
            "auditor", allow={"logins": ["x"], "rules": [{"resources": ["session"], "verbs": ["list", "read"]}]}
        ),
        people.role("owner", allow={"logins": [LOGIN], "nodeLabels": {"*": ["*"]}}),
        *({"kind": "User", "metadata": {"name": name}, "spec": {"roles": [role]}} for name, role in PLAYERS.items()),
    )
    command = "echo mine"
    owner = people.certify(teleport, "owen", [LOGIN])
    options = owner.ssh_options(tmp_path / "key")
    words = ["ssh", *options, "-p", str(teleport.node_port), f"{LOGIN}@localhost", command]
    deadline = time.monotonic() + SECONDS
    while (
        subprocess.run(words, capture_output=True, timeout=60, check=False).returncode and time.monotonic() < deadline
    ):
        time.sleep(0.1)  # until the node has heard of owen
    sid = until_listed(teleport, command, over=True)
    shown = {}
    for name in PLAYERS:
        home = tmp_path / name
        people.certify(teleport, name, ["x"]).log_in(home, teleport)
        shown[name] = run("tsh", "play", sid, env={"TELEPORT_HOME": str(home)})
        listing = run("tsh", "recordings", "ls", env={"TELEPORT_HOME": str(home)}).stdout
        assert (sid in listing) == (name != "eve")
    assert shown["owen"].stdout == shown["ann"].stdout == "mine\n"
    assert shown["eve"].returncode == 1
    assert "may not read the recording" in shown["eve"].stderr
    assert shown["eve"].stdout == ""
    nobody = run("tsh", "play", sid, env={"TELEPORT_HOME": str(tmp_path / "nobody")})
    assert nobody.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((str(uuid.uuid4()),), "there is no recording of session"),
        (("../../etc/passwd",), "is not a valid UUID"),
        ((), "Missing argument"),
    ],
)
def test_what_is_not_there(teleport: Teleport, arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    """It is said, and no file is left behind."""
    done = teleport.tctl("recordings", "export", *arguments, "-o", str(tmp_path / "x"))
    assert done.returncode != 0
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []
