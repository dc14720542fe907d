"""Two real clusters, a root and a leaf behind a tunnel: what people and administrators of either see and do."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.tunnel_messages import TunnelEntry
from runtime.auth.authorities import LocalAuthorities
from tests.servers import linked
from tests.servers.linked import TOKEN, peer, trust
from tests.servers.people import Person, certify, declare, in_thread, role, sign_up, tsh_login, user
from tests.servers.sshclient import wait_until
from tests.servers.sshd import LOGIN
from tests.servers.teleport import Teleport, admin, run

ROLES = {
    "env-dev": {"allow": {"logins": [LOGIN], "nodeLabels": {"env": ["dev"]}}},
    "env-prod": {"allow": {"logins": [LOGIN], "nodeLabels": {"env": ["prod"]}}},
}


@dataclasses.dataclass
class Pair:
    """A root and its leaf, both running, and joe, a user of the root."""

    root: Teleport
    leaf: Teleport
    folder: Path
    joe: Person

    def let_in(self, **rights: Any) -> None:
        """Have the leaf trust the root, whose users may do this there."""
        trust(self.leaf, peer(linked.authorities(self.root, "main"), tunnel_addr=self.tunnel_addr, **rights))

    @property
    def tunnel_addr(self) -> str:
        """Where the root takes tunnels."""
        return f"127.0.0.1:{self.root.tunnel_port}"

    def ssh(
        self,
        target: str,
        *command: str,
        person: Person | None = None,
        cluster: str = "leaf",
        proxy: Teleport | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run plain ssh with the manual's ProxyCommand."""
        options = (person or self.joe).ssh_options(self.folder / "ssh")
        port = (proxy or self.root).ssh_port
        through = shlex.join(["ssh", *options, "-p", str(port), f"{LOGIN}@127.0.0.1"])
        return subprocess.run(
            ["ssh", *options, "-o", f"ProxyCommand={through} -s proxy:%h:%p@{cluster}", f"{LOGIN}@{target}", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def sites(self, proxy: Teleport | None = None) -> dict[str, str]:
        """Return the clusters that ssh with `-s proxysites` shows, and how they are."""
        options = self.joe.ssh_options(self.folder / "ssh")
        port = (proxy or self.root).ssh_port
        done = subprocess.run(
            ["ssh", *options, "-p", str(port), f"{LOGIN}@127.0.0.1", "-s", "proxysites"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return {site["name"]: site["status"] for site in json.loads(done.stdout)}

    def online(self, proxy: Teleport | None = None) -> None:
        """Wait until the root has a tunnel to the leaf."""
        wait_until(lambda: self.sites(proxy) == {"main": "online", "leaf": "online"})


def believing(person: Person, *others: LocalAuthorities) -> Person:
    """Return the person with known_hosts in which other clusters' hosts are believed too."""
    lines = "".join(f"@cert-authority * {each.host.signer.public.key.line}\n" for each in others)
    return dataclasses.replace(person, known_hosts=person.known_hosts + lines)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Yield a root with a node web1, and a leaf with db1 (env=dev), whose people may do nothing there yet."""
    folder = tmp_path_factory.mktemp("tunnel")
    root, leaf = linked.cluster(folder / "root", "main"), linked.cluster(folder / "leaf", "leaf")
    root.configure({"teleport": {"nodename": "web1"}})
    leaf.configure({"teleport": {"nodename": "db1"}, "ssh_service": {"labels": {"env": "dev"}}})
    theirs = linked.authorities(leaf, "leaf")
    trust(root, peer(theirs))
    with root.start(), leaf.start():
        declare(root, user("joe", [LOGIN]), role("dev", allow={"logins": [LOGIN], "nodeLabels": {"*": ["*"]}}))
        declare(leaf, *(role(name, **spec) for name, spec in ROLES.items()))
        yield Pair(root, leaf, folder, believing(certify(root, "joe", [LOGIN], roles=["dev"]), theirs))


def events(teleport: Teleport, kind: str, **fields: str) -> list[Mapping[str, Any]]:
    """Return the audit events of a kind with these fields that a cluster's auth has logged."""
    lines = [
        line for path in sorted((teleport.data_dir / "log").glob("*.log")) for line in path.read_text().splitlines()
    ]
    return [
        event
        for event in map(json.loads, lines)
        if event["event"] == kind and all(event.get(name) == value for name, value in fields.items())
    ]


def tunnels(teleport: Teleport) -> list[TunnelEntry]:
    """Return what auth tells of the tunnels of a cluster, which has one proxy."""

    async def ask() -> list[TunnelEntry]:
        async with admin(teleport) as client:
            told = await client.call(methods.TUNNELS_LIST, Nothing())
        return [entry for proxy in told.proxies for entry in proxy.tunnels]

    return in_thread(ask())


def own_id(teleport: Teleport) -> str:
    """Return the id of a process's proxy."""
    return str(json.loads((teleport.data_dir / "proxy.identity").read_text())["id"])


def test_without_trust_there_is_nothing(pair: Pair) -> None:
    """The root knows the leaf, which has no tunnel: it is offline, and who wants to go there hears what to look at."""
    trust(pair.leaf)
    wait_until(lambda: pair.sites() == {"main": "online", "leaf": "offline"})
    done = pair.ssh("db1", "true")
    assert done.returncode == 255
    assert "teleport: cluster leaf is offline: none of its proxies has a tunnel to this one" in done.stderr
    assert "3024" in done.stderr
    done = pair.ssh("db1", "true", cluster="nowhere")
    assert "teleport: there is no cluster 'nowhere' here; there is main, leaf" in done.stderr


def test_plain_ssh_into_the_leaf(pair: Pair) -> None:
    """The manual's ProxyCommand with @cluster: a command runs on a node of the leaf; both sides know who it was."""
    pair.let_in(allow_logins=[LOGIN])
    pair.online()
    done = pair.ssh("db1", "echo in; exit 3")
    assert (done.returncode, done.stdout) == (3, "in\n"), done.stderr
    wait_until(lambda: events(pair.root, "proxy.connect", cluster="leaf"))
    wait_until(lambda: events(pair.leaf, "proxy.connect", cluster="main"))
    wait_until(lambda: events(pair.leaf, "exec"))
    at_root = events(pair.root, "proxy.connect", cluster="leaf")[-1]
    at_leaf = events(pair.leaf, "proxy.connect", cluster="main")[-1]
    assert (at_root["user"], at_root["node"], at_root["server_id"]) == ("joe", "db1", own_id(pair.root))
    assert (at_leaf["user"], at_leaf["node"], at_leaf["login"]) == ("joe@main", "db1", LOGIN)
    # Who carries is proved; from where the person came is the root's word, and stands apart.
    assert (at_leaf["proxy"], at_leaf["addr.remote"]) == (own_id(pair.root), pair.tunnel_addr)
    assert at_leaf["addr.client"] == at_root["addr.remote"]
    assert events(pair.leaf, "exec")[-1]["user"] == "joe@main"


def test_the_leaf_leads_to_registered_nodes_only(pair: Pair) -> None:
    """Whatever the root asks for, an address of the leaf's machine that is no node is not connected to."""
    pair.let_in(allow_logins=[LOGIN])
    pair.online()
    for target in ("127.0.0.1", "localhost", "169.254.169.254"):
        options = pair.joe.ssh_options(pair.folder / "ssh")
        for port in (pair.leaf.auth_port, pair.leaf.web_port):
            done = subprocess.run(
                [
                    "ssh",
                    *options,
                    "-p",
                    str(pair.root.ssh_port),
                    f"{LOGIN}@127.0.0.1",
                    "-s",
                    f"proxy:{target}:{port}@leaf",
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            # By its own address a node is found, at the port where it listens and no other.
            assert done.returncode == 1 or "SSH-2.0-" in done.stdout
            assert "HTTP" not in done.stdout


def test_what_the_leaf_does_not_map_does_not_exist(pair: Pair) -> None:
    """By default a user of the root reaches nothing; what is mapped takes effect at once, and so does its end."""
    pair.let_in()
    pair.online()
    wait_until(lambda: "nothing here is for joe@main" in pair.ssh("db1", "true").stderr)
    before = own_tunnels(pair.root)
    pair.let_in(role_map=[("dev", ["env-prod"])])
    wait_until(lambda: "there is no node 'db1' that you may reach" in pair.ssh("db1", "true").stderr)
    pair.let_in(role_map=[("dev", ["env-dev"])])
    wait_until(lambda: pair.ssh("db1", "true").returncode == 0)
    pair.let_in(role_map=[("other", ["env-dev"])])
    wait_until(lambda: "nothing here is for joe@main" in pair.ssh("db1", "true").stderr)
    # Rights were changed four times; the tunnel is the one of before.
    assert own_tunnels(pair.root) == before
    wait_until(lambda: events(pair.leaf, "proxy.rejected", user="joe@main"))
    wait_until(lambda: events(pair.root, "proxy.rejected", cluster="leaf", user="joe"))


def own_tunnels(teleport: Teleport) -> list[str]:
    """Return the lines of the log that tell of tunnels that came up."""
    return re.findall(r"tunnel of .* is up", teleport.log())


def test_tsh_from_the_login_to_the_leaf(pair: Pair, tmp_path: Path) -> None:
    """Tsh clusters, ls and ssh with --cluster, as the manual has them, for somebody who has logged in at the root."""
    pair.let_in(allow_logins=[LOGIN])
    pair.online()
    added = pair.root.tctl("users", "add", "ann", LOGIN)
    url = re.search(r"https://\S+/web/newuser/\S+", added.stdout)
    assert url is not None, added.stderr
    home = tmp_path / "tsh"
    done = tsh_login(pair.root, home, "ann", sign_up(pair.root, url[0]))
    assert done.returncode == 0, done.stderr

    def tsh(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run("tsh", *arguments, env={"TELEPORT_HOME": str(home), "SSH_AUTH_SOCK": ""})

    clusters = json.loads(tsh("clusters", "--format=json").stdout)
    assert [(each["name"], each["status"]) for each in clusters] == [("leaf", "online"), ("main", "online")]
    assert re.search(r"^leaf +online", tsh("clusters").stdout, re.MULTILINE)
    nodes = json.loads(tsh("--cluster=leaf", "ls", "--format=json").stdout)
    assert [(node["name"], node["labels"]) for node in nodes] == [("db1", {"env": "dev"})]
    assert [node["name"] for node in json.loads(tsh("ls", "--format=json").stdout)] == ["web1"]
    assert json.loads(tsh("--cluster=leaf", "ls", "--format=json", "env=prod").stdout) == []
    done = tsh("--cluster=leaf", "ssh", f"{LOGIN}@db1", "echo", "in")
    assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr
    done = tsh("--cluster=nowhere", "ls")
    assert done.returncode == 1
    assert "there is no cluster 'nowhere' behind this proxy" in done.stderr
    # Rights are those of the leaf, also in lists.
    pair.let_in()
    wait_until(lambda: "nothing here is for ann@main" in tsh("--cluster=leaf", "ls").stderr)


def test_administrators_see_the_tunnel_on_both_sides(pair: Pair) -> None:
    """`tctl tunnels ls` shows who is at the other end, since when, and when last heard; else why there is none."""
    pair.let_in(allow_logins=[LOGIN])
    pair.online()

    wait_until(lambda: [each.online for each in tunnels(pair.root)] == [True])
    wait_until(lambda: [each.online for each in tunnels(pair.leaf)] == [True])
    (at_root,) = json.loads(pair.root.tctl("tunnels", "ls", "--format=json").stdout)
    (at_leaf,) = tunnels(pair.leaf)
    assert (at_root["cluster"], at_root["proxy_id"], at_root["peer"]) == ("leaf", own_id(pair.root), own_id(pair.leaf))
    assert (at_root["other"], at_root["status"]) == ("leaf", "online")
    assert at_root["since"] <= at_root["last_heartbeat"]
    assert (at_leaf.cluster, at_leaf.peer, at_leaf.addr) == ("main", own_id(pair.root), pair.tunnel_addr)
    trust(pair.root)
    try:
        wait_until(lambda: any("does not believe us" in each.error for each in tunnels(pair.leaf)))
        wait_until(lambda: not tunnels(pair.root))
        shown = pair.leaf.tctl("tunnels", "ls").stdout
        assert re.search(r"^main +root +offline .* does not believe us", shown, re.MULTILINE)
        assert "There are no tunnels" in pair.root.tctl("tunnels", "ls").stdout
    finally:
        trust(pair.root, peer(linked.authorities(pair.leaf, "leaf")))
    pair.online()


def test_disabled_and_enabled_while_it_runs(pair: Pair) -> None:
    """A leaf that disables its root has no tunnel and lets nobody in; enabled, all is as before, without a restart."""
    pair.let_in(allow_logins=[LOGIN])
    pair.online()
    pair.let_in(allow_logins=[LOGIN], enabled=False)
    wait_until(lambda: pair.sites()["leaf"] == "offline")
    pair.let_in(allow_logins=[LOGIN])
    pair.online()
    assert pair.ssh("db1", "true").returncode == 0


def test_a_guest_who_came_without_a_tunnel_is_cut_off_too(pair: Pair) -> None:
    """At the node's own port: when trust ends the session does, with the reason on the terminal and in both events."""
    pair.let_in(allow_logins=[LOGIN])
    options = [*pair.joe.ssh_options(pair.folder / "ssh"), "-o", "HostKeyAlias=db1"]
    command = ["ssh", *options, "-p", str(pair.leaf.node_port), f"{LOGIN}@127.0.0.1", "cat"]
    wait_until(
        lambda: subprocess.run([*command[:-1], "true"], capture_output=True, timeout=60, check=False).returncode == 0
    )
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as ssh:
        assert ssh.stdin is not None
        assert ssh.stdout is not None
        assert ssh.stderr is not None
        ssh.stdin.write(b"hello\n")
        ssh.stdin.flush()
        assert ssh.stdout.readline() == b"hello\n"
        pair.let_in(allow_logins=[LOGIN], enabled=False)
        assert b"cluster main is not trusted here any more" in ssh.stderr.read()
        assert ssh.wait(timeout=60) != 0
    wait_until(lambda: events(pair.leaf, "guest.dismissed", user="joe@main"))
    (told,) = events(pair.leaf, "guest.dismissed", user="joe@main")
    assert (told["cluster"], told["sessions"]) == ("main", 1)
    wait_until(lambda: events(pair.leaf, "tunnel.closed", reason="the cluster is not trusted any more"))
    pair.let_in(allow_logins=[LOGIN])
    pair.online()


def test_a_second_proxy_of_the_root(pair: Pair, tmp_path: Path) -> None:
    """The leaf hears of it from the first, and keeps a tunnel to it too: it serves when the first one is gone."""
    pair.let_in(allow_logins=[LOGIN])
    pair.online()
    second = Teleport(tmp_path / "second", ("proxy",), auth_servers=[pair.root.auth_address], token=TOKEN)
    with second.start():
        pair.online(second)
        done = pair.ssh("db1", "echo in", proxy=second)
        assert (done.returncode, done.stdout) == (0, "in\n"), done.stderr


def test_a_root_proxy_that_is_killed_and_started(pair: Pair) -> None:
    """The leaf is back by itself, after the proxy died without a word; what happened is in the audit log of both."""
    pair.let_in(allow_logins=[LOGIN])
    pair.online()
    pair.root.signal(signal.SIGKILL)
    pair.root.wait()
    pair.root.start()
    pair.online()
    assert pair.ssh("db1", "true").returncode == 0
    wait_until(lambda: events(pair.leaf, "tunnel.closed", cluster="main", side="leaf"))
    wait_until(lambda: len(events(pair.root, "tunnel.connected", cluster="leaf", side="root")) > 1)
