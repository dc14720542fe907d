"""Who gets in at a node, and stays: certificates, current users and roles, limits; and what the refused are told."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import UserClaims
from runtime.pki.keys import generate_key, load_private_key
from runtime.pki.signing import sign_user
from runtime.pki.trust import Signer
from runtime.service.identity import DataDir
from tests.servers.people import certify, declare, role, user
from tests.servers.sshclient import Client, Done, events, wait_until
from tests.servers.teleport import Teleport

ME = pwd.getpwuid(os.geteuid()).pw_name
WITHIN_SECONDS = 10.0
"""What is taken away is gone after so long (security.md, "Certificates and CAs")."""
REFUSED = f"{ME}@localhost: Permission denied (publickey)."


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Start a cluster of one machine, with a proxy: who comes from its address is not penalised for others."""
    labels = {"ssh_service": {"labels": {"env": "prod", "team": "db"}}}
    with Teleport(tmp_path_factory.mktemp("node"), ("auth", "proxy", "node"), config=labels).start() as teleport:
        yield teleport


def client(node: Teleport, name: str, folder: Path, *logins: str, **claims: Any) -> Client:
    """Return the ssh of a user with a certificate for these logins, by default ours."""
    return Client(node, certify(node, name, logins or [ME], **claims), folder, ME)


def told(done: Done) -> str:
    """Return what a person who was not let in saw; ssh ends with 255 then."""
    assert done.returncode == 255, done
    return done.stderr.decode()


def denials(node: Teleport, user_name: str) -> list[str]:
    """Return the reasons of the logins of a user that were denied, as audited."""
    found = [event for event in events(node, "auth") if event["user"] == user_name and event["success"] == "false"]
    assert all(event["login"] and str(event["addr.remote"]).startswith("127.0.0.1:") for event in found)
    return [str(event["error"]) for event in found]


# --- at login ------------------------------------------------------------------------------------------------------


def test_a_login_is_audited(node: Teleport, tmp_path: Path) -> None:
    """Who came, as whom, from where."""
    declare(node, user("alice", [ME]))
    assert client(node, "alice", tmp_path).run("true").returncode == 0
    wait_until(lambda: [event for event in events(node, "auth") if event["user"] == "alice"])
    (event,) = [event for event in events(node, "auth") if event["user"] == "alice"]
    assert (event["success"], event["login"]) == ("true", ME)
    assert event["addr.local"] == f"127.0.0.1:{node.node_port}"


def test_an_expired_certificate(node: Teleport, tmp_path: Path) -> None:
    """The person learns when it expired and what to do."""
    declare(node, user("late", [ME]))
    expired = client(node, "late", tmp_path, ttl=timedelta(minutes=1), age=timedelta(hours=2))
    text = told(expired.run("true"))
    assert "teleport: access denied: the certificate expired at " in text
    assert "Log in again: tsh login" in text
    wait_until(lambda: denials(node, "late"))
    assert "expired" in denials(node, "late")[0]


def test_a_login_that_is_not_in_the_certificate(node: Teleport, tmp_path: Path) -> None:
    """The person learns which there are."""
    declare(node, user("bob", [ME, "other"]))
    text = told(client(node, "bob", tmp_path, "other").run("true"))
    assert f"the certificate of user bob is for other, not for '{ME}'" in text


def test_a_login_that_the_roles_no_longer_allow(node: Teleport, tmp_path: Path) -> None:
    """The certificate still has it; what counts is now."""
    declare(node, user("carol", ["other"]))
    assert f"no role of user carol allows login '{ME}' on this node" in told(
        client(node, "carol", tmp_path).run("true")
    )


def test_a_login_that_a_role_denies(node: Teleport, tmp_path: Path) -> None:
    """A denial wins over the user's own logins."""
    declare(node, role("no-me", deny={"logins": [ME]}), user("dave", [ME], ["no-me"]))
    assert f"the role no-me denies the login '{ME}'" in told(client(node, "dave", tmp_path).run("true"))


def test_a_node_that_no_role_allows(node: Teleport, tmp_path: Path) -> None:
    """Labels decide; the same role lets in where they match."""
    declare(
        node,
        role("test-only", allow={"logins": [ME], "nodeLabels": {"env": ["test"]}}),
        role("prod-db", allow={"logins": [ME], "nodeLabels": {"env": ["test", "prod"], "team": ["db"]}}),
        user("erin", [], ["test-only"]),
        user("frank", [], ["prod-db"]),
    )
    assert "no role of user erin allows this node" in told(client(node, "erin", tmp_path / "erin").run("true"))
    assert client(node, "frank", tmp_path / "frank").run("true").returncode == 0


def test_a_user_that_does_not_exist(node: Teleport, tmp_path: Path) -> None:
    """A certificate alone is not enough."""
    assert "there is no user mallory" in told(client(node, "mallory", tmp_path).run("true"))


def test_a_source_address_that_is_not_the_certificates(node: Teleport, tmp_path: Path) -> None:
    """The certificate says from where; the reason is told, and from there it works."""
    declare(node, user("grace", [ME]))
    far = client(node, "grace", tmp_path / "far", source_addresses=(ip_network("192.0.2.0/24"),))
    near = client(node, "grace", tmp_path / "near", source_addresses=(ip_network("127.0.0.0/8"),))
    assert "is good from 192.0.2.0/24 only, not from 127.0.0.1" in told(far.run("true"))
    assert near.run("true").returncode == 0


def test_strangers_learn_nothing(node: Teleport, tmp_path: Path) -> None:
    """A certificate of an authority that only claims to be the cluster's gets no word but the refusal."""
    declare(node, user("heidi", [ME]))
    heidi = certify(node, "heidi", [ME])
    claims = UserClaims(user="heidi", cluster="main", logins=(ME,), roles=("user:heidi",), ttl=timedelta(hours=1))
    signer = Signer(AuthorityType.USER, "main", generate_key())
    made_up = sign_user(claims, heidi.private.public, signer=signer, now=SystemClock().now(), serial=1)
    stranger = Client(node, replace(heidi, certificate=made_up.line), tmp_path, ME)
    assert told(stranger.run("true")).splitlines() == [REFUSED]
    wait_until(lambda: any("a CA that is not trusted here" in error for error in denials(node, "")))


def test_a_members_certificate_is_no_users(node: Teleport, tmp_path: Path) -> None:
    """What a service calls others with opens no session, and learns nothing."""
    identity = DataDir(node.data_dir).identity(CallerKind.NODE)
    somebody = certify(node, "heidi", [ME])
    private = load_private_key(identity.key.get_secret_value())
    member = replace(somebody, private=private, certificate=identity.member_certificate.encode())
    for login in (ME, identity.login):
        done = Client(node, member, tmp_path, login).run("true")
        assert told(done).splitlines() == [f"{login}@localhost: Permission denied (publickey)."]


# --- while connected -----------------------------------------------------------------------------------------------


def test_a_user_who_is_deleted_opens_no_more_sessions(node: Teleport, tmp_path: Path) -> None:
    """On a connection that is open, within ten seconds; the sessions that run go on, and it is audited."""
    declare(node, user("ivan", [ME]))
    ivan = client(node, "ivan", tmp_path)
    with ivan.connected() as connected:
        command = "echo ready; read x; echo go''ne on; exit 8"
        with ivan.terminal(command, options=("-tt", *connected.over)) as terminal:
            terminal.expect("ready")
            assert not connected.is_refused()
            assert node.tctl("users", "del", "ivan").returncode == 0
            deleted = time.monotonic()
            wait_until(connected.is_refused)
            assert time.monotonic() - deleted < WITHIN_SECONDS
            assert "there is no user ivan" in connected.told()
            terminal.type("\r")
            terminal.expect("gone on")
            assert terminal.wait() == 8
    wait_until(lambda: [event for event in events(node, "session.rejected") if event.get("user") == "ivan"])


def test_a_role_that_changes_holds_for_the_next_channel(node: Teleport, tmp_path: Path) -> None:
    """Both ways: what is taken away is gone, and what is given works, on the same connection."""
    here, elsewhere = ({"logins": [ME], "nodeLabels": {"env": [env]}} for env in ("prod", "test"))
    declare(node, role("moving", allow=here), user("judy", [], ["moving"]))
    with client(node, "judy", tmp_path).connected() as connected:
        declare(node, role("moving", allow=elsewhere))
        wait_until(connected.is_refused)
        assert "no role of user judy allows this node" in connected.told()
        declare(node, role("moving", allow=here))
        wait_until(lambda: not connected.is_refused())


def test_a_certificate_that_expires_opens_no_more_sessions(node: Teleport, tmp_path: Path) -> None:
    """On a connection that is open too."""
    declare(node, user("kim", [ME]))
    kim = client(node, "kim", tmp_path, ttl=timedelta(minutes=1), age=timedelta(seconds=50))
    with kim.connected() as connected:
        assert not connected.is_refused()
        wait_until(connected.is_refused)
        assert "the certificate expired at" in connected.told()


def test_only_so_many_sessions_at_once(node: Teleport, tmp_path: Path) -> None:
    """The roles' maxSessions holds for each connection; an ended session makes room."""
    declare(node, role("two", options={"maxSessions": 2}), user("leo", [ME], ["two"]))
    leo = client(node, "leo", tmp_path)
    with leo.connected() as connected:
        with (
            leo.running("echo ready; cat", options=connected.over) as one,
            leo.running("echo ready; cat", options=connected.over) as two,
        ):
            for each in (one, two):
                assert each.stdout is not None
                assert each.stdout.readline() == b"ready\n"
            assert connected.is_refused()
            assert "2 sessions are open on this connection, as many as your roles allow" in connected.told()
        wait_until(lambda: not connected.is_refused())


def test_a_session_without_input_ends(node: Teleport, tmp_path: Path) -> None:
    """After the roles' idleTimeout, and the person is told; output alone does not keep it, input does."""
    declare(node, role("brisk", options={"idleTimeout": "2s"}), user("mona", [ME], ["brisk"]))
    mona = client(node, "mona", tmp_path)
    with mona.terminal("while :; do echo busy; sleep 0.2; done") as terminal:
        terminal.expect("busy")
        started = time.monotonic()
        assert terminal.wait() == 255
        assert b"teleport: the session ends: no input for 2s" in terminal.seen
    assert time.monotonic() - started < WITHIN_SECONDS
    with mona.terminal('while read x; do echo "<$x>"; done') as terminal:
        for number in range(6):
            time.sleep(0.7)  # a person who types slowly: it is the time between two inputs that is measured
            terminal.type(f"{number}\r")
            terminal.expect(f"<{number}>")


def test_a_login_that_no_user_of_the_machine_has(node: Teleport, tmp_path: Path) -> None:
    """The cluster allows it, the machine does not know it: the person is told, and ssh ends with 255."""
    declare(node, user("nina", ["no-such-user-here"]))
    nina = client(node, "nina", tmp_path, "no-such-user-here")
    assert "no-such-user-here" in told(nina.run("true", login="no-such-user-here"))
