"""Reverse tunnels, both ends in this process: they come up, carry, are lost and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from runtime.core.errors import NotFound, Unavailable
from runtime.transport.gateway import GatewayChannel, GatewaySession
from runtime.transport.server import Handler
from runtime.tunnel import protocol
from runtime.tunnel.limits import KEEPALIVE_COUNT, KEEPALIVE_SECONDS, TRANSPORT_LIMITS
from tests.servers.sshport import pattern, visited
from tests.servers.tunnels import VISITOR, Hosts, LeafProxy, RootProxy, running, until, wire

SOON = replace(TRANSPORT_LIMITS, keepalive_interval=0.25)
"""Keepalive at forty times its pace."""
NODES = protocol.Nodes(
    method="GET", target="/webapi/nodes", certificate=b"", signature=b"", time="", address="192.0.2.7"
)


def request(host: str) -> protocol.Connect:
    """Return the wish of a visitor for a node."""
    return protocol.Connect(host=host, port=22, visitor=VISITOR)


async def ask(root: RootProxy, target: str = "/some", cluster: str = "leaf") -> bytes:
    """Return the answer of a leaf to a request for nodes."""
    return await root.registry.ask(cluster, NODES.model_copy(update={"target": target}))


@asynccontextmanager
async def people_port(root: RootProxy) -> AsyncIterator[Any]:
    """Yield what connects to a port like 3023, behind which everybody is carried to the node `echo` of the leaf."""

    async def serve(name: str | None, channel: GatewayChannel) -> int:
        tunnel, far = await root.registry.open("leaf", request(name or ""), channel.far_channel)
        try:
            await channel.join(far)
        finally:
            root.registry.left(tunnel)
        for line in far.said.splitlines():
            channel.write_error(line)
        return 255 if far.status is None else far.status

    class _Handler(Handler):
        def session_requested(self) -> GatewaySession:
            return GatewaySession(serve)

    async with visited(lambda proved, connection: _Handler()) as connection:
        yield connection


async def test_a_leaf_comes_by_itself() -> None:
    """A leaf dials, both sides know one another by certificate, and both have something to tell of it."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        await until(lambda: leaf.online == [root.member.id], "the leaf knows")
        (status,) = root.registry.status()
        assert (status.cluster, status.peer, status.online) == ("leaf", leaf.member.id, True)
        assert status.since is not None
        assert status.last_heartbeat is not None
        assert status.last_heartbeat >= status.since
        assert [(event.cluster, event.peer, event.up) for event in root.events] == [("leaf", leaf.member.id, True)]
        assert [(event.cluster, event.peer, event.up) for event in leaf.events] == [("main", root.member.id, True)]
        await leaf.agent.stop()
        await until(lambda: not root.registry.is_online("leaf"), "the root knows that it is gone")
        assert root.registry.last_connected("leaf") is not None
        assert [event.up for event in root.events] == [True, False]


async def test_questions_and_refusals_cross() -> None:
    """What the leaf answers comes as it is; its refusal comes as the same kind of error, in its words."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        assert await ask(root) == b'[{"asked": "/some"}]'
        with pytest.raises(NotFound, match="there is nothing for you") as caught:
            await ask(root, "/none")
        assert caught.value.hint == "Ask somebody else."
        with pytest.raises(Unavailable, match="cluster elsewhere is offline"):
            await ask(root, cluster="elsewhere")


@pytest.mark.parametrize("size", [1, 3 * 1024 * 1024])  # the second is more than a channel's window
async def test_bytes_cross_unchanged(size: int) -> None:
    """What goes in at the root's port comes out at the node, and back, in order, to the last byte."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    sent = pattern(size)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        async with people_port(root) as connection, asyncio.timeout(60):
            writer, reader, _ = await connection.open_session(subsystem="echo", encoding=None)
            writer.write(sent)
            writer.write_eof()
            assert await reader.read() == sent
            await writer.channel.wait_closed()
            assert writer.channel.get_exit_status() == 0
        ((carrier, asked),) = leaf.visitors
        assert (carrier.cluster, carrier.proxy, carrier.address) == ("main", root.member.id, root.address)
        assert (asked.host, asked.visitor) == ("echo", VISITOR)
        await until(lambda: root.registry.tunnels("leaf")[0].channels == 0, "nobody is on it any more")


async def test_who_is_not_let_in_hears_why() -> None:
    """What the leaf says on standard error reaches the root, with the exit status."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        async with people_port(root) as connection, asyncio.timeout(60):
            process = await connection.create_process(subsystem="gone", encoding=None)
            out, err = await process.communicate()
            assert (out, err) == (b"", b"teleport: there is no node 'gone'\r\n")
            assert process.exit_status == 1


async def test_who_hangs_up_leaves_nothing_behind() -> None:
    """A person who is gone frees the channel in the tunnel, and what the leaf has open for it."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        async with people_port(root) as connection, asyncio.timeout(60):
            writer, reader, _ = await connection.open_session(subsystem="echo", encoding=None)
            writer.write(b"here")
            assert await reader.readexactly(4) == b"here"
            (tunnel,) = root.registry.tunnels("leaf")
            assert tunnel.channels == 1
            connection.abort()
            await until(lambda: tunnel.channels == 0, "the channel is free")
            await until(lambda: not tunnel.connection._channels, "it is closed")


# --- several proxies --------------------------------------------------------------------------------------------------


async def test_a_leaf_finds_all_proxies_of_its_root() -> None:
    """Over the first tunnel the root tells where its other proxies are; one that comes later is dialled too."""
    main, far = Hosts("main"), Hosts("leaf")
    roots = [RootProxy(main, far) for _ in range(3)]
    leaf = LeafProxy(far)
    async with running(*roots, leaf):
        roots[0].proxies = [root.place() for root in roots[:2]]
        leaf.keep((main, roots[0].address))
        for root in roots[:2]:
            await root.online("leaf")
        assert not roots[2].registry.is_online("leaf")
        roots[0].proxies = [root.place() for root in roots]
        roots[0].registry.refresh()
        await roots[2].online("leaf")
        await until(lambda: sorted(leaf.online) == sorted(root.member.id for root in roots), "the leaf knows")
        # One that is told of no more is left.
        roots[0].proxies = [roots[0].place()]
        roots[0].registry.refresh()
        await until(lambda: leaf.online == [roots[0].member.id], "the others are left")


async def test_two_ways_to_one_proxy_are_one_tunnel() -> None:
    """A proxy that has a tunnel is not dialled again by its other address, which is used once that one is lost."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf), wire(root.port) as balancer:
        root.proxies = [root.place()]
        leaf.keep((main, f"127.0.0.1:{balancer.port}"))
        await root.online("leaf")
        await until(lambda: leaf.online == [root.member.id], "the leaf knows")
        await until(lambda: len(leaf.agent._keepers) == 2, "it knows the other way")
        assert leaf.dials == [f"127.0.0.1:{balancer.port}"]
        balancer.refuses = True
        balancer.reset()
        await until(
            lambda: [each.addr for each in leaf.agent.status() if each.online] == [root.address],
            "the other way is used",
        )
        await root.online("leaf")


async def test_all_proxies_behind_one_address() -> None:
    """Where a balancer leads to one or another, it is dialled until there is a tunnel to each, and then no more."""
    main, far = Hosts("main"), Hosts("leaf")
    roots = [RootProxy(main, far) for _ in range(3)]
    leaf = LeafProxy(far)
    async with running(*roots, leaf), wire(0) as balancer:
        balancer.targets = [root.port for root in roots]
        address = f"127.0.0.1:{balancer.port}"
        for root in roots:
            root.proxies = [each.place(address) for each in roots]
        leaf.keep((main, address))
        for root in roots:
            await root.online("leaf")
        await until(lambda: sorted(leaf.online) == sorted(root.member.id for root in roots), "the leaf knows")
        assert not leaf.errors
        assert set(leaf.dials) == {address}
        await until(lambda: all(len(root.registry._tunnels) == 1 for root in roots), "no second one is left")
        # One that was not wanted takes nobody's place: each came up once, and none has gone.
        assert [event.up for root in roots for event in root.events] == [True, True, True]
        assert [event.up for event in leaf.events] == [True, True, True]


async def test_a_second_way_to_the_same_proxy_takes_nobodys_place() -> None:
    """A balancer that leads to the same proxy again: that tunnel is declined, the first one stays as it is."""
    main, far = Hosts("main"), Hosts("leaf")
    first, second = RootProxy(main, far), RootProxy(main, far)
    leaf = LeafProxy(far)
    async with running(first, second, leaf), wire(0) as balancer:
        balancer.targets = [second.port, first.port, first.port]  # it begins with the one in the middle
        address = f"127.0.0.1:{balancer.port}"
        for root in (first, second):
            root.proxies = [first.place(address), second.place(address)]
        leaf.keep((main, address))
        await first.online("leaf")
        (tunnel,) = first.registry.tunnels("leaf")
        await second.online("leaf")
        assert balancer.taken == 3
        await until(lambda: list(first.registry._tunnels.values()) == [tunnel], "the second one is gone")
        assert not tunnel.draining
        assert [event.up for event in first.events] == [True]


async def test_several_proxies_of_a_leaf_share_the_work() -> None:
    """Each has a tunnel of its own; who comes takes the one with fewest people on it, or the one that is left."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaves = RootProxy(main, far), [LeafProxy(far), LeafProxy(far)]
    async with running(root, *leaves):
        for leaf in leaves:
            leaf.keep((main, root.address))
        await root.online("leaf", 2)
        async with people_port(root) as connection, asyncio.timeout(60):
            for _ in range(4):
                writer, reader, _ = await connection.open_session(subsystem="echo", encoding=None)
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
            assert [len(leaf.visitors) for leaf in leaves] == [2, 2]
        await leaves[0].agent.stop()
        await root.online("leaf", 1)
        assert await ask(root) == b'[{"asked": "/some"}]'


# --- lost, and back ---------------------------------------------------------------------------------------------------


def test_a_dead_tunnel_is_noticed_within_45_seconds() -> None:
    """Keepalive's own numbers: the last answer, as many questions as there are, and the time of one more."""
    assert KEEPALIVE_SECONDS * (KEEPALIVE_COUNT + 1) <= 45


async def test_a_network_that_drops_everything() -> None:
    """Both ends notice without a word from the network, by keepalive; once it is whole again the tunnel is back."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far, limits=SOON), LeafProxy(far, limits=SOON)
    async with running(root, leaf), wire(root.port) as network:
        leaf.keep((main, f"127.0.0.1:{network.port}"))
        await root.online("leaf")
        network.sever()
        await until(lambda: not root.registry.is_online("leaf"), "the root notices")
        await until(lambda: not leaf.online, "the leaf notices")
        network.heal()
        await root.online("leaf")
        await until(lambda: leaf.online == [root.member.id], "the leaf has it back")


async def test_a_root_that_restarts() -> None:
    """While the root's proxy is away the leaf says why there is no tunnel; when it is back, so is the tunnel."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        await root.registry.stop()
        await until(lambda: "Connect call failed" in leaf.errors, "the leaf says why")
        await root.start()
        await root.online("leaf")
        await until(lambda: not leaf.errors, "all is well")


async def test_certificates_are_renewed_without_cutting_anybody_off() -> None:
    """A new tunnel is up before the old one goes, which goes when the last person on it has gone."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        (old,) = root.registry.tunnels("leaf")
        async with people_port(root) as connection, asyncio.timeout(60):
            writer, reader, _ = await connection.open_session(subsystem="echo", encoding=None)
            writer.write(b"before")
            assert await reader.readexactly(6) == b"before"
            leaf.agent.renewed()
            await until(lambda: root.registry.tunnels("leaf") not in ([], [old]), "there is another one")
            writer.write(b"after")
            assert await reader.readexactly(5) == b"after"
            assert old.draining
            writer.write_eof()
            assert await reader.read() == b""
            await until(lambda: old.connection not in root.registry._tunnels, "the old one goes")
        assert len(root.registry.tunnels("leaf")) == 1
        assert [event.up for event in root.events] == [True, True]


# --- changed while it runs --------------------------------------------------------------------------------------------


async def test_a_leaf_that_is_not_trusted_any_more() -> None:
    """Its tunnels end at once, and it hears why when it comes again; trusted anew, it is back by itself."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        root.trusted.clear()
        root.registry.refresh()
        await until(lambda: not root.registry.is_online("leaf"), "it is gone")
        await until(lambda: "no cluster that may open a tunnel here" in root.errors, "it is refused")
        await until(lambda: "does not believe us" in leaf.errors, "it hears that")
        root.trusted["leaf"] = far.key
        await root.online("leaf")


async def test_a_root_that_is_given_up_and_taken_back() -> None:
    """Disabled, there is no tunnel and nobody dials; enabled, there is; the same again leaves it as it is."""
    main, far = Hosts("main"), Hosts("leaf")
    root, leaf = RootProxy(main, far), LeafProxy(far)
    async with running(root, leaf):
        leaf.keep((main, root.address))
        await root.online("leaf")
        (tunnel,) = root.registry.tunnels("leaf")
        leaf.keep((main, root.address))
        assert await ask(root)
        assert root.registry.tunnels("leaf") == [tunnel]
        leaf.keep()
        await until(lambda: not root.registry.is_online("leaf"), "it is gone")
        assert not list(leaf.agent.status())
        dialled = len(leaf.dials)
        leaf.keep((main, root.address))
        await root.online("leaf")
        assert len(leaf.dials) == dialled + 1
