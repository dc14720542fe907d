"""A root's proxy to which the leaf has no tunnel goes through another one that has: real processes, plain ssh, tsh."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.errors import AccessDenied
from runtime.pki.claims import MemberRole, service_principal
from runtime.pki.verify import verify_host
from runtime.proxy.siblings import write_asked
from runtime.service.identity import DataDir, StoredIdentity
from runtime.transport.client import ClientConnection, connect
from runtime.tunnel.protocol import Connect, Nodes, Visitor
from tests.integration.test_tunnel_process import Pair, believing, events, own_id
from tests.servers import linked
from tests.servers.linked import TOKEN, peer, trust
from tests.servers.people import Person, certify, declare, role, user
from tests.servers.sshclient import wait_until
from tests.servers.sshd import LOGIN
from tests.servers.teleport import Teleport, run


@dataclass
class World:
    """A root with two proxies, of which the leaf reaches the first only, and the leaf."""

    pair: Pair
    second: Teleport

    def identity(self, teleport: Teleport, role: CallerKind) -> StoredIdentity:
        """Return what a member of a process is."""
        return DataDir(teleport.data_dir).identity(role)

    async def log_in(self, identity: StoredIdentity, login: str = "") -> ClientConnection:
        """Log in to the first proxy's SSH port with a member's certificate."""

        def verify(name: str, line: bytes) -> None:
            verify_host(line, name, identity.trust, SystemClock().now(), cluster="main")

        return await connect(
            "127.0.0.1",
            self.pair.root.ssh_port,
            name=service_principal(MemberRole.PROXY),
            login=login or identity.login,
            key=identity.key.get_secret_value().encode(),
            certificate=identity.member_certificate.encode(),
            verify_host=verify,
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Run them; joe of the root may be on the leaf's node db1."""
    folder = tmp_path_factory.mktemp("siblings")
    root, leaf = linked.cluster(folder / "root", "main"), linked.cluster(folder / "leaf", "leaf")
    leaf.configure({"teleport": {"nodename": "db1"}})
    theirs = linked.authorities(leaf, "leaf")
    trust(root, peer(theirs))
    with root.start(), leaf.start():
        nowhere = {"proxy_service": {"tunnel_public_addr": "127.0.0.1:1"}}
        second = Teleport(folder / "second", ("proxy",), auth_servers=[root.auth_address], token=TOKEN, config=nowhere)
        with second.start():
            dev = role("dev", allow={"logins": [LOGIN], "nodeLabels": {"*": ["*"]}})
            declare(root, user("joe", [LOGIN]), dev)
            pair = Pair(root, leaf, folder, believing(certify(root, "joe", [LOGIN], roles=["dev"]), theirs))
            pair.let_in(allow_logins=[LOGIN])
            pair.online()
            pair.online(second)
            yield World(pair, second)


def test_ssh_goes_through_the_one_that_has_a_tunnel(world: World) -> None:
    """A command runs on the leaf's node; both proxies log who it was, and each the other; SSH is end to end."""
    pair = world.pair
    assert not [line for line in world.second.output().splitlines() if "tunnel of leaf" in line]
    done = pair.ssh("db1", "cat; exit 3", proxy=world.second)
    assert done.returncode == 3, done.stderr
    first, second = own_id(pair.root), own_id(world.second)
    wait_until(lambda: events(pair.root, "proxy.connect", through=first))
    wait_until(lambda: events(pair.root, "proxy.connect", proxy=second))
    wait_until(lambda: events(pair.leaf, "proxy.connect", cluster="main"))
    (near,) = events(pair.root, "proxy.connect", through=first)
    (far,) = events(pair.root, "proxy.connect", proxy=second)
    at_leaf = events(pair.leaf, "proxy.connect", cluster="main")[-1]
    for event in (near, far):
        assert (event["user"], event["login"], event["cluster"], event["node"]) == ("joe", LOGIN, "leaf", "db1")
    assert (near["server_id"], far["server_id"]) == (second, first)
    # From where joe came is told on: by the second proxy, and by the first to the leaf.
    assert near["addr.remote"] == far["addr.client"] == at_leaf["addr.client"]
    assert (at_leaf["user"], at_leaf["proxy"]) == ("joe@main", first)


def test_lists_and_clusters_too(world: World, tmp_path: Path) -> None:
    """Tsh at the second proxy sees the leaf online, and its nodes."""
    world.pair.joe.log_in(tmp_path, world.second)

    def tsh(*arguments: str) -> Any:
        done = run("tsh", *arguments, "--format=json", env={"TELEPORT_HOME": str(tmp_path), "SSH_AUTH_SOCK": ""})
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert [(each["name"], each["status"]) for each in tsh("clusters")] == [("leaf", "online"), ("main", "online")]
    assert [node["name"] for node in tsh("--cluster=leaf", "ls")] == ["db1"]


def test_what_the_leaf_refuses_is_told(world: World) -> None:
    """Its own words arrive at the person, by way of both proxies; the leaf's mapping decides as ever."""
    done = world.pair.ssh("nowhere", "true", proxy=world.second)
    assert done.returncode == 255
    assert done.stderr.count("teleport: there is no node 'nowhere' that you may reach") == 1, done.stderr


async def ask(connection: ClientConnection, subsystem: str) -> tuple[bytes, str]:
    """Return what a subsystem says, and what beside it."""
    process = await connection.create_process(subsystem=subsystem, encoding=None)
    out, err = await process.communicate()
    assert isinstance(out, bytes)
    assert isinstance(err, bytes)
    return out, err.decode()


def wish(certificate: bytes, login: str = LOGIN) -> str:
    """Return what a proxy asks for on behalf of somebody."""
    visitor = Visitor(certificate=certificate.decode(), login=login, address="192.0.2.7:4711")
    return write_asked("leaf", Connect(host="db1", port=22, visitor=visitor))


async def test_what_a_proxy_may_do_there(world: World) -> None:
    """Go into leaves for people whom the cluster would let in, and nothing else: it is no person."""
    second = world.identity(world.second, CallerKind.PROXY)
    stranger = certify(world.pair.leaf, "joe", [LOGIN])
    gone = certify(world.pair.root, "nobody", [LOGIN])
    async with await world.log_in(second) as connection:
        for subsystem in (
            "proxysites",
            "proxy:db1:22@leaf",
            "sibling ",
            "sibling leaf hello {}",
            "sibling leaf nodes {",
        ):
            _, said = await ask(connection, subsystem)
            assert said.startswith("teleport: "), (subsystem, said)
        for person, login, why in (
            (stranger, LOGIN, "is signed by a CA that is not trusted here"),
            (gone, LOGIN, "nobody"),
            (world.pair.joe, "other", "not for 'other'"),
        ):
            _, said = await ask(connection, wish(person.certificate, login))
            assert why in said, said
        unsigned = Nodes(method="GET", target="/", certificate=b"x", signature=b"x", time="", address="")
        out, _ = await ask(connection, write_asked("leaf", unsigned))
        assert b'"error"' in out
        _, said = await ask(connection, wish(world.pair.joe.certificate).replace("sibling leaf", "sibling other"))
        assert "there is no cluster 'other' behind this proxy" in said
        for opening in (
            connection.open_connection("127.0.0.1", world.pair.root.node_port),
            connection.open_unix_connection("/run/x.sock"),
        ):
            with pytest.raises((asyncssh.ChannelOpenError, OSError)):
                await opening


def _subsystem(pair: Pair, person: Person, name: str) -> str:
    options = person.ssh_options(pair.folder / "ssh")
    return subprocess.run(
        ["ssh", *options, "-p", str(pair.root.ssh_port), f"{LOGIN}@127.0.0.1", "-s", name],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stderr


def test_a_person_is_no_proxy(world: World) -> None:
    """What one proxy asks of another is no subsystem for people."""
    said = _subsystem(world.pair, world.pair.joe, "sibling leaf nodes {}")
    assert "a proxy has no subsystem" in said


def test_without_any_tunnel_it_is_offline(world: World) -> None:
    """The second proxy hears that the first has none any more: nothing goes round in a circle, and all says so."""
    pair = world.pair
    pair.let_in(enabled=False)
    wait_until(lambda: pair.sites(world.second)["leaf"] == "offline")
    done = pair.ssh("db1", "true", proxy=world.second)
    assert "teleport: cluster leaf is offline" in done.stderr
    pair.let_in(allow_logins=[LOGIN])
    pair.online(world.second)
    assert pair.ssh("db1", "true", proxy=world.second).returncode == 0


async def test_who_is_no_proxy_of_the_cluster_gets_nothing(world: World) -> None:
    """A node of the cluster, and a proxy of the leaf: neither may log in there."""
    second = world.identity(world.second, CallerKind.PROXY)
    leafs = world.identity(world.pair.leaf, CallerKind.PROXY)
    for identity in (
        world.identity(world.pair.root, CallerKind.NODE),
        leafs.model_copy(update={"authorities": second.authorities}),
    ):
        with pytest.raises(AccessDenied, match="does not accept the certificate"):
            await world.log_in(identity)
