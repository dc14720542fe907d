"""What the leaf's proxy takes from a root: nothing on its word, and by default nothing at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any, cast

import pytest

from runtime.api.member_messages import PresenceEntry
from runtime.api.proving import Unauthenticated
from runtime.api.signed import AUTHORIZATION_HEADER, CERTIFICATE_HEADER, SCHEME, TIME_HEADER, signed_headers
from runtime.api.trust_messages import RoleMapping, TrustedPeer
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.core.joining import JOIN_LOGIN
from runtime.core.resources.authority import AuthorityType
from runtime.pki.keys import generate_key
from runtime.pki.trust import Signer
from runtime.proxy.connecting import Connector
from runtime.proxy.dialling import Dialler
from runtime.proxy.signed import _base64
from runtime.proxy.targets import Targets
from runtime.proxy.visits import Visits
from runtime.service.trusting import Trusting
from runtime.transport.gateway import GatewayChannel
from runtime.transport.relay import Ended
from runtime.tunnel.leaf import Carrier
from runtime.tunnel.protocol import Connect, Nodes, Visitor
from tests.unit.proxy.world import World

CARRIER = Carrier("root", "0b9d3a3c-4b52-4b0f-9a0e-6f1f6f0f7c11", "proxy.root.example:3024")


class Channel:
    """Takes what would go to the visitor; whatever it is joined to ends at once."""

    def __init__(self) -> None:
        self.said = ""
        self.relayed = 0

    def write_error(self, text: str) -> None:
        """Keep a line."""
        self.said += text + "\n"

    async def relay(self, sock: socket.socket) -> Ended:
        """End at once."""
        self.relayed += 1
        sock.close()
        return Ended(by_far=False, error=None, sent=0, received=0)


class Leaf(World):
    """The cluster `main`, here a leaf of the cluster `root`, with a node db1 (env=dev) at a port that answers."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.root = Signer(AuthorityType.USER, "root", generate_key())
        self.peers: dict[str, TrustedPeer] = {}
        self.node = self.add_node("db1", f"127.0.0.1:{port}", env="dev")
        self.declare_role("env-dev", "root", env="dev")
        self.declare_role("env-prod", "root", env="prod")
        targets = Targets(self)
        dialler = Dialler((), loopback=True)
        self.visits = Visits(
            self.view, cast("Trusting", self), Connector(targets, dialler, "main", self.clock), self.clock
        )

    def peer(self, cluster: str) -> TrustedPeer | None:
        """Return whom is trusted, as `Trusting` does."""
        return self.peers.get(cluster)

    async def members(self, *, max_age: float = 0) -> tuple[PresenceEntry, ...]:
        """Return the nodes."""
        expires = self.clock.now() + timedelta(minutes=1)
        return tuple(PresenceEntry(presence=node, expires=expires) for node in self.nodes)

    def trust(self, *maps: tuple[str, Sequence[str]], logins: Sequence[str] = (), signer: Signer | None = None) -> None:
        """Trust the root, for this."""
        self.peers["root"] = TrustedPeer(
            cluster="root",
            tunnel_addr="proxy.root.example:3024",
            user_keys=((signer or self.root).key.public.line,),
            role_map=tuple(RoleMapping(remote=remote, local=tuple(local)) for remote, local in maps),
            allow_logins=tuple(logins),
        )

    async def visit(self, certificate: bytes, host: str = "db1", login: str = "root", port: int = 22) -> Channel:
        """Return what somebody with that certificate gets."""
        channel = Channel()
        visitor = Visitor(certificate=certificate.decode(), login=login, address="192.0.2.7:4711")
        request = Connect(host=host, port=port, visitor=visitor)
        status = await self.visits.connect(CARRIER, request, cast("GatewayChannel", channel))
        assert (status == 0) == bool(channel.relayed)
        return channel

    def certificate(self, *roles: str, signer: Signer | None = None, **claims: Any) -> bytes:
        """Return a certificate of joe."""
        return self.login("joe", signer=signer or self.root, roles=roles or ("dev",), **claims).certificate

    def asking(self, target: str = "/webapi/nodes?cluster=main", *, signed: str = "", **claims: Any) -> Nodes:
        """Return a request for nodes, signed for that target unless another is said."""
        login = self.login("joe", signer=claims.pop("signer", self.root), roles=("dev",), **claims)
        headers = signed_headers(
            "GET",
            signed or target,
            cluster="root",
            key=login.key,
            certificate=login.certificate.decode(),
            now=self.clock.now(),
        )
        return Nodes(
            method="GET",
            target=target,
            certificate=_base64("", headers[CERTIFICATE_HEADER]),
            signature=_base64("", headers[AUTHORIZATION_HEADER].removeprefix(f"{SCHEME} ")),
            time=headers[TIME_HEADER],
            address="192.0.2.7",
        )


@pytest.fixture
async def leaf() -> AsyncIterator[Leaf]:
    """Yield a leaf whose node's port takes connections."""

    def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    try:
        yield Leaf(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await server.wait_closed()


async def test_who_is_mapped_is_connected_and_audited(leaf: Leaf) -> None:
    """Both sides of the story: who it is here, who carried, and from where the root says that it came."""
    leaf.trust(("dev", ["env-dev"]))
    channel = await leaf.visit(leaf.certificate("dev"))
    assert channel.relayed == 1
    (event,) = leaf.audit.events
    assert event == {
        "event": "proxy.connect",
        "user": "joe@root",
        "login": "root",
        "node_id": str(leaf.node.id),
        "node": "db1",
        "addr.node": leaf.node.addr,
        "cluster": "root",
        "proxy": CARRIER.proxy,
        "addr.remote": "proxy.root.example:3024",
        "addr.client": "192.0.2.7:4711",
    }


async def test_by_default_there_is_nothing(leaf: Leaf) -> None:
    """Without a mapping nobody of the root gets anywhere, whatever roles and logins the certificate has."""
    leaf.trust()
    channel = await leaf.visit(leaf.certificate("dev", "env-dev", "admin"))
    assert "nothing here is for joe@root" in channel.said
    (event,) = leaf.audit.events
    assert (event["event"], event["user"], event["cluster"]) == ("proxy.rejected", "joe@root", "root")


async def test_roles_of_the_same_name_are_not_the_same(leaf: Leaf) -> None:
    """A role of the root called as one here gives nothing: the mapping alone counts."""
    leaf.trust(("dev", ["env-prod"]))
    channel = await leaf.visit(leaf.certificate("dev", "env-dev"))
    assert "there is no node 'db1' that you may reach" in channel.said


async def test_a_root_that_is_not_trusted_any_more(leaf: Leaf) -> None:
    """A tunnel that is still there carries nobody once its cluster is gone, or is no root of ours."""
    certificate = leaf.certificate()
    leaf.trust(logins=["root"])
    assert (await leaf.visit(certificate)).relayed
    leaf.peers["root"] = leaf.peers["root"].model_copy(update={"tunnel_addr": ""})
    assert "cluster root is not trusted here any more" in (await leaf.visit(certificate)).said
    leaf.peers.clear()
    assert "cluster root is not trusted here any more" in (await leaf.visit(certificate)).said
    with pytest.raises(AccessDenied, match="cluster root is not trusted here any more"):
        await leaf.visits.nodes(CARRIER, leaf.asking())


async def test_certificates_that_a_root_cannot_vouch_for(leaf: Leaf) -> None:
    """Our own people's, another cluster's, a stranger's, an old one, one for a command: refused, whoever brings it.

    The root may have stolen one of ours: it opens nothing through a tunnel.
    """
    leaf.trust(logins=["root"])
    bank = Signer(AuthorityType.USER, "bank", generate_key())
    impostor = Signer(AuthorityType.USER, "root", generate_key())
    within = Signer(AuthorityType.USER, "main", leaf.root.key)
    hosts = Signer(AuthorityType.USER, "root", leaf.hosts.key)
    untrusted = "is signed by a CA that is not trusted here"
    for signer, why in (
        (leaf.users, untrusted),
        (bank, untrusted),
        (impostor, untrusted),
        (hosts, untrusted),
        (within, "cannot speak for cluster 'main'"),
    ):
        channel = await leaf.visit(leaf.certificate(signer=signer))
        assert why in channel.said
    assert "expired" in (await leaf.visit(leaf.certificate(age=timedelta(hours=2)))).said
    assert "for one command" in (await leaf.visit(leaf.certificate(force_command="true"))).said
    assert "is not for 'admin'" in (await leaf.visit(leaf.certificate(), login="admin")).said
    assert "is not for 'join:teleport.internal'" in (await leaf.visit(leaf.certificate(), login=JOIN_LOGIN)).said
    assert "teleport: " in (await leaf.visit(b"no certificate")).said
    assert {event["event"] for event in leaf.audit.events} == {"proxy.rejected"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "::1", "10.0.0.1", " ", "a\nb", "*"])
async def test_what_is_no_registered_node_is_not_dialled(leaf: Leaf, host: str) -> None:
    """Addresses, also of machines that answer, and anything that is no name of a node, lead nowhere."""
    leaf.trust(logins=["root"])
    leaf.nodes[0] = leaf.node.model_copy(update={"addr": "203.0.113.9:3022"})
    port = int(leaf.node.addr.rpartition(":")[2])
    assert not (await leaf.visit(leaf.certificate(), host=host, port=port)).relayed


async def test_a_node_at_an_address_that_nobody_is_connected_to(leaf: Leaf) -> None:
    """A registered node that says it is at the cloud's metadata is not dialled for visitors either."""
    leaf.trust(logins=["root"])
    leaf.nodes[0] = leaf.node.model_copy(update={"addr": "169.254.169.254:80"})
    channel = await leaf.visit(leaf.certificate())
    assert "is a link-local address or one of cloud metadata" in channel.said


async def test_the_list_shows_what_the_mapping_allows(leaf: Leaf) -> None:
    """Nodes that somebody may not be on are in no list; filters work as they do at home."""
    leaf.add_node("web1", env="prod")
    leaf.trust(("dev", ["env-dev"]))
    assert b'"db1"' in (await leaf.visits.nodes(CARRIER, leaf.asking()))
    assert b'"web1"' not in (await leaf.visits.nodes(CARRIER, leaf.asking()))
    leaf.trust(("dev", ["env-dev", "env-prod"]))
    both = await leaf.visits.nodes(CARRIER, leaf.asking())
    assert both.index(b'"db1"') < both.index(b'"web1"')
    filtered = await leaf.visits.nodes(CARRIER, leaf.asking("/webapi/nodes?cluster=main&label=env=prod"))
    assert b'"db1"' not in filtered
    assert b'"web1"' in filtered
    leaf.trust()
    with pytest.raises(AccessDenied, match="nothing here is for joe@root"):
        await leaf.visits.nodes(CARRIER, leaf.asking())


@pytest.mark.parametrize(
    "target",
    [
        "/webapi/nodes",
        "/webapi/nodes?cluster=bank",
        "/webapi/nodes?cluster=bank&cluster=main",
        "/webapi/sessions?cluster=main",
        "/webapi/nodes/x?cluster=main",
    ],
)
async def test_a_signature_for_something_else_is_worth_nothing(leaf: Leaf, target: str) -> None:
    """What somebody has signed for another leaf, or another question, a root cannot bring here."""
    leaf.trust(logins=["root"])
    with pytest.raises(AccessDenied, match="has signed another request than one for nodes of this cluster"):
        await leaf.visits.nodes(CARRIER, leaf.asking(target))


async def test_a_list_needs_the_persons_own_signature(leaf: Leaf) -> None:
    """A changed question, an old signature, another's authority: the root's word does not make up for it."""
    leaf.trust(logins=["root"])
    with pytest.raises(Unauthenticated):
        await leaf.visits.nodes(CARRIER, leaf.asking(signed="/webapi/nodes?cluster=bank"))
    with pytest.raises(Unauthenticated, match="is signed by a CA that is not trusted here"):
        await leaf.visits.nodes(CARRIER, leaf.asking(signer=leaf.users))
    old = leaf.asking()
    leaf.clock.advance(timedelta(minutes=2))
    with pytest.raises(Unauthenticated, match="the proxy of cluster main's clock"):
        await leaf.visits.nodes(CARRIER, old)


async def test_filters_that_are_none(leaf: Leaf) -> None:
    """They are refused as at home."""
    leaf.trust(logins=["root"])
    with pytest.raises(InvalidInput, match="is not of the form NAME=VALUE"):
        await leaf.visits.nodes(CARRIER, leaf.asking("/webapi/nodes?cluster=main&label=x"))


async def test_a_proxy_that_stops_takes_nobody_more(leaf: Leaf) -> None:
    """Who comes hears it; the root tries another proxy of ours next time."""
    leaf.trust(logins=["root"])
    leaf.visits.stopping()
    assert "this proxy of the leaf is stopping" in (await leaf.visit(leaf.certificate())).said
    await leaf.visits.wait_gone(1)
