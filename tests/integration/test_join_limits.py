"""Joining a session, where it is slow, idle, late, recorded or the wrong one; tsh and ssh against real processes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.audit.recording import verify
from runtime.core.joining import JOIN_LOGIN
from runtime.node.joining import CHECK_SECONDS
from runtime.pki.claims import HostClaims, MemberRole
from runtime.pki.keys import generate_key
from runtime.pki.signing import random_serial, sign_host
from tests.servers.people import CLOCK, HOUR, authorities_of, certify, declare, role, user
from tests.servers.shared import ROLES, Shared, ready, shared_cluster
from tests.servers.sshclient import Terminal, wait_until
from tests.servers.sshd import LOGIN, Sshd, trusted_user_ca_keys
from tests.servers.tsh import Tsh

IDLE_SECONDS = 6
"""After so long without a key a session ends, in the test of that."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Run a cluster for all tests of this file."""
    with shared_cluster(tmp_path_factory.mktemp("join")) as running:
        yield running


def test_one_who_does_not_read_holds_up_nobody(shared: Shared) -> None:
    """The owner gets twenty megabytes while one who watches stands still, who is then let go, and told why."""
    with shared.session() as (joe, sid), shared.joined("eve", sid) as eve:
        joe.expect("eve watches")
        eve.process.send_signal(signal.SIGSTOP)
        joe.type("head -c 20000000 /dev/zero | tr '\\0' x; echo do$((1+1))ne\n")
        joe.skip_to("eve has left this session: you read slower than the session prints")
        joe.skip_to("do2ne")
        eve.process.send_signal(signal.SIGCONT)
        eve.skip_to("you read slower than the session prints; join again")
        assert eve.wait() == 255
        ready(joe)
    wait_until(lambda: shared.events("session.end", sid))
    (leave,) = shared.events("session.leave", sid)
    assert "slower" in str(leave["reason"])


def test_what_a_program_asks_a_terminal_is_not_asked_of_those_who_joined(shared: Shared) -> None:
    """Neither the clipboard nor an answer that would be typed: their terminals only draw."""
    with shared.session() as (joe, sid), shared.joined("ann", sid) as ann:
        ann.expect("the session of joe")
        joe.type("printf 'x\\033]52;c;c2VjcmV0\\007\\033[6n\\033[31mr%dd\\033[m\\n' 3\n")
        joe.expect("x\x1b]52;c;c2VjcmV0\x07\x1b[6n\x1b[31mr3d")
        ann.expect("x\x1b[31mr3d")
        joe.type("echo do$((1+1))ne\n")
        ann.expect("do2ne")


def test_idle_timeout(shared: Shared) -> None:
    """A peer's keys keep a session alive, as its owner's do; watching does not. Everybody is told of the end."""
    declare(shared.cluster.main, role("idle", options={"idleTimeout": f"{IDLE_SECONDS}s"}))
    declare(shared.cluster.main, user("joe", [LOGIN, "guest"], ["idle"]))
    try:
        wait_until(lambda: not shared.listed("joe"), "the session before is still listed")
        with shared.people["joe"].terminal("ssh", f"{LOGIN}@db1") as joe:
            with typing(joe):  # for as long as this machine takes to start the others
                sid = shared.sid()
                ann = shared.people["ann"].terminal("join", sid)
                eve = shared.people["eve"].terminal("join", sid)
                with ExitStack() as stack:
                    peer, observer = stack.enter_context(ann), stack.enter_context(eve)
                    peer.expect("the session of joe")
                    observer.expect("the session of joe")
                    others = stack.pop_all()
            with others:
                began = time.monotonic()
                with typing(peer):
                    joe.expect("watches this session")
                    wait_until(lambda: time.monotonic() - began > 1.5 * IDLE_SECONDS)
                stopped = time.monotonic()
                observer.type("x")
                for terminal, code in ((joe, 255), (peer, 0), (observer, 0)):
                    terminal.expect(f"no input for {IDLE_SECONDS}s (idleTimeout of your roles)")
                    assert terminal.wait() == code
                assert time.monotonic() - stopped > IDLE_SECONDS - 1.0
    finally:
        declare(shared.cluster.main, user("joe", [LOGIN, "guest"]))


@contextmanager
def typing(terminal: Terminal) -> Iterator[None]:
    """Have somebody press Enter several times a second."""
    enough = threading.Event()

    def press() -> None:
        while not enough.wait(0.3):
            terminal.type("\n")

    thread = threading.Thread(target=press)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()


def test_a_right_that_is_taken_away_ends_it_in_seconds(shared: Shared) -> None:
    """Of who watches, and of who takes part; the session itself goes on."""
    without = [role("auditor", allow={"logins": ["nobody-here"]}), role("peer", allow={"logins": [LOGIN]})]
    with shared.session() as (joe, sid), shared.joined("ann", sid) as ann, shared.joined("eve", sid) as eve:
        joe.expect("eve watches")
        declare(shared.cluster.main, *without)
        taken = time.monotonic()
        try:
            ann.expect("user ann may not take part in the sessions of joe")
            eve.expect("user eve may not watch the sessions of joe")
            assert (ann.wait(), eve.wait()) == (255, 255)
            assert time.monotonic() - taken < CHECK_SECONDS + 5.0
        finally:
            declare(shared.cluster.main, *ROLES)
        ready(joe)


def test_joining_twice_is_being_there_twice(shared: Shared) -> None:
    """From two machines, say: each comes and goes by itself."""
    with shared.session() as (joe, sid), shared.joined("ann", sid) as one:
        joe.expect("ann joins")
        with shared.joined("ann", sid, "--mode=observer") as other:
            other.expect("and ann joins it")
            joe.expect("ann watches")
            one.type("echo bo$((1+1))th\n")
            other.expect("bo2th")
        joe.expect("ann has left")
        one.type("echo st$((1+1))ill\n")
        joe.expect("st2ill")


def test_our_own_client(shared: Shared) -> None:
    """Where no OpenSSH is installed: the same, and left by the same keys."""
    with shared.session() as (joe, sid):
        with shared.joined("ann", sid, "--builtin") as ann:
            joe.expect("ann joins this session")
            ann.type("echo own$((1+1))client\r")
            joe.expect("own2client")
            ann.resize(60, 20)
            joe.type("until [ \"$(stty size)\" = '20 60' ]; do sleep 0.1; done; echo si$((1+1))zed\n")
            joe.expect("si2zed")
            ann.type("~.")
            ann.wait()
        joe.expect("ann has left this session")
        with shared.joined("eve", sid, "--builtin", "--mode=observer") as eve:
            joe.expect("eve watches")
            eve.type("\x03")
            eve.expect("you have left")
            assert eve.wait() == 0
        done = shared.people["eve"].run("join", "--builtin", "--mode=peer", sid)
        assert (done.returncode, "may not take part" in done.stderr) == (255, True)


def test_the_recording_has_who_typed_how_much_and_not_what(shared: Shared) -> None:
    """Entries in SID.session.log while somebody else can type, within its chain; a password is nowhere."""
    with shared.session() as (joe, sid):
        joe.type("echo al$((1+1))one\n")
        joe.expect("al2one")
        with shared.joined("ann", sid) as ann:
            joe.expect("ann joins")
            asking = "stty -echo; printf 'Pass%s: ' word; read x; stty echo; echo got ${#x}\n"
            joe.type(asking)
            ann.expect("Password: ")
            ann.type("hunter22\n")
            joe.expect("got 8")
            assert b"hunter22" not in joe.seen + ann.seen
        joe.expect("ann has left")
        joe.type("exit\n")
        joe.wait()
    kept = shared.cluster.main.data_dir / "log" / "sessions" / "default"
    log, printed = kept / f"{sid}.session.log", kept / f"{sid}.session.bytes"
    wait_until(lambda: log.exists() and b'"session.end"' in log.read_bytes())
    with log.open("rb") as lines, printed.open("rb") as data:
        assert verify(lines, data) == []
    assert b"hunter22" not in log.read_bytes() + printed.read_bytes()
    assert b"teleport:" not in printed.read_bytes()
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    kinds = [each["event"] for each in entries if each["event"] != "print"]
    assert kinds == ["session.start", "session.join", "input", "input", "session.leave", "session.end"]
    typed = [(each["user"], each["bytes"]) for each in entries if each["event"] == "input"]
    assert typed == [("joe", len(asking)), ("ann", 9)]
    (leave,) = (each for each in entries if each["event"] == "session.leave")
    assert (leave["user"], leave["owner"], leave["typed"]) == ("ann", "joe", 9)


def test_a_command_without_a_terminal_cannot_be_joined(shared: Shared) -> None:
    """It is listed, tsh says what to do instead, and so does the node."""
    with shared.people["joe"].running("ssh", f"{LOGIN}@db1", "echo begun; sleep 60") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        wait_until(lambda: any(each["command"].startswith("echo begun") for each in shared.listed("ann")))
        (entry,) = (each for each in shared.listed("ann") if each["command"].startswith("echo begun"))
        assert entry["joinable"] is False
        assert "(no terminal)" in shared.people["ann"].run("sessions", "ls").stdout
        done = shared.people["ann"].run("join", entry["sid"])
        assert (done.returncode, done.stdout) == (255, "")
        assert f"session {entry['sid']} has no terminal" in done.stderr
        assert f"tsh play {entry['sid']}" in done.stderr
        done = shared.people["ann"].run("ssh", "-o", f"SetEnv=TELEPORT_SESSION={entry['sid']}", f"{LOGIN}@db1")
        assert (done.returncode, "a command without a terminal" in done.stderr) == (255, True)


def test_who_is_shown_what(shared: Shared) -> None:
    """One's own sessions; those of others with the verb list; and one by its whole id who may watch or join it."""
    with shared.session() as (joe, sid), shared.joined("ann", sid) as ann:
        joe.expect("ann joins")
        table = shared.people["joe"].run("sessions", "ls").stdout.splitlines()
        assert re.split(" {5,}", table[0]) == [
            "Session ID", "User", "Login", "Node", "Started (UTC)", "Joined", "Command"
        ]  # fmt: skip
        assert table[2].split()[:4] == [sid, "joe", LOGIN, "db1"]
        wait_until(lambda: "ann (peer)" in shared.people["joe"].run("sessions", "ls").stdout)
        (entry,) = shared.listed("eve")
        assert (entry["sid"], entry["user"], entry["hostname"], entry["joinable"]) == (sid, "joe", "db1", True)
        assert shared.listed("bob") == []
        assert ann.process.poll() is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("../../etc/passwd", "is no session's id, nor the beginning of one"),
        ("00000000-0000-4000-8000-000000000000/..", "is no session's id, nor the beginning of one"),
        ("--", "Missing argument 'SID'"),
        ("", "is no session's id"),
        ("zzz", "is no session's id"),
        ("00000000-0000-4000-8000-000000000000", "is running that you may see"),
        ("0000dead", "no session 0000dead is running that you may see"),
    ],
)
def test_an_id_that_is_none(shared: Shared, text: str, says: str) -> None:
    """It is said in one line, with what to do next, before anything is connected to."""
    done = shared.people["ann"].run("join", text)
    assert done.returncode in {2, 255}
    assert done.stdout == ""
    assert says in done.stderr
    assert "hint: " in done.stderr or "Usage: " in done.stderr


def test_a_session_from_inside_itself(shared: Shared) -> None:
    """It would show itself without end: tsh refuses."""
    with shared.session() as (joe, sid):
        home, tsh = shared.people["joe"].home, shared.people["joe"].words()[0]
        joe.type(f"TELEPORT_HOME='{home}' {tsh} join {sid}; echo code=$?\n")
        joe.expect("this is the session that you are in")
        joe.expect("code=255")


def test_a_certificate_that_has_ended(shared: Shared, tmp_path: Path) -> None:
    """It joins nothing: tsh asks to log in, and the node lets nobody in."""
    late = certify(shared.cluster.main, "ann", [LOGIN], roles=["peer"], age=timedelta(hours=2))
    late.log_in(tmp_path / "home", shared.cluster.main)
    with shared.session() as (joe, sid):
        done = Tsh(tmp_path / "home").run("join", sid)
        assert (done.returncode, "expired" in done.stderr) == (255, True)
        way = ["ssh", *late.ssh_options(tmp_path / "key"), "-p", str(shared.cluster.main.node_port)]
        options = ["-o", "HostKeyAlias=db1", "-o", f"SetEnv=TELEPORT_SESSION={sid}", "-tt", "-l", JOIN_LOGIN]
        done = shared.people["ann"].run_other(*way, *options, "localhost")
        assert done.returncode == 255
        assert "expired" in done.stderr
        assert "Permission denied" in done.stderr
        ready(joe)
        assert b"teleport:" not in joe.seen


def test_an_sshd_that_trusts_the_user_ca_does_not_know_the_login(shared: Shared, tmp_path: Path) -> None:
    """The principal for joining names no user of any system: OpenSSH refuses it, and lets in the login beside it."""
    authorities = authorities_of(shared.cluster.main)
    key = generate_key()
    claims = HostClaims(
        host_id="5f0f3f43-8e9f-4d5e-9f3c-3b1b8e4f2a10", role=MemberRole.NODE, name="old", cluster="main", ttl=HOUR
    )
    host = sign_host(claims, key.public, signer=authorities.host.signer, now=CLOCK.now(), serial=random_serial())
    person = certify(shared.cluster.main, "ann", [LOGIN], roles=["peer"])
    with Sshd(
        tmp_path,
        host_key=key.to_openssh(),
        host_certificate=host.line,
        trusted_user_ca_keys=trusted_user_ca_keys(authorities.user.signer.public),
    ) as sshd:

        def log_in(login: str) -> subprocess.CompletedProcess[str]:
            return sshd.ssh(
                "old",
                key=person.private.to_openssh(),
                certificate=person.certificate,
                known_hosts=person.known_hosts,
                login=login,
            )

        assert log_in(LOGIN).stdout == "in\n"
        refused = log_in(JOIN_LOGIN)
        assert (refused.returncode, refused.stdout) == (255, "")
        assert "Permission denied" in refused.stderr
        # sshd cuts a login at its first colon, so that it can ask for no principal that has one.
        assert "Invalid user join " in sshd.log()


def test_a_node_that_is_away(shared: Shared) -> None:
    """Its session is still listed for a while: tsh join says that the node cannot be reached."""
    with shared.session("db2") as (_, sid):
        shared.cluster.second.process.kill()
        done = shared.people["ann"].run("join", sid)
        assert (done.returncode, done.stdout) == (255, "")
        assert "cannot be reached" in done.stderr
    shared.cluster.second.start()
