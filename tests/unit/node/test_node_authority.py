"""The one authorisation function of a node: certificate, trust, current user and roles, labels, login."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from runtime.core.errors import AccessDenied
from runtime.core.joining import JOIN_LOGIN, Mode
from runtime.core.resources.authority import AuthorityType
from runtime.core.session_access import Owned
from runtime.node.authority import NodeAccess
from runtime.pki.claims import HostClaims, MemberRole
from runtime.pki.identity import UserIdentity
from runtime.pki.keys import generate_key
from runtime.pki.signing import sign_host
from runtime.pki.trust import Signer, Trust
from runtime.transport.guards import Peer
from tests.unit.node.guarded import HERE, HOST_ID, HOSTS, KEY, NOW, USERS, World, certificate


@pytest.fixture
def world() -> World:
    """Return a node where joe may be root."""
    return World()


def test_a_certified_user_gets_in_with_the_options_of_the_roles(world: World) -> None:
    """The grant is that of the roles as they are now; the strictest option counts."""
    world.people.role("strict", options={"maxSessions": 3, "fileCopy": False, "idleTimeout": "30m"})
    world.people.declare("joe", "root", roles=("strict",))
    grant = world.access.authorise(world.identity(), "root")
    assert (grant.login, grant.max_sessions, grant.file_copy, grant.idle_timeout) == (
        "root",
        3,
        False,
        timedelta(minutes=30),
    )


def test_a_certificate_of_who_had_the_name_before(world: World) -> None:
    """It opens nothing from the moment that the node hears of the new user; the new one's does."""
    joe = world.people.users["joe"]
    world.people.users["joe"] = joe.with_id("a" * 32)
    identity = world.identity(person="a" * 32)
    world.access.authorise(identity, "root")
    world.people.users["joe"] = joe.with_id("b" * 32)
    with pytest.raises(AccessDenied, match="issued to who was user joe before"):
        world.access.authorise(identity, "root")
    world.access.authorise(world.identity(person="b" * 32), "root")


def test_what_was_proved_once_is_asked_again(world: World) -> None:
    """Each call decides by what holds then: user, role, label, expiry, trust."""
    identity = world.identity()
    world.people.role("lab", deny={"nodeLabels": {"env": ["test"]}})
    world.people.declare("joe", "root", roles=("lab",))
    world.access.authorise(identity, "root")

    world.labels = {"env": "test"}
    with pytest.raises(AccessDenied, match="role lab denies this node"):
        world.access.authorise(identity, "root")
    world.labels = {"env": "prod"}
    world.access.authorise(identity, "root")

    world.now = NOW + timedelta(hours=1)
    with pytest.raises(AccessDenied, match="expired at 2026-11-22 13:00:00 UTC") as caught:
        world.access.authorise(identity, "root")
    assert "tsh login" in caught.value.hint
    world.now = NOW

    world.trust = Trust([HOSTS.public])
    with pytest.raises(AccessDenied, match="not trusted any more"):
        world.access.authorise(identity, "root")
    world.trust = Trust([USERS.public])

    del world.people.users["joe"]
    with pytest.raises(AccessDenied, match="no user joe"):
        world.access.authorise(identity, "root")


def test_a_login_must_be_in_the_certificate_and_in_the_roles(world: World) -> None:
    """One of the two is not enough."""
    identity = world.identity()
    world.people.declare("joe", "root", "admin")
    with pytest.raises(AccessDenied, match="is for joe, root, not for 'admin'"):
        world.access.authorise(identity, "admin")
    with pytest.raises(AccessDenied, match="allows login 'joe' on this node"):
        world.access.authorise(identity, "joe")


def test_a_login_that_nobody_could_have_is_shown_harmlessly(world: World) -> None:
    """What a client calls itself goes into messages escaped, and not at any length."""
    with pytest.raises(AccessDenied) as caught:
        world.access.authorise(world.identity(), "\x1b[31m" + "x" * 1000)
    assert "\\x1b[31m" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_another_clusters_user_is_nobody_here(world: World) -> None:
    """Even where its authority is trusted: that is for the trusted cluster's mapping to allow."""
    other = Signer(AuthorityType.USER, "leaf", generate_key())
    world.trust = Trust([USERS.public, other.public])
    with pytest.raises(AccessDenied, match="cluster leaf is not trusted here any more"):
        world.access.validate("root", certificate(other, cluster="leaf"), HERE)


def test_a_source_address_holds(world: World) -> None:
    """IPv4 and IPv6, from the certificate that was shown."""
    networks = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    line = certificate(source_addresses=networks)
    for host in ("10.1.2.3", "fd00::7"):
        assert world.access.validate("root", line, Peer(host, 1)).user == "joe"
    for host in ("127.0.0.1", "::1", "fe80::1%eth0"):
        with pytest.raises(AccessDenied, match=r"good from 10\.0\.0\.0/8, fd00::/8 only"):
            world.access.validate("root", line, Peer(host, 1))


def test_a_node_of_an_ordinary_user_has_one_login(world: World) -> None:
    """It could not become another; the person is told which one there is."""
    node, identity = world.node(only_login="joe"), world.identity()
    with pytest.raises(AccessDenied, match="runs as joe, so joe is the one login here, not root"):
        node.authorise(identity, "root")
    assert node.authorise(identity, "joe").login == "joe"


def test_who_may_know_why(world: World) -> None:
    """The holder of a certificate of ours, valid or expired; nobody whose certificate another key has signed."""
    world.now = NOW + timedelta(days=300)
    assert world.access.holder(certificate()) == "joe"
    stranger = Signer(AuthorityType.USER, "main", generate_key())
    assert world.access.holder(certificate(stranger)) is None
    host = HostClaims(host_id=HOST_ID, role=MemberRole.NODE, name="n", cluster="main", ttl=timedelta(hours=1))
    assert world.access.holder(sign_host(host, KEY.public, signer=HOSTS, now=NOW, serial=1).line) is None
    assert world.access.holder(b"ssh-ed25519-cert-v01@openssh.com AAAA") is None


def test_who_has_a_certificate_of_a_replaced_key_may_know_why(world: World) -> None:
    """It lets nobody in, and its holder hears what to do; of the key that is believed nothing changes."""
    old = USERS.public
    world.trust = Trust([Signer(AuthorityType.USER, "main", generate_key()).public, HOSTS.public])
    access = NodeAccess(
        cluster="main",
        trust=lambda: world.trust,
        known=lambda: Trust([old, HOSTS.public]),
        people=world.people,
        labels=lambda: world.labels,
        now=lambda: world.now,
    )
    with pytest.raises(AccessDenied, match="signed by a CA that is not trusted here") as caught:
        access.validate("root", certificate(), HERE)
    assert "tsh login" in caught.value.hint
    assert access.holder(certificate()) == "joe"
    assert world.access.holder(certificate()) is None


def test_a_proof_by_a_key_that_now_is_another_authoritys(world: World) -> None:
    """The same key under another name does not count as the authority that signed."""
    identity = world.identity()
    world.trust = Trust([replace(USERS.public, type=AuthorityType.HOST)])
    with pytest.raises(AccessDenied, match="not trusted any more"):
        world.access.authorise(identity, "root")


# --- joining sessions ----------------------------------------------------------------------------------------------

OF_ANN = Owned("ann", "root")


def joiner(world: World, **claims: Any) -> UserIdentity:
    """Return joe, let in for joining only, who may be root here and take part in the sessions of others."""
    allow = {"logins": ["root"], "nodeLabels": {"*": ["*"]}, "rules": [{"resources": ["session"], "verbs": ["join"]}]}
    world.people.role("peer", allow=allow)
    world.people.declare("joe", roles=("peer",))
    return world.access.validate(JOIN_LOGIN, certificate(join_sessions=True, **claims), HERE)


def test_the_login_for_joining_opens_nothing_else(world: World) -> None:
    """Who shows its principal is let in, whatever the labels; to be authorised as that login is impossible."""
    world.labels = {}
    identity = joiner(world)
    assert identity.logins == ("joe", "root")
    with pytest.raises(AccessDenied, match=r"not for 'join:teleport\.internal'"):
        world.access.authorise(identity, JOIN_LOGIN)


def test_who_is_not_let_in_for_joining(world: World) -> None:
    """Without the principal, after the end of the certificate, for a forced command, and who is no user any more."""
    joiner(world)
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "not for 'join"),
        ({"join_sessions": True, "force_command": "ls"}, "one command"),
    ]
    for claims, says in cases:
        with pytest.raises(AccessDenied, match=says):
            world.access.validate(JOIN_LOGIN, certificate(**claims), HERE)
    world.now += timedelta(hours=2)
    with pytest.raises(AccessDenied, match="expired"):
        world.access.validate(JOIN_LOGIN, certificate(join_sessions=True), HERE)
    world.now = NOW
    world.people.users.clear()
    with pytest.raises(AccessDenied, match="no user joe"):
        world.access.validate(JOIN_LOGIN, certificate(join_sessions=True), HERE)


def test_joining_goes_by_the_roles_of_now(world: World) -> None:
    """Asked at each join, and again meanwhile; the end of a certificate lets nobody in, and ends nothing."""
    identity = joiner(world)
    assert world.access.part_in(identity, OF_ANN, None) is Mode.PEER
    world.now += timedelta(hours=2)
    assert world.access.still_in(identity, OF_ANN, Mode.PEER) is Mode.PEER
    with pytest.raises(AccessDenied, match="expired"):
        world.access.part_in(identity, OF_ANN, None)
    world.now = NOW
    world.people.role("peer", allow={"logins": ["root"], "nodeLabels": {"*": ["*"]}})
    for ask in (world.access.part_in, world.access.still_in):
        with pytest.raises(AccessDenied, match="may not take part"):
            ask(identity, OF_ANN, Mode.PEER)


def test_nobody_types_as_a_login_that_the_certificate_lacks(world: World) -> None:
    """A role that came since does not widen it: such a one watches, and who insists is told to log in again."""
    identity = joiner(world, logins=("joe",))
    assert world.access.part_in(identity, OF_ANN, None) is Mode.OBSERVER
    with pytest.raises(AccessDenied, match="for joe, not for 'root'") as refused:
        world.access.part_in(identity, OF_ANN, Mode.PEER)
    assert "log in again" in refused.value.hint
