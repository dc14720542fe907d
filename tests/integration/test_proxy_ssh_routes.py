"""The real ssh, through the proxy's SSH port, to real sshd's: the manual's ProxyCommand, and what it says of a node."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from runtime.api.member_messages import PresenceEntry
from runtime.core.clock import SystemClock
from runtime.service.directory import FRESH_SECONDS
from runtime.service.sections.proxy import OpenSSHServer
from tests.servers.processes import free_port
from tests.servers.sshd import LOGIN
from tests.servers.sshproxy import SSHProxyCluster, ssh_proxy


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[SSHProxyCluster]:
    """Yield a cluster with nobody in it."""
    async with ssh_proxy(tmp_path) as cluster:
        yield cluster


# --- the way there ------------------------------------------------------------------------------------------------


async def test_the_manuals_proxycommand(cluster: SSHProxyCluster) -> None:
    """A command runs on the node by any of the names that are in its certificate; output and exit status come back."""
    node = cluster.node("db1")
    with cluster.sshd(node) as sshd:
        await node.heartbeat(f"127.0.0.1:{sshd.port}")
        joe = await cluster.joe()
        for host in ("db1", "DB1", "db1.main", node.id):
            done = await joe.run([*joe.through(), f"{LOGIN}@{host}", "echo in; exit 7"])
            assert (done.code, done.out) == (7, b"in\n"), done.err
        done = await joe.run([*joe.through("%h:%p@main"), f"{LOGIN}@db1", "echo in"])
        assert (done.code, done.out) == (0, b"in\n"), done.err
    connected = cluster.events("proxy.connect")
    assert len(connected) == 5
    assert {(event["user"], event["login"], event["node_id"], event["node"]) for event in connected} == {
        ("joe", "joe", node.id, "db1")
    }
    assert {event["addr.node"] for event in connected} == {f"127.0.0.1:{sshd.port}"}
    assert all(event["addr.remote"].startswith("127.0.0.1:") for event in connected)
    assert {event["success"] for event in cluster.events("auth")} == {"true"}


async def test_an_address_and_a_label_lead_there_too(cluster: SSHProxyCluster) -> None:
    """Where the client knows the host's certificate by another name, address and label are enough to get there."""
    node = cluster.node("db1")
    with cluster.sshd(node) as sshd:
        await node.heartbeat(f"127.0.0.1:{sshd.port}", env="prod")
        joe = await cluster.joe()
        for wish in (f"127.0.0.1:{sshd.port}", "env=prod:22"):
            done = await joe.run([*joe.through(wish), "-o", "HostKeyAlias=db1", f"{LOGIN}@there", "echo in"])
            assert (done.code, done.out) == (0, b"in\n"), done.err


async def test_ipv6(tmp_path: Path) -> None:
    """The proxy and the node may both be reached by IPv6."""
    async with ssh_proxy(tmp_path, address="::1") as cluster:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as there:
            await cluster.node("db1").heartbeat(f"[::1]:{there.getsockname()[1]}")
            joe = await cluster.joe()
            for wish in ("db1:22", "::1:22", "[::1]:22"):
                asking = await joe.start([*joe.to_proxy(), "-s", f"proxy:{wish}"])
                node, _ = await asyncio.to_thread(there.accept)
                with node:
                    node.sendall(b"SSH-2.0-six\r\n")
                assert asking.stdout is not None
                assert await asking.stdout.readline() == b"SSH-2.0-six\r\n"
        assert cluster.events("auth")[0]["addr.remote"].startswith("[::1]:")


async def test_what_is_sent_arrives(cluster: SSHProxyCluster) -> None:
    """Four megabytes there and back, unchanged."""
    node = cluster.node("db1")
    with cluster.sshd(node) as sshd:
        await node.heartbeat(f"127.0.0.1:{sshd.port}")
        joe = await cluster.joe()
        content = b"".join(number.to_bytes(8, "big") for number in range(512 * 1024))
        done = await joe.run([*joe.through(), f"{LOGIN}@db1", "cat"], stdin=content)
        assert done.code == 0, done.err
        assert done.out == content


async def test_many_at_once(cluster: SSHProxyCluster) -> None:
    """Twenty sessions of two nodes at the same time do not disturb one another."""
    nodes = [cluster.node("db1"), cluster.node("db2")]
    with cluster.sshd(nodes[0]) as one, cluster.sshd(nodes[1]) as two:
        for node, sshd in zip(nodes, (one, two), strict=True):
            await node.heartbeat(f"127.0.0.1:{sshd.port}")
        joe = await cluster.joe()
        sessions = [
            joe.run([*joe.through(), f"{LOGIN}@db{number % 2 + 1}", f"cat; echo {number}"], stdin=b"x" * 100_000)
            for number in range(20)
        ]
        for number, done in enumerate(await asyncio.gather(*sessions)):
            assert done.out == b"x" * 100_000 + f"{number}\n".encode(), done.err


async def test_an_openssh_server_of_the_settings(tmp_path: Path) -> None:
    """A machine with sshd and TrustedUserCAKeys is reached though it sends no heartbeats."""
    port = free_port()
    server = OpenSSHServer.model_validate({"name": "old", "addr": f"127.0.0.1:{port}", "labels": {"env": "old"}})
    async with ssh_proxy(tmp_path, servers=[server]) as cluster:
        joe = await cluster.joe()
        down = await joe.ask("proxy:old:22")
        assert down.code == 1
        assert down.err.splitlines() == [
            f"teleport: node old (127.0.0.1:{port}) cannot be reached: it refuses the connection: nothing listens there"
        ]
        with socket.create_server(("127.0.0.1", port)) as there:
            asking = await joe.start([*joe.to_proxy(), "-s", "proxy:old:22"])
            connection, _ = await asyncio.to_thread(there.accept)
            with connection:
                connection.sendall(b"SSH-2.0-old\r\n")
            assert asking.stdout is not None
            assert await asking.stdout.readline() == b"SSH-2.0-old\r\n"


async def test_proxysites(cluster: SSHProxyCluster) -> None:
    """`proxysites` prints the clusters as JSON on standard output, and nothing else."""
    joe = await cluster.joe()
    done = await joe.ask("proxysites")
    assert (done.code, done.err) == (0, "")
    (site,) = json.loads(done.out)
    assert (site["name"], site["status"]) == ("main", "online")
    told = datetime.fromisoformat(site["lastConnected"])
    assert abs(SystemClock().now() - told) < timedelta(minutes=1)


# --- no way there -------------------------------------------------------------------------------------------------


async def test_an_unknown_node(cluster: SSHProxyCluster) -> None:
    """It is refused with names like it, and ssh ends with 255; the audit log has who wanted what."""
    await cluster.node("db1").heartbeat("127.0.0.1:3022")
    joe = await cluster.joe()
    done = await joe.run([*joe.through(), f"{LOGIN}@db2", "true"])
    assert done.code == 255
    assert done.err.splitlines()[:2] == [
        "teleport: there is no node 'db2' that you may reach; did you mean db1?",
        "teleport: `tsh ls` lists the nodes.",
    ]
    (event,) = cluster.events("proxy.rejected")
    assert (event["user"], event["login"], event["subsystem"]) == ("joe", "joe", "proxy:db2:22")
    assert event["error"].startswith("there is no node 'db2'")
    assert cluster.events("proxy.connect") == []


async def test_an_unknown_cluster(cluster: SSHProxyCluster) -> None:
    """It is refused with the clusters that there are."""
    await cluster.node("db1").heartbeat("127.0.0.1:3022")
    joe = await cluster.joe()
    done = await joe.ask("proxy:db1:3022@cluster-b")
    assert done.code == 1
    assert done.err.splitlines()[0] == "teleport: there is no cluster 'cluster-b' here; there is main"


async def test_several_nodes(cluster: SSHProxyCluster) -> None:
    """A name of two is refused with both, and each is reached by its id, or by its port."""
    one, two = cluster.node("twin"), cluster.node("twin")
    with cluster.sshd(one) as first, cluster.sshd(two) as second:
        await one.heartbeat(f"127.0.0.1:{first.port}", rack="a")
        await two.heartbeat(f"127.0.0.1:{second.port}", rack="b")
        joe = await cluster.joe()
        done = await joe.run([*joe.through(), f"{LOGIN}@twin", "true"])
        assert done.code == 255
        lines = done.err.splitlines()
        assert lines[0] == "teleport: 2 nodes go by 'twin':"
        assert set(lines[1:3]) == {
            f"teleport:   twin  {one.id}  127.0.0.1:{first.port}  rack=a",
            f"teleport:   twin  {two.id}  127.0.0.1:{second.port}  rack=b",
        }
        assert lines[3].startswith("teleport: Name the one that you mean by its id, as in: ssh ")
        for host, port in ((two.id, "22"), ("twin", str(second.port))):
            done = await joe.run([*joe.through(), "-p", port, f"{LOGIN}@{host}", "echo $SSH_CONNECTION"])
            assert done.out.split()[-1] == str(second.port).encode(), done.err


async def test_a_node_that_was_set_up_anew(cluster: SSHProxyCluster) -> None:
    """The old entry of a machine does not make its name ambiguous."""
    old, new = cluster.node("db1"), cluster.node("db1")
    with cluster.sshd(new) as sshd:
        await new.heartbeat(f"127.0.0.1:{sshd.port}", timedelta(minutes=5))
        await old.heartbeat(f"127.0.0.1:{sshd.port}", timedelta(minutes=4))
        joe = await cluster.joe()
        done = await joe.run([*joe.through(), f"{LOGIN}@db1", "echo in"])
        assert (done.code, done.out) == (0, b"in\n"), done.err


async def test_a_node_that_joined_a_moment_ago(cluster: SSHProxyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a node is said to be unknown, auth is asked anew; one that is known is looked up in the list there is."""
    await cluster.node("db1").heartbeat(f"127.0.0.1:{free_port()}")
    listed, asked = await cluster.directory.members(max_age=0), list[float]()

    async def members(*, max_age: float = FRESH_SECONDS) -> tuple[PresenceEntry, ...]:
        asked.append(max_age)
        return listed if max_age == 0 else ()

    monkeypatch.setattr(cluster.directory, "members", members)
    joe = await cluster.joe()
    assert "node db1 (127.0.0.1:" in (await joe.ask("proxy:db1:22")).err
    assert asked == [FRESH_SECONDS, 0]


async def test_a_node_that_is_down(cluster: SSHProxyCluster) -> None:
    """It is named with its address and when it was heard, as what happened there: a refusal."""
    port = free_port()
    await cluster.node("db1").heartbeat(f"127.0.0.1:{port}", timedelta(seconds=48))
    joe = await cluster.joe()
    done = await joe.run([*joe.through(), f"{LOGIN}@db1", "true"])
    assert done.code == 255
    told = done.err.splitlines()[0]
    assert told.startswith(
        f"teleport: node db1 (127.0.0.1:{port}) cannot be reached: it refuses the connection: "
        "nothing listens there; it was last heard of 1"
    )
    assert told.endswith(" s ago")
    assert "cannot be reached" in cluster.events("proxy.rejected")[0]["error"]


async def test_a_node_that_does_not_exist_for_this_user(cluster: SSHProxyCluster) -> None:
    """What no role of the user's allows is not found, suggested or listed; what is left may be unambiguous by that."""
    prod, staging = cluster.node("web"), cluster.node("web")
    await prod.heartbeat("127.0.0.1:1", env="prod")
    with cluster.sshd(staging) as sshd:
        await staging.heartbeat(f"127.0.0.1:{sshd.port}", env="staging")
        await cluster.declare("Role", "dev", allow={"logins": [LOGIN], "nodeLabels": {"env": ["staging"]}})
        await cluster.declare("User", "ann", roles=["dev"])
        ann = cluster.person("ann", [LOGIN])
        ann.login = LOGIN
        done = await ann.run([*ann.through(), f"{LOGIN}@web", "echo in"])
        assert (done.code, done.out) == (0, b"in\n"), done.err
        for wish in (prod.id, "env=prod", "wbe"):
            told = (await ann.ask(f"proxy:{wish}:22")).err
            assert told.startswith("teleport: there is no node"), told
            assert prod.id not in told.replace(wish, "")
        # Roles as they are now decide, not those of the login.
        await cluster.declare("Role", "dev", allow={"logins": [LOGIN], "nodeLabels": {"env": ["prod"]}})
        told = (await ann.ask("proxy:web:22")).err
        assert told.startswith("teleport: node web (127.0.0.1:1) cannot be reached")


async def test_an_address_that_another_node_answers(cluster: SSHProxyCluster) -> None:
    """Where a node's address leads to another one, ssh does not believe the host; the proxy only carries bytes."""
    real, other = cluster.node("db1"), cluster.node("db2")
    with cluster.sshd(other) as sshd:
        await real.heartbeat(f"127.0.0.1:{sshd.port}")
        joe = await cluster.joe()
        done = await joe.run([*joe.through(), f"{LOGIN}@db1", "echo in"])
    assert (done.code, done.out) == (255, b"")
    assert "Certificate invalid: name is not a listed principal" in done.err
    assert "Host key verification failed." in done.err


@pytest.mark.parametrize(
    "subsystem",
    ["proxy:", "proxy:db1", "proxy::22", "proxy:db1:ssh", "proxy:db1:70000", "proxy:db1:22@", "proxy:db1\n:22",
     "proxy:\x1b[31mdb1:22", "proxy:" + "a" * 5000 + ":22", "proxy:joe@db1:22"],
)  # fmt: skip
async def test_malformed_wishes(cluster: SSHProxyCluster, subsystem: str) -> None:
    """Each gets the form that is due, on one line that no terminal obeys, and 1."""
    joe = await cluster.joe()
    done = await joe.ask(subsystem)
    assert (done.code, done.out) == (1, b"")
    first, *_ = done.err.splitlines()
    assert first.startswith("teleport: expected proxy:HOST:PORT or proxy:HOST:PORT@CLUSTER, found ")
    assert first.isprintable()
    assert len(first) < 200
    assert len(cluster.events("proxy.rejected")) == 1


@pytest.mark.parametrize("subsystem", ["sftp", "proxy", "PROXY:db1:22", "proxysites ", "x" * 3000, "\x07"])
async def test_unknown_subsystems(cluster: SSHProxyCluster, subsystem: str) -> None:
    """Each gets the names of those that there are."""
    joe = await cluster.joe()
    done = await joe.ask(subsystem)
    assert (done.code, done.out) == (1, b"")
    first = done.err.splitlines()[0]
    assert "it has proxy:HOST:PORT[@CLUSTER] and proxysites" in first
    assert first.isprintable()
    assert len(cluster.events("proxy.rejected")) == 1


async def test_the_last_list_goes_on_while_auth_is_away(cluster: SSHProxyCluster) -> None:
    """Without auth, people get in with what the proxy has heard, and reach the nodes that it knows."""
    node = cluster.node("db1")
    with cluster.sshd(node) as sshd:
        await node.heartbeat(f"127.0.0.1:{sshd.port}")
        joe = await cluster.joe()
        assert (await joe.run([*joe.through(), f"{LOGIN}@db1", "true"])).code == 0
        await cluster.auth.stop()
        done = await joe.run([*joe.through(), f"{LOGIN}@db1", "echo in"])
        assert (done.code, done.out) == (0, b"in\n"), done.err


# --- where nobody is connected to -----------------------------------------------------------------------------------


async def test_loopback_is_not_for_people_from_elsewhere(tmp_path: Path) -> None:
    """A proxy that others reach connects nobody to its own loopback, whatever a node advertises."""
    with socket.create_server(("127.0.0.1", 0)) as secret:
        async with ssh_proxy(tmp_path, address="0.0.0.0") as cluster:  # noqa: S104 - that is the point
            cluster.address = type(cluster.address)("127.0.0.1", cluster.address.port)
            joe = await cluster.joe()
            for name, host in (("a", "127.0.0.1"), ("b", "localhost"), ("c", "[::ffff:127.0.0.1]")):
                await cluster.node(name).heartbeat(f"{host}:{secret.getsockname()[1]}")
            for name in "abc":
                done = await joe.ask(f"proxy:{name}:22")
                assert done.code == 1
                assert "a loopback address" in done.err, done.err
                assert "the proxy does not connect there" in done.err
        secret.setblocking(False)
        with pytest.raises(BlockingIOError):
            secret.accept()


async def test_metadata_and_its_own_port(cluster: SSHProxyCluster) -> None:
    """Neither the cloud's metadata service nor the proxy itself is a node, even if one says so."""
    joe = await cluster.joe()
    await cluster.node("meta").heartbeat("169.254.169.254:80")
    await cluster.node("loop").heartbeat(str(cluster.address))
    done = await joe.ask("proxy:meta:80")
    assert done.code == 1
    assert "169.254.169.254:80 is a link-local address or one of cloud metadata" in done.err
    done = await joe.ask("proxy:loop:22")
    assert done.code == 1
    assert "is an address of this proxy itself" in done.err
