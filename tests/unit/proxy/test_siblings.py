"""Which proxy of the cluster may go through the tunnels of another one, what it can ask for, and which have tunnels."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, cast

import pytest

from runtime.api.tunnel_messages import ProxyTunnels, Side, TunnelEntry
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import MemberClaims, MemberRole
from runtime.pki.keys import generate_key
from runtime.pki.signing import random_serial, sign_member
from runtime.pki.trust import Signer
from runtime.proxy.sibling_port import is_members, verify_sibling
from runtime.proxy.siblings import Siblings, parse_asked, write_asked
from runtime.tunnel.protocol import VERSION, Connect, Hello, Nodes, Visitor, write_request
from tests.unit.proxy.world import World

HOST_ID = "f84f7386-5e22-45ff-8f7d-b8079742e63f"
VISITOR = Visitor(certificate="ssh-ed25519-cert-v01@openssh.com AAAA", login="joe", address="192.0.2.7:4711")


@pytest.fixture
def world() -> World:
    """Return a cluster."""
    return World()


def member(
    world: World, role: MemberRole = MemberRole.PROXY, *, signer: Signer | None = None, age: timedelta = timedelta()
) -> bytes:
    """Return the certificate with which a member calls others."""
    signer, key = signer or world.hosts, generate_key()
    claims = MemberClaims(host_id=HOST_ID, role=role, cluster=signer.cluster, ttl=timedelta(hours=1))
    now = world.clock.now() - age
    return sign_member(claims, key.public, signer=signer, now=now, serial=random_serial()).line


def test_another_proxy_of_the_cluster(world: World) -> None:
    """It is known by the host authority, under its own login."""
    certificate = member(world)
    assert is_members(certificate, world.view)
    assert verify_sibling(f"proxy.{HOST_ID}", certificate, world.view, world.clock).host_id == HOST_ID


def test_who_is_none(world: World) -> None:
    """Other members, other clusters' proxies, an old certificate, another's login."""
    leaf = Signer(AuthorityType.HOST, "leaf", generate_key())
    forged = Signer(AuthorityType.HOST, "main", leaf.key)
    for certificate, login, why in (
        (member(world, MemberRole.NODE), f"node.{HOST_ID}", "a member of role node"),
        (member(world, MemberRole.AUTH), f"auth.{HOST_ID}", "a member of role auth"),
        (member(world, MemberRole.ADMIN), f"admin.{HOST_ID}", "a member of role admin"),
        (member(world, signer=leaf), f"proxy.{HOST_ID}", "is signed by a CA that is not trusted here"),
        (member(world, signer=forged), f"proxy.{HOST_ID}", "is signed by a CA that is not trusted here"),
        (member(world, age=timedelta(hours=2)), f"proxy.{HOST_ID}", "expired"),
        (member(world), f"proxy.{uuid.uuid4()}", "is not for the login"),
        (member(world), "root", "is not for the login"),
        (world.login().certificate, "root", "certificate"),
    ):
        with pytest.raises(AccessDenied, match=why):
            verify_sibling(login, certificate, world.view, world.clock)


def test_people_are_no_members(world: World) -> None:
    """Nor is a leaf's proxy: what no authority of ours has signed as a host is looked at as a person's, and refused."""
    assert not is_members(world.login().certificate, world.view)
    assert not is_members(member(world, signer=Signer(AuthorityType.HOST, "leaf", generate_key())), world.view)


@pytest.mark.parametrize(
    "request_",
    [
        Connect(host="db1", port=22, visitor=VISITOR),
        Nodes(
            method="GET", target="/webapi/nodes?cluster=a b", certificate=b"\0", signature=b"\1", time="", address=""
        ),
    ],
)
def test_what_is_written_is_read(request_: Connect | Nodes) -> None:
    """The cluster, and what one would ask it for."""
    assert parse_asked(write_asked("leaf", request_)) == ("leaf", request_)


@pytest.mark.parametrize(
    "subsystem",
    [
        None,
        "",
        "proxysites",
        "proxy:db1:22",
        "sibling",
        "sibling ",
        "sibling leaf",
        "sibling leaf sftp",
        "sibling leaf connect {",
        "sibling leaf " + "x" * 70_000,
        "sibling leaf " + write_request(Hello(version=VERSION, cluster="main", proxy="p")),
        "sibling leaf sibling other connect {}",
    ],
)
def test_what_is_nothing_that_a_proxy_asks(subsystem: str | None) -> None:
    """It is refused in words."""
    with pytest.raises(InvalidInput):
        parse_asked(subsystem)


def test_which_of_them_have_tunnels(world: World) -> None:
    """Those that told so, as the root's side, and are up; what this one told itself counts not."""
    own, other = uuid.uuid4(), uuid.uuid4()

    def told(proxy: uuid.UUID, cluster: str, side: Side = "root", *, online: bool = True) -> ProxyTunnels:
        return ProxyTunnels(proxy_id=proxy, tunnels=(TunnelEntry(cluster=cluster, side=side, online=online),))

    class Identity:
        id = own

    siblings = Siblings(lambda: cast("Any", Identity), cast("Any", None), world.clock)
    assert not siblings.has_way("leaf")
    siblings.learn(
        [told(own, "here"), told(other, "leaf"), told(other, "down", online=False), told(other, "up", "leaf")]
    )
    assert [name for name in ("here", "leaf", "down", "up") if siblings.has_way(name)] == ["leaf"]
    siblings.learn([])
    assert not siblings.has_way("leaf")
