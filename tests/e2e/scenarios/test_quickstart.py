"""The README's way, as it stands: two commands, an invite, and a session on a node; then what is known of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.error import HTTPError

import pytest

from tests.e2e.scenarios.place import until
from tests.e2e.scenarios.release import Release
from tests.e2e.scenarios.someone import Someone

SESSION = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def test_a_declared_user_runs_a_command(joe: Someone, node: str) -> None:
    """What a command prints and how it ends comes back as from any ssh; another login is refused."""
    done = joe.tsh("ssh", f"root@{node}", "cat; hostname; exit 3", stdin="in\n")
    assert (done.returncode, done.stdout) == (3, f"in\n{node}\n"), done.stderr
    refused = joe.ssh(f"daemon@{node}", "true")
    assert refused.returncode != 0
    assert "daemon" in refused.stderr


def test_the_nodes_are_listed(joe: Someone, node: str) -> None:
    """`tsh ls` shows the node pod with its labels, by which it is found too."""
    listed = json.loads(joe.tsh("ls", "--format=json").stdout)
    (entry,) = [each for each in listed if each["name"] == node]
    assert entry["labels"].items() >= {"env": "staging", "team": "web"}.items()
    assert node in joe.tsh("ls", "env=staging").stdout
    assert node not in joe.tsh("ls", "env=prod").stdout


def test_files_are_copied_both_ways(joe: Someone, node: str, tmp_path: Path) -> None:
    """What scp brings to a node, scp fetches again."""
    (tmp_path / "there").write_bytes(bytes(range(256)) * 1000)
    done = joe.tsh("scp", tmp_path / "there", f"root@{node}:/tmp/copied")
    assert done.returncode == 0, done.stderr
    done = joe.tsh("scp", f"root@{node}:/tmp/copied", tmp_path / "back")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "back").read_bytes() == (tmp_path / "there").read_bytes()


def test_plain_ssh_works(joe: Someone, node: str) -> None:
    """With what tsh config prints, OpenSSH itself gets in, with no word of tsh."""
    ssh = joe.home / ".ssh"
    ssh.mkdir(mode=0o700)
    (ssh / "config").write_text(joe.tsh("config").stdout)
    done = joe.shell.run_other("ssh", "-F", ssh / "config", f"root@{node}.main", "echo in")
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr


def test_a_shell_is_replayed_and_in_the_audit_log(mission: Release, joe: Someone, node: str) -> None:
    """What a session in a terminal has shown is played again; the audit log tells who was where and when it ended."""
    with joe.shell.terminal("ssh", f"root@{node}") as terminal:
        terminal.type("echo $((41+1))-answer; echo sid=$SSH_SESSION_ID\n")
        terminal.expect("42-answer")
        terminal.expect("sid=")
        terminal.expect("\n")
        terminal.type("exit 5\n")
        assert terminal.wait() == 5
    started = json.loads(
        mission.tctl("events", "ls", "--type=session.start", "--user=joe", "--format=json").stdout.splitlines()[-1]
    )
    assert (started["login"], started["user"]) == ("root", "joe")
    sid = started["sid"]
    assert SESSION.fullmatch(sid)

    def ended() -> bool:
        return sid in mission.tctl("events", "ls", "--type=session.end", f"--sid={sid}", "--format=json").stdout

    until(ended, "the end of the session in the audit log", mission)
    until(lambda: sid in joe.tsh("recordings", "ls").stdout, "the recording is listed", mission)
    until(lambda: "42-answer" in joe.tsh("play", sid).stdout, "all of the recording has come", mission)


def test_the_status_tells_that_the_invite_was_used(mission: Release, joe: Someone) -> None:
    """`kubectl get` shows that the link was used; it opens no form any more."""

    def consumed() -> bool:
        status = mission.get("user.teleport.internal", "joe").get("status", {})
        return any(
            each["reason"] == "Consumed" for each in status.get("conditions", []) if each["type"] == "InviteReady"
        )

    until(consumed, "InviteReady says Consumed", mission)
    with pytest.raises(HTTPError) as refused, joe.open(mission.secret("joe-invite", "url")["url"]):
        pass
    assert 400 <= refused.value.code < 500
    refused.value.close()
