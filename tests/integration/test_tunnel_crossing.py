"""What a person of the root sees of a leaf that says anything it likes: words, lists of nodes, and bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import asyncssh
import pytest

from runtime.api.people_messages import SignedRequest
from runtime.api.trust_messages import TrustedPeer
from runtime.audit.events import EventType
from runtime.core.errors import AccessDenied, InvalidInput, NotFound, Unavailable
from runtime.proxy.crossing import Crossing
from runtime.proxy.routing import Wish
from runtime.service.trusting import Trusting
from runtime.transport.capture import Proved
from runtime.transport.gateway import GatewayChannel, GatewaySession
from runtime.transport.server import Handler
from runtime.tunnel import protocol
from runtime.tunnel.leaf import Carrier
from tests.servers.sshport import pattern, visited
from tests.servers.tunnels import Hosts, LeafProxy, RootProxy, running, until

SIGNED = SignedRequest(method="GET", target="/webapi/nodes?cluster=leaf", certificate=b"c", signature=b"s", time="t")
NODE = (
    '{"id": "0b9d3a3c-4b52-4b0f-9a0e-6f1f6f0f7c11", "kind": "node", "name": "db1", "addr": "10.0.0.1:3022",'
    ' "labels": {"env": "dev"}, "version": "1.0", "secret": "x"}'
)
Serve = Callable[[GatewayChannel], Awaitable[int]]


class Clusters:
    """Whom the root trusts, as `Trusting` tells it; and its audit log."""

    def __init__(self) -> None:
        self.peers = {"leaf": TrustedPeer(cluster="leaf"), "over": TrustedPeer(cluster="over", tunnel_addr="o:3024")}
        self.events: list[dict[str, Any]] = []

    def peer(self, cluster: str) -> TrustedPeer | None:
        """Return one of them."""
        return self.peers.get(cluster)

    def emit(self, event: EventType, **fields: Any) -> None:
        """Keep an event."""
        self.events.append({"event": str(event), **fields})


@dataclass
class World:
    """A root with a port for people, and a leaf that does with them as a test says."""

    leaf: LeafProxy
    clusters: Clusters
    crossing: Crossing
    connection: asyncssh.SSHClientConnection

    def serves(self, serve: Serve) -> None:
        """Have the leaf do that with whoever comes."""

        async def connect(_: Carrier, request: protocol.Connect, channel: GatewayChannel) -> int:
            return await serve(channel)

        self.leaf.agent.serve_connect = connect

    def answers(self, answer: bytes) -> None:
        """Have the leaf say that it has these nodes."""

        async def nodes(_: Carrier, request: protocol.Nodes) -> bytes:
            return answer

        self.leaf.agent.serve_nodes = nodes

    async def visit(self) -> tuple[bytes, bytes, int | None]:
        """Return what somebody gets to see of the leaf, and the exit status."""
        async with asyncio.timeout(60):
            process = await self.connection.create_process(subsystem="db1", encoding=None)
            out, err = await process.communicate()
        assert isinstance(out, bytes)
        assert isinstance(err, bytes)
        return out, err, process.exit_status


@asynccontextmanager
async def people(crossing: Crossing) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Yield somebody's connection to a port like 3023, whose subsystems are nodes of the leaf."""

    def made(proved: Proved[str], _: object) -> Handler:
        async def serve(name: str | None, channel: GatewayChannel) -> int:
            identity = cast("Any", type("Joe", (), {"user": "joe"}))
            somebody = Proved(proved.login, proved.certificate, proved.parsed, identity, proved.peer, proved.local)
            return await crossing.carry("leaf", Wish(name or "", 22), somebody, channel)

        class _Handler(Handler):
            def session_requested(self) -> GatewaySession:
                return GatewaySession(serve)

        return _Handler()

    async with visited(made) as connection:
        yield connection


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield them, connected."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf, clusters = RootProxy(main, far), LeafProxy(far), Clusters()
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        crossing = Crossing(root.registry, cast("Trusting", clusters), cast("Any", clusters))
        async with people(crossing) as connection:
            yield World(leaf, clusters, crossing, connection)


async def test_words_of_a_leaf_are_words(world: World) -> None:
    """What a leaf says reaches the terminal as lines of printable characters, few of them; and the audit log."""

    async def refuse(channel: GatewayChannel) -> int:
        channel.write_error("teleport: no\x1b]0;owned\x07 entry")
        for number in range(100):
            channel.write_error(f"line {number}\x1b[2J")
        return 1

    world.serves(refuse)
    out, err, status = await world.visit()
    assert (out, status) == (b"", 1)
    assert b"\x1b" not in err
    assert err.startswith(b"teleport: no\\x1b]0;owned\\x07 entry\r\nteleport: line 0\\x1b[2J\r\n")
    assert err.count(b"\n") == 16
    (event,) = world.clusters.events
    assert (event["event"], event["user"], event["cluster"], event["node"]) == ("proxy.rejected", "joe", "leaf", "db1")
    assert event["error"].startswith("no\\x1b]0;owned")
    assert len(event["error"]) <= 1024


async def test_more_words_than_anybody_reads(world: World) -> None:
    """Beyond a few KiB they are dropped: a leaf fills no memory of ours with them."""

    async def babble(channel: GatewayChannel) -> int:
        for _ in range(200):
            channel.write_error("x" * 10_000)
        return 1

    world.serves(babble)
    _, err, _ = await world.visit()
    assert len(err) < 5000


async def test_a_tunnel_that_breaks_under_somebody(world: World) -> None:
    """The person hears that, and ssh's status is one of failure; who comes next hears since when it is offline."""
    there = asyncio.Event()

    async def stay(channel: GatewayChannel) -> int:
        channel.write(b"SSH-2.0-x\r\n")
        there.set()
        await asyncio.Event().wait()
        return 0

    world.serves(stay)
    visiting = asyncio.create_task(world.visit())
    await there.wait()
    await world.leaf.agent.stop()
    out, err, status = await visiting
    assert (out, status) == (b"SSH-2.0-x\r\n", 1)
    assert err.startswith(b"teleport: the tunnel to cluster leaf broke")
    await until(lambda: not world.crossing.is_online("leaf"), "it is gone")
    with pytest.raises(Unavailable, match=r"cluster leaf is offline.*; it was last here at"):
        await world.crossing.nodes("leaf", SIGNED, "192.0.2.7")


async def test_who_was_carried_is_audited_once_there_is_something(world: World) -> None:
    """`proxy.connect` is for whoever gets to a node, whose bytes pass as they are, control characters too."""
    sent = b"SSH-2.0-x\r\n\x1b[2J" + pattern(100_000)

    async def node(channel: GatewayChannel) -> int:
        channel.write(sent)
        return 0

    world.serves(node)
    assert await world.visit() == (sent, b"", 0)
    (event,) = world.clusters.events
    assert (event["event"], event["user"], event["cluster"]) == ("proxy.connect", "joe", "leaf")


async def test_nodes_of_a_leaf_are_nodes(world: World) -> None:
    """Only the fields that there are pass on, each of its kind."""
    world.answers(f"[{NODE}]".encode())
    found = await world.crossing.nodes("leaf", SIGNED, "192.0.2.7")
    assert b'"name":"db1"' in found
    assert b"secret" not in found


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"7",
        b'"x"',
        b"[7]",
        b'[{"name": "db1"}]',
        f"[{NODE}]".replace("10.0.0.1", "x" * 2000).encode(),
        b"[" * 5000,
    ],
)
async def test_a_list_that_is_none(world: World, answer: bytes) -> None:
    """It is refused as the leaf's mistake; nobody is shown any of it."""
    world.answers(answer)
    with pytest.raises(
        (Unavailable, InvalidInput), match=r"cluster leaf( answers something that is no list of nodes|: )"
    ):
        await world.crossing.nodes("leaf", SIGNED, "192.0.2.7")


async def test_what_the_leaf_refuses_with_names_it(world: World) -> None:
    """The person reads which cluster it was that said no."""

    async def nodes(_: Carrier, request: protocol.Nodes) -> bytes:
        raise AccessDenied("nothing here is for joe@main", hint="Ask there.")

    world.leaf.agent.serve_nodes = nodes
    with pytest.raises(AccessDenied, match="cluster leaf: nothing here is for joe@main") as caught:
        await world.crossing.nodes("leaf", SIGNED, "192.0.2.7")
    assert caught.value.hint == "Ask there."


async def test_clusters_that_are_no_leaves(world: World) -> None:
    """Our own root, and whoever is not trusted, are not behind this proxy."""
    assert world.crossing.names() == ["leaf"]
    for cluster in ("over", "nowhere"):
        with pytest.raises(NotFound, match="behind this proxy"):
            await world.crossing.nodes(cluster, SIGNED, "192.0.2.7")
