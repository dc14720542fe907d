"""Several people in one session, with tsh and ssh against real processes: who gets in, as what, and how it ends."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.core.joining import JOIN_LOGIN
from tests.servers.people import certify
from tests.servers.shared import Shared, ready, shared_cluster
from tests.servers.sshclient import wait_until
from tests.servers.sshd import LOGIN


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Run a cluster for all tests of this file."""
    with shared_cluster(tmp_path_factory.mktemp("join")) as running:
        yield running


def test_two_people_type_in_one_terminal(shared: Shared) -> None:
    """Both see the same, each hears of the other; the log has who came and went, and whose keys they were."""
    with shared.session() as (joe, sid):
        joe.type("x=from-joe; echo a$((1+1))b\n")
        joe.expect("a2b")
        with shared.joined("ann", sid) as ann:
            ann.expect("you take part in the session of joe")
            joe.expect("teleport: ann joins this session, from 127.0.0.1")
            ann.type("echo $x-to-an$((1+1))n\n")
            ann.expect("from-joe-to-an2n")
            joe.expect("from-joe-to-an2n")
            joe.type("echo se$((1+1))cond\n")
            ann.expect("se2cond")
            joe.expect("se2cond")
            wait_until(lambda: shared.listed("joe")[0]["parties"] == [{"user": "ann", "mode": "peer"}])
            ann.type("\n~.")
            ann.wait()
        joe.expect("teleport: ann has left this session")
        joe.type("echo go$((1+1))es on; exit 3\n")
        joe.expect("go2es on")
        assert joe.wait() == 3
    wait_until(lambda: shared.events("session.end", sid))
    (join,) = shared.events("session.join", sid)
    assert (join["user"], join["owner"], join["login"], join["mode"]) == ("ann", "joe", LOGIN, "peer")
    assert str(join["addr.remote"]).startswith("127.0.0.1:")
    (leave,) = shared.events("session.leave", sid)
    assert (leave["user"], leave["mode"]) == ("ann", "peer")
    # ssh does not always send what came with its escape.
    assert leave["typed"] in {len("echo $x-to-an$((1+1))n\n"), len("echo $x-to-an$((1+1))n\n\n")}


def test_an_auditor_without_a_login_watches(shared: Shared) -> None:
    """Sees at once what is on the screen, and what comes; keys go nowhere, which is told once; Ctrl-C leaves."""
    with shared.session() as (joe, sid):
        joe.type("echo be$((1+1))fore\n")
        joe.expect("be2fore")
        with shared.joined("eve", sid[:8]) as eve:
            eve.expect("you watch the session of joe")
            eve.expect("be2fore")
            joe.expect("teleport: eve watches this session")
            eve.type("touch /nowhere/eve-was-here\n")
            eve.expect("what you type goes nowhere")
            eve.type("more\n")
            joe.type("echo af$((1+1))ter\n")
            joe.expect("af2ter")
            eve.expect("af2ter")
            assert b"goes nowhere" not in eve.seen
            eve.type("\x03")
            eve.expect("you have left the session")
            assert eve.wait() == 0
        joe.expect("teleport: eve has left this session")
        ready(joe)
        assert b"eve-was-here" not in joe.seen
    wait_until(lambda: shared.events("session.end", sid))
    (join,) = shared.events("session.join", sid)
    assert (join["user"], join["mode"], join["login"]) == ("eve", "observer", LOGIN)
    assert [event["typed"] for event in shared.events("session.leave", sid)] == [0]


def test_who_may_not_is_told_why(shared: Shared) -> None:
    """An observer who wants to type, a helper without a login, and somebody without any rule; joe hears of nobody."""
    with shared.session() as (joe, sid):
        for who, options, says in (
            ("eve", ["--mode=peer"], "user eve may not take part in the sessions of joe"),
            ("hal", [], "no role of user hal allows this node"),
            ("hal", ["--mode=observer"], "user hal may not watch the sessions of joe"),
            ("bob", [], f"no session {sid} is running that you may see"),
        ):
            done = shared.people[who].run("join", *options, sid)
            assert done.returncode == 255, (who, done)
            assert says in done.stderr, (who, done.stderr)
        # Nor past tsh, by an ssh that names the session: the node decides.
        done = shared.people["bob"].run(
            "ssh", "-o", f"SetEnv=TELEPORT_SESSION={sid}", "-tt", f"{LOGIN}@db1", stdin="id\n"
        )
        assert (done.returncode, "may not watch the sessions of joe" in done.stdout + done.stderr) == (255, True)
        ready(joe)
        assert b"teleport:" not in joe.seen
    assert shared.events("session.join", sid) == []
    wait_until(lambda: len(shared.events("session.rejected", sid)) == 4, "refusals are in the log")
    assert {event["user"] for event in shared.events("session.rejected", sid)} == {"eve", "hal", "bob"}


def test_plain_ssh_joins_by_a_variable(shared: Shared) -> None:
    """Where the login is permitted, ssh with SetEnv is enough; as an observer too, and never with a command."""
    with shared.session() as (joe, sid):
        names = f"SetEnv=TELEPORT_SESSION={sid}"
        with shared.people["ann"].terminal("ssh", "-t", "-o", names, f"{LOGIN}@db1") as ann:
            joe.expect("ann joins this session")
            ann.type("echo an$((1+1))n\n")
            joe.expect("an2n")
        joe.expect("ann has left this session")
        with shared.people["ann"].terminal("ssh", "-t", "-o", f"{names} TELEPORT_SESSION_MODE=observer", "db1") as ann:
            joe.expect("ann watches this session")
        for option, command, says in (
            (names, ["id"], "without a command"),
            (f"{names} TELEPORT_SESSION_MODE=boss", [], "'boss' is no way to join a session"),
            ("SetEnv=TELEPORT_SESSION=../../etc/passwd", [], "'../../etc/passwd' is no session's id"),
            (f"SetEnv=TELEPORT_SESSION={sid}/..", [], "is no session's id"),
            (f"SetEnv=TELEPORT_SESSION={'0' * 5000}", [], "is no session's id"),
            ("SetEnv=TELEPORT_SESSION=00000000-0000-4000-8000-000000000000", [], "runs on this node: it has ended"),
        ):
            done = shared.people["ann"].run("ssh", "-o", option, f"{LOGIN}@db1", *command)
            assert (done.returncode, done.stdout) == (255, ""), done
            assert says in done.stderr


def test_the_smallest_of_those_who_take_part_decides(shared: Shared) -> None:
    """A peer's terminal shrinks it, an observer's does not; it grows again; each size is in the log."""
    with shared.session() as (joe, sid):

        def until_size(size: str) -> None:
            joe.type(f"until [ \"$(stty size)\" = '{size}' ]; do sleep 0.1; done; echo si$((1+1))zed\n")
            joe.expect("si2zed")

        joe.resize(100, 40)
        until_size("40 100")
        with shared.joined("ann", sid) as ann:  # 80 by 24
            joe.expect("ann joins")
            until_size("24 80")
            ann.resize(70, 50)
            until_size("40 70")
            with shared.joined("eve", sid) as eve:
                joe.expect("eve watches")
                eve.resize(20, 10)
                ready(joe)
                until_size("40 70")
            joe.resize(60, 30)
            until_size("30 60")
            joe.resize(100, 40)
            until_size("40 70")
        joe.expect("ann has left")
        until_size("40 100")
        joe.type("exit\n")
        assert joe.wait() == 0
    wait_until(lambda: shared.events("session.end", sid))
    sizes = [str(event["size"]) for event in shared.events("resize", sid)]
    # Of those in half a second it is the last, so that not each has to be there.
    assert sizes[0] == sizes[-1] == "100:40"
    assert "70:40" in sizes
    assert set(sizes) <= {"100:40", "80:24", "70:40", "60:30"}


def test_the_login_for_joining_opens_nothing_else(shared: Shared, tmp_path: Path) -> None:
    """No shell, command, subsystem, forwarding or agent: whatever one may do under a login of one's own."""
    ann = certify(shared.cluster.main, "ann", [LOGIN], roles=["peer"])
    way = ["ssh", *ann.ssh_options(tmp_path), "-p", str(shared.cluster.main.node_port)]
    way += ["-o", "HostKeyAlias=db1", "-l", JOIN_LOGIN]
    for options, command in (([], []), ([], ["id"]), (["-s"], ["sftp"]), (["-tt"], []), (["-tt"], ["id"])):
        done = shared.people["ann"].run_other(*way, *options, "localhost", *command)
        assert done.returncode == 255, (options, command)
        assert "uid=" not in done.stdout
        assert "nothing here but sessions to join" in done.stdout + done.stderr, done
    forward = shared.people["ann"].run_other(*way, "-W", f"127.0.0.1:{shared.cluster.main.auth_port}", "localhost")
    assert (forward.returncode, forward.stdout) == (255, "")
    assert "open failed" in forward.stderr
    remote = shared.people["ann"].run_other(
        *way, "-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:1", "localhost"
    )
    assert remote.returncode == 255
    without = certify(shared.cluster.main, "ann", [LOGIN], roles=["peer"], join_sessions=False)
    way = ["ssh", *without.ssh_options(tmp_path / "without"), *way[way.index("-p") :]]
    done = shared.people["ann"].run_other(*way, "localhost")
    assert "Permission denied" in done.stderr


def test_it_ends_for_all_with_the_owner(shared: Shared) -> None:
    """When the owner hangs up, and when the shell ends: everybody is told, and ends with 0."""
    with shared.session() as (joe, sid), shared.joined("ann", sid) as ann, shared.joined("eve", sid) as eve:
        for terminal in (ann, eve):
            terminal.expect("the session of joe")
        joe.close()
        for terminal in (ann, eve):
            terminal.expect("the session has ended: joe, whose it is, has gone")
            assert terminal.wait() == 0
    with shared.session() as (joe, sid), shared.joined("ann", sid) as ann:
        joe.expect("ann joins")
        ann.type("exit 4\n")
        ann.expect("the session has ended")
        assert (ann.wait(), joe.wait()) == (0, 4)
    wait_until(lambda: shared.events("session.end", sid))
    (leave,) = shared.events("session.leave", sid)
    assert leave["reason"] == "the session has ended"
    done = shared.people["ann"].run("join", sid)
    assert (done.returncode, done.stdout) == (255, "")
    assert re.search(f"no session {sid} (is running|runs)", done.stderr)


def test_an_administrator_ends_it_for_all(shared: Shared) -> None:
    """Everybody is told, by `tctl sessions kill`."""
    with shared.session() as (joe, sid), shared.joined("ann", sid) as ann:
        ann.expect("the session of joe")
        assert shared.cluster.main.tctl("sessions", "kill", sid).returncode == 0
        for terminal, code in ((joe, 255), (ann, 0)):
            terminal.expect("this session was ended by an administrator")
            assert terminal.wait() == code


def test_the_way_through_the_proxy(shared: Shared, tmp_path: Path) -> None:
    """Without a login there, one reaches a node by its id only, to join, and with a right to; no name is given away."""
    node_id = next(each["id"] for each in shared.nodes() if each["name"] == "db1")

    def reach(who: str, login: str, host: str) -> str:
        person = certify(shared.cluster.main, who, ["nobody-here"], roles=["x"])
        way = ["ssh", *person.ssh_options(tmp_path / who), "-p", str(shared.cluster.main.ssh_port), "-l", login]
        way += ["-o", "HostKeyAlias=proxy.teleport.internal", "-s", "localhost", f"proxy:{host}:3022"]
        done = subprocess.run(way, input=b"SSH-2.0-nobody\r\n", capture_output=True, timeout=60, check=False)
        return (done.stdout[:8] or done.stderr).decode()

    assert reach("eve", JOIN_LOGIN, node_id) == "SSH-2.0-"
    for who, login, host in (
        ("eve", JOIN_LOGIN, "db1"),
        ("eve", "nobody-here", node_id),
        ("zoe", JOIN_LOGIN, node_id),
    ):
        assert f"there is no node '{host}' that you may reach" in reach(who, login, host)
