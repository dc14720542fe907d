"""A rotation of both authorities as everybody lives through it, in processes of one role and of several.

Steps are taken by hand. What is open when a rotation begins goes on through all of them; what is new goes by new keys.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.api.rotation_messages import RotateRequest
from runtime.core.rotation import Phase
from runtime.service.identity import signer_of
from tests.servers.openssh import upper_port
from tests.servers.processes import free_port, listens
from tests.servers.rotating import RotatingCluster, identity, rotating_cluster
from tests.servers.sshclient import wait_until
from tests.servers.sshd import LOGIN
from tests.servers.teleport import Teleport, run
from tests.servers.tsh import Tsh

QUIET = ("-o", "BatchMode=yes")
FORWARD = (Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY)
COPIED_BYTES = 24 * 2**20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RotatingCluster]:
    """Run one for all tests of this file; each leaves it with no rotation running."""
    with rotating_cluster(tmp_path_factory.mktemp("rotating")) as running:
        yield running


@pytest.fixture(scope="module")
def second(cluster: RotatingCluster) -> Teleport:
    """Return a node, db2, that is away now and then; each test leaves it running."""
    return cluster.member("db2", "node")


def plain_ssh(joe: Tsh, *options: str) -> list[str]:
    """Return a command line of plain ssh to the node, with what `tsh config` has printed once."""
    config = joe.home.with_suffix(".config")
    if not config.exists():
        config.write_text(joe.run("config").stdout)
    return ["ssh", "-F", str(config), *QUIET, *options, "db1.main"]


def reaches(joe: Tsh, node: str) -> None:
    """Check that a command runs on a node, through the proxy."""
    done = joe.run("ssh", f"{LOGIN}@{node}", "echo in")
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr


def fingerprints(member: Teleport, role: str) -> tuple[str, str]:
    """Return which keys have signed a member's host certificate and its calling certificate."""
    found = identity(member, role)
    return signer_of(found.host_certificate), signer_of(found.member_certificate)


class Open:
    """All that somebody has open: a shell that another watches, a forwarded port in use, and two copies under way."""

    def __init__(self, joe: Tsh, watcher: Tsh, folder: Path, upper: int, stack: ExitStack) -> None:
        folder.mkdir()
        self.shell = stack.enter_context(joe.terminal("ssh", f"{LOGIN}@db1"))
        self.shell.type("echo re$((1+1))dy $SSH_SESSION_ID\n")
        self.shell.expect("re2dy")
        listed: list[dict[str, str]] = []

        def running() -> bool:
            listed[:] = json.loads(watcher.run("sessions", "ls", "--format=json").stdout or "[]")
            return bool(listed)

        wait_until(running, "the session is listed")
        self.watcher = stack.enter_context(watcher.terminal("join", "--mode=observer", listed[0]["sid"]))
        self.watcher.expect("you watch the session of joe")

        port = free_port()
        tunnel = stack.enter_context(
            subprocess.Popen(plain_ssh(joe, "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{upper}"), env=joe.all_environment)
        )
        stack.callback(tunnel.terminate)
        wait_until(lambda: listens(port), "the port is forwarded")
        self._socket = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))

        (folder / "from").write_bytes(os.urandom(COPIED_BYTES))
        self._from, self._to = folder / "from", folder / "to"
        command = joe.words("scp", "-q", self._from, f"{LOGIN}@db1:{self._to}")
        self._scp = stack.enter_context(
            subprocess.Popen(command, env=joe.all_environment, start_new_session=True, stdin=subprocess.DEVNULL)
        )
        stack.callback(self._signal_scp, signal.SIGKILL)
        wait_until(lambda: self._to.exists() and self._to.stat().st_size > 0, "the copy has begun")
        self._signal_scp(signal.SIGSTOP)
        assert self._to.stat().st_size < COPIED_BYTES, "the copy was over before it could be held"

        self._sftp = stack.enter_context(
            subprocess.Popen(
                joe.words("sftp", f"{LOGIN}@db1"), env=joe.all_environment, stdin=subprocess.PIPE, text=True
            )
        )
        stack.callback(self._sftp.terminate)
        self._folder = folder
        self._small = folder / "small"
        self._small.write_text("small")
        self.goes_on("0")

    def goes_on(self, word: str) -> None:
        """Check that all of it works at this moment."""
        self.shell.type(f"echo {word}-s$((1+1))ill\n")
        self.shell.expect(f"{word}-s2ill")
        self.watcher.expect(f"{word}-s2ill")
        self._socket.sendall(word.encode())
        assert self._socket.recv(1024) == word.upper().encode()
        sent = self._folder / f"sent-{word}"
        assert self._sftp.stdin is not None
        self._sftp.stdin.write(f"put {self._small} {sent}\n")
        self._sftp.stdin.flush()
        wait_until(lambda: sent.exists() and sent.read_text() == "small", "sftp goes on")

    def end(self) -> None:
        """Let the copy go on, and end all, each as its program ends by itself."""
        self._signal_scp(signal.SIGCONT)
        assert self._scp.wait(60) == 0
        assert self._to.read_bytes() == self._from.read_bytes()
        assert self._sftp.stdin is not None
        self._sftp.stdin.close()
        assert self._sftp.wait(60) == 0
        self.shell.type("exit 7\n")
        assert self.shell.wait() == 7

    def _signal_scp(self, number: signal.Signals) -> None:
        if self._scp.poll() is None:
            os.killpg(self._scp.pid, number)


@contextmanager
def opened(cluster: RotatingCluster, joe: Tsh, folder: Path) -> Iterator[Open]:
    """Yield what joe has open; from another machine joe watches."""
    watcher = cluster.joe(folder / "elsewhere")
    with ExitStack() as stack:
        upper = stack.enter_context(upper_port())
        yield Open(joe, watcher, folder / "open", upper, stack)


def test_a_whole_rotation(cluster: RotatingCluster, tmp_path: Path) -> None:
    """Nothing that is open is cut; plain ssh works at each step; then the old certificate is refused, with what to do.

    A new login works at once with the configuration that was made before.
    """
    joe = cluster.joe(tmp_path / "joe")
    ssh = [*plain_ssh(joe), "echo", "in"]
    assert joe.run_other(*ssh).stdout == "in\n"
    old = fingerprints(cluster.node, "node")
    with opened(cluster, joe, tmp_path) as running, ExitStack() as stack:
        master = Master(joe, tmp_path, stack)
        expected = []
        for phase in FORWARD:
            cluster.go(phase)
            running.goes_on(phase.value)
            if phase is Phase.INIT:
                assert joe.run("ls").returncode == 0  # any command that talks to the proxy takes the new keys
            if phase is not Phase.STANDBY:
                done = joe.run_other(*ssh)
                assert (done.returncode, done.stdout) == (0, "in\n"), (phase, done.stderr)
                assert master.works(), phase
            expected.append(fingerprints(cluster.node, "node"))
            for process, role in (
                (cluster.auth, "auth"),
                (cluster.auth, "node"),
                (cluster.proxy, "proxy"),
                (cluster.proxy, "node"),
            ):
                assert fingerprints(process, role) == expected[-1], (phase, role)
        new = expected[-1][0]
        assert expected == [old, (old[0], new), (new, new), (new, new)]
        assert new not in old

        done = joe.run_other(*ssh)
        assert done.returncode == 255
        assert "tsh login" in done.stderr
        assert not master.works()
        assert "is not trusted any more" in master.told()
        assert "tsh login" in master.told()
        for command in (["ls"], ["ssh", f"{LOGIN}@db1", "true"]):
            done = joe.run(*command)
            assert done.returncode != 0
            assert "has been replaced since you logged in" in done.stderr
            assert "tsh --proxy=" in done.stderr
        assert joe.run("status").returncode == 0
        running.goes_on("after")
        running.end()
    cluster.joe(joe.home)
    assert joe.run_other(*ssh).stdout == "in\n"


class Master:
    """One connection of plain ssh on which further sessions are opened."""

    def __init__(self, joe: Tsh, folder: Path, stack: ExitStack) -> None:
        self._joe = joe
        self._log = folder / "master.log"
        path = folder / "m"
        self._over = ("-S", str(path), "-o", "ProxyCommand=false")
        options = ("-M", "-S", str(path), "-N", "-E", str(self._log))
        process = stack.enter_context(subprocess.Popen(plain_ssh(joe, *options), env=joe.all_environment))
        stack.callback(process.terminate)
        wait_until(lambda: path.exists() or process.poll() is not None)

    def works(self) -> bool:
        """Tell whether a session can be opened on it now."""
        return self._joe.run_other(*plain_ssh(self._joe, *self._over), "true").returncode == 0

    def told(self) -> str:
        """Return what the node has said to it."""
        return self._log.read_text()


def test_a_rollback(cluster: RotatingCluster, tmp_path: Path) -> None:
    """From the last phase back to the old key: open sessions go on, what was certified before stays good.

    Who logged in with the new key has to log in again.
    """
    joe = cluster.joe(tmp_path / "joe")
    ssh = [*plain_ssh(joe), "echo", "in"]
    old = fingerprints(cluster.node, "node")
    with joe.terminal("ssh", f"{LOGIN}@db1") as shell:
        for phase in FORWARD[:-1]:
            cluster.go(phase)
        late = cluster.joe(tmp_path / "late")
        assert late.run("ls").returncode == 0
        assert joe.run("ls").returncode == 0
        cluster.go(Phase.ROLLBACK)
        assert fingerprints(cluster.node, "node") == old
        assert fingerprints(cluster.proxy, "proxy")[1] == old[1]
        for person in (joe, late):
            reaches(person, "db1")
        cluster.go(Phase.STANDBY)
        assert joe.run_other(*ssh).stdout == "in\n"
        done = late.run("ssh", f"{LOGIN}@db1", "true")
        assert (done.returncode, "has been replaced since you logged in" in done.stderr) == (255, True)
        shell.type("echo st$((1+1))ill; exit 5\n")
        shell.expect("st2ill")
        assert shell.wait() == 5


def test_who_was_away_for_a_part_of_it(cluster: RotatingCluster, second: Teleport, tmp_path: Path) -> None:
    """A node, and an administrator's file, that know nothing of the new key follow from the old one to it.

    Auth shows a certificate by the new key already; that it is auth's, the old key has said.
    """
    signed = cluster.auth.tctl("auth", "sign", f"--out={tmp_path / 'elsewhere'}")
    assert signed.returncode == 0, signed.stderr
    elsewhere = ("--identity", str(tmp_path / "elsewhere"), "--auth-server", cluster.auth.auth_address)
    second.stop()
    for phase in FORWARD[:-1]:
        cluster.go(phase)
    old = fingerprints(second, "node")
    assert fingerprints(cluster.node, "node") != old
    done = run("tctl", "nodes", "ls", *elsewhere)
    assert (done.returncode, "db1" in done.stdout) == (0, True), done.stderr
    second.start()
    assert "the cluster's authorities were rotated while node." in second.log()
    wait_until(lambda: not cluster.stragglers(), "the node has not followed")
    new = fingerprints(cluster.node, "node")
    assert fingerprints(second, "node") == new
    joe = cluster.joe(tmp_path / "joe")
    reaches(joe, "db2")
    cluster.go(Phase.STANDBY)
    reaches(joe, "db2")
    done = run("tctl", "nodes", "ls", *elsewhere)
    assert done.returncode == 1
    assert "was replaced while it was away" in done.stderr
    assert "tctl auth sign" in done.stderr


def test_who_was_away_for_all_of_it(cluster: RotatingCluster, second: Teleport, tmp_path: Path) -> None:
    """Without a token it ends with what to do, and exit code 1; with one it joins anew, auth having proved itself.

    So does who has nothing but the pin of the old key, which leads to the new one.
    """
    second.stop()
    before = identity(second, "node")
    for phase in FORWARD:
        cluster.go(phase)
    token = second.config["teleport"].pop("auth_token")
    second.configure({})
    second.launch()
    assert second.wait() == 1
    for text in ("was replaced while it was away", "tctl nodes add --roles=node"):
        assert text in second.log()
    assert identity(second, "node") == before
    second.configure({"teleport": {"auth_token": token}})
    second.start()
    assert identity(second, "node").id != before.id
    reaches(cluster.joe(tmp_path / "joe"), "db2")
    second.stop()
    (second.data_dir / "node.identity").unlink()
    second.configure({"teleport": {"ca_pin": signer_of(before.host_certificate)}})
    second.start()
    assert fingerprints(second, "node") == fingerprints(cluster.node, "node")
    del second.config["teleport"]["ca_pin"]
    second.configure({})


def test_an_emergency(cluster: RotatingCluster, second: Teleport, tmp_path: Path) -> None:
    """All at once, without anybody's word: who is online has new certificates, what was certified before is nothing.

    Who was away believes nobody in auth's place by a token alone, and joins anew with the new pin.
    """
    joe = cluster.joe(tmp_path / "joe")
    second.stop()
    old = fingerprints(cluster.node, "node")
    with joe.terminal("ssh", f"{LOGIN}@db1") as shell:
        cluster.rotate(RotateRequest(grace=timedelta(), force=True))
        wait_until(lambda: {each.phase for each in cluster.status().authorities} == {Phase.STANDBY}, "it is not over")
        wait_until(lambda: fingerprints(cluster.node, "node")[0] != old[0])
        wait_until(lambda: joe.run("ls").returncode != 0, "the old certificate is refused")
        assert "has been replaced since you logged in" in joe.run("ls").stderr
        reaches(cluster.joe(tmp_path / "again"), "db1")
        shell.type("echo st$((1+1))ill; exit 5\n")
        shell.expect("st2ill")
        assert shell.wait() == 5
    second.launch()
    assert second.wait() == 1
    assert "was replaced in an emergency while node." in second.log()
    assert "it joins no cluster anew by a token alone" in second.log()
    pin = json.loads(cluster.auth.tctl("auth", "ls", "--format=json").stdout)
    second.configure({"teleport": {"ca_pin": next(each["fingerprint"] for each in pin if each["type"] == "host")}})
    second.start()
    reaches(cluster.joe(tmp_path / "again"), "db2")
