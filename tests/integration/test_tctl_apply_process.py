"""tctl apply as a process: a node that joins with a declared token, and a terminal with somebody at it."""

from __future__ import annotations

import itertools
import os
import pty
import select
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.servers.teleport import SCRIPTS, Teleport

ROLE = """
apiVersion: teleport.internal/v1
kind: Role
metadata: {name: NAME}
spec: {allow: {logins: [dev]}}
"""
TOKEN = """
apiVersion: teleport.internal/v1
kind: Token
metadata: {name: web-nodes}
spec: {roles: [node], ttl: 1h, maxUses: 1, labels: {env: prod}}
"""
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: web-nodes-token}
stringData: {token: 1f0e2d3c4b5a69788796a5b4c3d2e1f0}
"""
USERS = 400
"""So many that no run is over before it is killed."""
VALUE = "1f0e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[Teleport]:
    """Yield an auth server whose truth is the storage."""
    with Teleport(tmp_path / "auth", config={"auth_service": {"dynamic_config": True}}).start() as teleport:
        yield teleport


def node(auth: Teleport, name: str) -> Teleport:
    """Return a node that has the token."""
    return Teleport(auth.folder.parent / name, ("node",), auth_servers=[auth.auth_address], token=VALUE)


def test_nodes_join_with_a_declared_token(auth: Teleport, tmp_path: Path) -> None:
    """From a folder: one node joins and has the token's labels, the next is one too many; after an edit it joins.

    Pruned, the token lets nobody in, and who joined stays.
    """
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "token.yaml").write_text(TOKEN)
    (folder / "secret.yaml").write_text(SECRET)
    (folder / "role.yaml").write_text(ROLE.replace("NAME", "dev"))
    planned = auth.tctl("plan", "-f", str(folder))
    assert planned.returncode == 2, planned.stderr
    applied = auth.tctl("apply", "-f", str(folder))
    assert (applied.returncode, applied.stderr) == (0, "")
    assert applied.stdout == "Role 'dev' has been created\nToken 'web-nodes' has been created\n"
    with node(auth, "first").start() as first:
        first.wait_for_log("heartbeat of node taken")
        assert "env=prod" in auth.tctl("nodes", "ls").stdout
        second = node(auth, "second")
        second.launch()
        assert second.wait() == 1
        assert "the token is not valid" in second.log()
        unchanged = auth.tctl("apply", "-f", str(folder))
        assert unchanged.returncode == 0
        assert "warning: Token 'web-nodes' is used up: 1 joined with it" in unchanged.stderr

        (folder / "token.yaml").write_text(TOKEN.replace("maxUses: 1", "maxUses: 2"))
        assert auth.tctl("apply", "-f", str(folder)).returncode == 0
        with second.start():
            second.wait_for_log("joined cluster main as node")
        (folder / "token.yaml").unlink()
        pruned = auth.tctl("apply", "-f", str(folder), "--prune")
        assert pruned.stdout == "Token 'web-nodes' has been deleted\n"
        third = node(auth, "third")
        third.launch()
        assert third.wait() == 1
        assert "env=prod" in auth.tctl("nodes", "ls").stdout


def at_terminal(*arguments: str, answer: str = "", env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run tctl at a terminal and type an answer once it asks; return its exit code and all that was shown."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **(env or {})}
    if env is None:
        environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [SCRIPTS / "tctl", *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    )
    os.close(slave)
    shown = b""
    try:
        while select.select([master], [], [], 30)[0]:
            try:
                piece = os.read(master, 4096)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
            if answer and b"[y/N]" in shown:
                os.write(master, answer.encode())
                answer = ""
        return process.wait(30), shown.decode()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(master)


def test_a_person_at_a_terminal(auth: Teleport, tmp_path: Path) -> None:
    """The plan has colours, unless NO_COLOR is set; a deletion is asked for, and not done without a yes."""
    (tmp_path / "a.yaml").write_text(ROLE.replace("NAME", "a"))
    (tmp_path / "b.yaml").write_text(ROLE.replace("NAME", "b"))
    files = ("-c", str(auth.config_file))
    code, shown = at_terminal(*files, "plan", "-f", str(tmp_path / "a.yaml"))
    assert code == 2
    assert "\x1b[32m+ Role a: is new\x1b[0m" in shown
    code, shown = at_terminal(*files, "plan", "-f", str(tmp_path / "a.yaml"), env={"NO_COLOR": "1"})
    assert code == 2
    assert "\x1b" not in shown
    assert "\x1b" not in auth.tctl("plan", "-f", str(tmp_path / "a.yaml")).stdout

    assert auth.tctl("apply", "-f", str(tmp_path / "a.yaml")).returncode == 0
    prune = (*files, "apply", "--prune", "-f", str(tmp_path / "b.yaml"))
    code, shown = at_terminal(*prune, answer="n\n")
    assert code == 1
    assert "- Role a: no document declares it any more" in shown
    assert "Nothing was written." in shown
    assert auth.tctl("get", "role/a").returncode == 0
    code, shown = at_terminal(*prune, answer="y\n")
    assert code == 0
    assert "Role 'a' has been deleted" in shown
    assert at_terminal(*files, "apply", "--prune", "--yes", "-f", str(tmp_path / "a.yaml"))[0] == 0
    assert auth.tctl("get", "role/b").returncode == 1


def test_killed_midway(auth: Teleport, tmp_path: Path) -> None:
    """Killed with -9 after some steps, twice: what it told of is done, and the next run does the rest, no more."""
    user = "{apiVersion: teleport.internal/v1, kind: User, metadata: {name: NAME}, spec: {logins: [x], roles: [dev]}}"
    documents = tmp_path / "all.yaml"
    users = [user.replace("NAME", f"u{number}") for number in range(USERS)]
    documents.write_text("\n---\n".join([ROLE.replace("NAME", "dev"), *users]))
    told: list[str] = []
    for _ in range(2):
        process = subprocess.Popen(
            [SCRIPTS / "tctl", "-c", auth.config_file, "apply", "-f", documents],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        with process:
            assert process.stdout is not None
            done = (line for line in process.stdout if line.endswith("has been created\n"))  # links follow some
            told += itertools.islice(done, 20)
            process.kill()
    assert len(set(told)) == 40
    left = auth.tctl("apply", "-f", str(documents))
    assert left.returncode == 0, left.stderr
    assert not set(told) & set(left.stdout.splitlines(keepends=True))
    assert auth.tctl("plan", "--prune", "-f", str(documents)).returncode == 0
    assert auth.tctl("get", "users").stdout.count("tctl") == USERS
