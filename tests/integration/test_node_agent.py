"""The forwarded agent with the real ssh and ssh-agent: who has it, where its socket is, and for how long."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.openssh import ME, Ssh, events, eventually
from tests.servers.osusers import OsUser, os_users, own_user
from tests.servers.people import Person, certify, declare, role, user
from tests.servers.processes import Process
from tests.servers.teleport import Teleport

TOKEN = "0123456789abcdef0123456789abcdef"
ALLOWS = {"options": {"portForwarding": True, "forwardAgent": True}}
FORBIDS = {"options": {"portForwarding": True, "forwardAgent": False}}
NOT_ALLOWED = "agent forwarding is not allowed by the roles of user {}"
SHOW = 'echo "sock=$SSH_AUTH_SOCK"'
KEEP_ASKING = "while echo; do ssh-add -l; sleep 0.1; done"
"""Ends with the session: the shell itself writes, and finds that nobody reads."""


@pytest.fixture(scope="module")
def other() -> Iterator[OsUser]:
    """Yield an OS user that is not root; as an ordinary user there is none but ourselves."""
    if os.geteuid() != 0:
        yield own_user()
        return
    with os_users() as (user_, _):
        yield user_


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Yield a cluster of one machine, auth and a node, that others can join."""
    config = {"auth_service": {"tokens": [f"node:{TOKEN}"]}}
    with Teleport(tmp_path_factory.mktemp("node"), ("auth", "node"), config=config).start() as teleport:
        declare(teleport, role("no-agent", **FORBIDS), user("joe", [ME]), user("bob", [ME], ["no-agent"]))
        yield teleport


@pytest.fixture(scope="module")
def joe(node: Teleport) -> Person:
    """Return a user who may forward the agent."""
    return certify(node, "joe", [ME])


@pytest.fixture
def agent(joe: Person, tmp_path: Path) -> Iterator[Path]:
    """Yield the socket of an ssh-agent that holds joe's key and certificate."""
    path = tmp_path / "agent"
    key = joe.write(tmp_path / "joe")
    with Process(["ssh-agent", "-D", "-a", path], log=tmp_path / "agent.log") as process:
        process.wait_until(path.exists, timeout=60)
        subprocess.run(["ssh-add", "-q", key], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(path)}, timeout=60)
        yield path


def ssh_with(agent: Path, node: Teleport, person: Person, folder: Path, login: str = ME) -> Ssh:
    """Return ssh that forwards that agent."""
    return Ssh(node, person, folder, "-o", f"IdentityAgent={agent}", "-A", login=login)


def test_the_agent_answers_on_the_node(node: Teleport, joe: Person, agent: Path, tmp_path: Path) -> None:
    """-A: ssh-add on the node lists the client's keys, and the audit log has the socket."""
    done = ssh_with(agent, node, joe, tmp_path).run(command=f"{SHOW}; ssh-add -l; ssh-add -l")
    sock, *keys = done.stdout.splitlines()
    assert len(keys) == 4, done  # the key and its certificate, twice
    assert any("(ED25519-CERT)" in key for key in keys)
    (event,) = events(node, "port.forward", 1, destination=sock.removeprefix("sock="))
    assert (event["user"], event["direction"], event["success"]) == ("joe", "agent", "true")


def test_nobody_asked(node: Teleport, joe: Person, agent: Path, tmp_path: Path) -> None:
    """Without -A there is no socket, though there could be one."""
    done = Ssh(node, joe, tmp_path, "-o", f"IdentityAgent={agent}", "-a").run(command=SHOW)
    assert (done.returncode, done.stdout) == (0, "sock=\n")


def test_the_socket_is_the_users_alone_and_goes_with_the_session(
    node: Teleport, other: OsUser, agent: Path, tmp_path: Path
) -> None:
    """It lies in a folder that nobody else can enter; folder and socket are gone when the session is."""
    declare(node, user("ann", [other.name]))
    ssh = ssh_with(agent, node, certify(node, "ann", [other.name]), tmp_path, other.name)
    ssh.log.write_text("")
    with ssh.start(command=f"{SHOW}; {KEEP_ASKING}"):
        ssh.says("ED25519-CERT")
        path = Path(ssh.log.read_text().partition("sock=")[2].splitlines()[0])
        assert (path.parent.stat().st_mode & 0o777, path.parent.stat().st_uid) == (0o700, other.uid)
        assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (0o600, other.uid)
    eventually(lambda: not path.parent.exists(), "the folder is removed")


def test_two_sessions_of_a_connection_have_a_socket_each(
    node: Teleport, joe: Person, agent: Path, tmp_path: Path
) -> None:
    """The end of one session leaves the agent of the other alone."""
    ssh, control = ssh_with(agent, node, joe, tmp_path), f"{tmp_path}/c"
    with ssh.start("-M", "-S", control, command=f"{SHOW}; {KEEP_ASKING}"):
        ssh.says("ED25519-CERT")
        first = Path(ssh.log.read_text().partition("sock=")[2].splitlines()[0])
        done = ssh.run("-S", control, command=f"{SHOW}; ssh-add -l")
        second = Path(done.stdout.partition("sock=")[2].splitlines()[0])
        assert "ED25519-CERT" in done.stdout
        assert second != first
        eventually(lambda: not second.parent.exists(), "the second is removed")
        assert first.exists()
        heard = len(ssh.log.read_text())
        eventually(lambda: "ED25519-CERT" in ssh.log.read_text()[heard:], "the first still answers")
    eventually(lambda: not first.parent.exists(), "the first is removed")


def test_from_node_to_node(node: Teleport, joe: Person, agent: Path, tmp_path: Path) -> None:
    """A hop: on the first node, ssh logs in on the second with nothing but the forwarded agent."""
    second = Teleport(tmp_path / "second", ("node",), auth_servers=[node.auth_address], token=TOKEN)
    with second.start():
        second.wait_for_log("heartbeat of node taken")
        known = tmp_path / "known"
        known.write_text(joe.known_hosts)
        hop = (
            f"ssh -F none -o UserKnownHostsFile={known} -o GlobalKnownHostsFile=/dev/null -o BatchMode=yes "
            f"-p {second.node_port} {ME}@localhost 'echo there as $(id -un)'"
        )
        done = ssh_with(agent, node, joe, tmp_path).run(command=hop)
        assert done.stdout == f"there as {ME}\n", done.stderr
        alone = Ssh(node, joe, tmp_path / "alone").run(command=hop)
        assert "Permission denied" in alone.stderr
        assert alone.stdout == ""


def test_a_role_that_forbids_it(node: Teleport, agent: Path, tmp_path: Path) -> None:
    """The session has no agent, goes on, and -v says why; the refusal is audited; ports are another right."""
    bob = certify(node, "bob", [ME])
    done = ssh_with(agent, node, bob, tmp_path).run("-v", command=SHOW)
    assert (done.returncode, done.stdout) == (0, "sock=\n")
    hint = "An administrator can allow it by forwardAgent in the roles' options."
    assert f"Remote: {NOT_ALLOWED.format('bob')}. {hint}" in done.stderr
    (event,) = events(node, "port.forward", 1, user="bob")
    assert (event["direction"], event["success"], event["error"]) == ("agent", "false", NOT_ALLOWED.format("bob"))


def test_a_certificate_that_does_not_permit_it(node: Teleport, agent: Path, tmp_path: Path) -> None:
    """What the roles allow counts only with permit-agent-forwarding."""
    person = certify(node, "joe", [ME], permit_agent_forwarding=False)
    done = ssh_with(agent, node, person, tmp_path).run("-v", command=SHOW)
    assert (done.returncode, done.stdout) == (0, "sock=\n")
    assert "Remote: agent forwarding is not permitted by the certificate of user joe" in done.stderr


def test_a_role_is_edited_while_connected(node: Teleport, agent: Path, tmp_path: Path) -> None:
    """Each use of the agent is asked about anew, also in a session that has the socket already."""
    declare(node, role("edited", **ALLOWS), user("eve", [ME], ["edited"]))
    ssh = ssh_with(agent, node, certify(node, "eve", [ME]), tmp_path)
    with ssh.start(command=KEEP_ASKING):
        ssh.says("ED25519-CERT")
        declare(node, role("edited", **FORBIDS))
        ssh.says("communication with agent failed")
        refused = events(node, "port.forward", 1, user="eve", success="false")
        assert {event["error"] for event in refused} == {NOT_ALLOWED.format("eve")}
        declare(node, role("edited", **ALLOWS))
        heard = len(ssh.log.read_text())
        eventually(lambda: "ED25519-CERT" in ssh.log.read_text()[heard:], "it answers again")
