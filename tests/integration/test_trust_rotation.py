"""Two clusters that trust each other, one of which gets other authorities: both follow, and nobody is cut off."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import IO, Any

import pytest

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.rotation_messages import RotateRequest, RotationStatuses
from runtime.api.trust_messages import TrustedClusters
from runtime.auth.authorities import LocalAuthorities
from runtime.core.rotation import Phase
from runtime.pki.keys import parse_public_key
from tests.integration.test_tunnel_process import Pair, events
from tests.servers import linked
from tests.servers.people import Person, authorities_of, certify, declare, in_thread, role, user
from tests.servers.sshclient import wait_until
from tests.servers.sshd import LOGIN
from tests.servers.teleport import Teleport, admin
from tests.servers.tsh import Tsh

pytestmark = pytest.mark.timeout(300)  # each takes seconds, and several times that where others use the machine

PHASES = (Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY)


def ended(teleport: Teleport, *arguments: str) -> str:
    """Run tctl, which must succeed, and return what it prints."""
    done = teleport.tctl(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def keys(authorities: LocalAuthorities) -> set[tuple[str, str, str]]:
    """Return a cluster's own keys as `tctl auth ls` lists them: cluster, type and fingerprint."""
    return {
        (authorities.cluster, each.type.value, generation.public.fingerprint)
        for each in (authorities.user, authorities.host)
        for generation in each.generations
    }


def believed(teleport: Teleport, cluster: str) -> set[tuple[str, str, str]]:
    """Return by which keys another cluster is believed in one, in the same form."""

    async def ask() -> TrustedClusters:
        async with admin(teleport) as client:
            return await client.call(methods.TRUSTED_LIST, Nothing())

    return {
        (cluster, kind, parse_public_key(key).fingerprint)
        for peer in in_thread(ask()).clusters
        if peer.cluster == cluster
        for kind, lines in (("user", peer.user_keys), ("host", peer.host_keys))
        for key in lines
    }


def rotate(teleport: Teleport, phase: Phase, *, emergency: bool = False) -> None:
    """Take both authorities to a phase, and wait until all members have followed."""
    request = RotateRequest(phase=phase, manual=True, force=emergency)
    if emergency:
        request = RotateRequest(grace=timedelta(), force=True)

    async def step() -> RotationStatuses:
        async with admin(teleport) as client:
            return await client.call(methods.AUTHORITIES_ROTATE, request)

    async def status() -> RotationStatuses:
        async with admin(teleport) as client:
            return await client.call(methods.AUTHORITIES_ROTATION, Nothing())

    def settled() -> bool:
        told = in_thread(status()).authorities
        return all(each.phase is phase and not each.stragglers for each in told)

    in_thread(step())
    wait_until(settled, f"not all have followed to {phase}")


class World(Pair):
    """The pair, with what a rotation needs."""

    def rotate(self, teleport: Teleport, phase: Phase) -> None:
        """Take a cluster to a phase, and wait until its members and the other cluster have followed."""
        rotate(teleport, phase)
        self.followed(teleport)

    def followed(self, teleport: Teleport) -> None:
        """Wait until the other cluster believes a cluster by its keys of now."""
        other = self.leaf if teleport is self.root else self.root
        due = keys(authorities_of(teleport))
        if teleport is self.leaf:
            due = {each for each in due if each[1] == "host"}
        cluster = next(iter(due))[0]
        wait_until(
            lambda: believed(other, cluster) == due, f"{cluster} is not followed: {believed(other, cluster)}, {due}"
        )

    def person(self) -> Person:
        """Return joe, who has logged in at the root just now, and believes the hosts of both clusters as they are."""
        joe = certify(self.root, "joe", [LOGIN], roles=["dev"])
        both = [authorities_of(each) for each in (self.root, self.leaf)]
        lines = [f"@cert-authority * {key.public.line}\n" for each in both for key in each.host.generations]
        own = tuple(key.public.line for key in both[0].host.generations)
        return dataclasses.replace(joe, known_hosts="".join(lines), host_authorities=own)

    def sites(self, proxy: Teleport | None = None) -> dict[str, str]:
        """Return the clusters and how they are, as joe sees them who has just logged in."""
        self.joe = self.person()
        return super().sites(proxy)

    def works(self) -> None:
        """Who logs in now gets into the leaf."""
        home = self.folder / "tsh"
        self.person().log_in(home, self.root)
        last: list[str] = []

        def is_in() -> bool:
            done = Tsh(home).run("--cluster=leaf", "ssh", f"{LOGIN}@db1", "echo", "in")
            last[:] = [done.stdout, done.stderr]
            return done.returncode == 0

        wait_until(is_in, f"no way into the leaf: {last}")
        assert last[0] == "in\n"


class Session:
    """A session through the tunnel that stays open."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def is_open(self) -> bool:
        """Tell whether what is typed comes back."""
        if self._process.poll() is not None:
            return False
        given, got = self._process.stdin, self._process.stdout
        assert given is not None
        assert got is not None
        return said(given, got, "still here")


def said(given: IO[str], got: IO[str], text: str) -> bool:
    """Tell whether a line comes back."""
    try:
        given.write(text + "\n")
        given.flush()
    except BrokenPipeError:
        return False
    return got.readline() == text + "\n"


@contextmanager
def session(world: World) -> Iterator[Session]:
    """Have joe in the leaf, in a session of a connection that is not used for others."""
    options = world.person().ssh_options(world.folder / "session")
    through = shlex.join(["ssh", *options, "-p", str(world.root.ssh_port), f"{LOGIN}@127.0.0.1"])
    command = ["ssh", *options, "-o", f"ProxyCommand={through} -s proxy:%h:%p@leaf", f"{LOGIN}@db1", "cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Session(process)
        finally:
            process.kill()


def join(world: World) -> None:
    """Join the leaf with a token, so that it knows the root's web address, too."""
    created = json.loads(ended(world.root, "tokens", "add", "--type=trusted_cluster", "--format=json"))
    folder = world.folder / f"documents-{created['entry']['token'][:8]}"
    folder.mkdir()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "join-main"},
        "stringData": {"token": created["entry"]["token"], "caPin": created["ca_pin"]},
    }
    (folder / "join-main.yaml").write_text(json.dumps(secret))
    spec: dict[str, Any] = {
        "proxy": {"webAddr": world.root.web_address, "tunnelAddr": world.tunnel_addr},
        "tokenSecretRef": {"name": "join-main"},
        "allowLogins": [LOGIN],
    }
    document = {
        "apiVersion": "teleport.internal/v1",
        "kind": "TrustedCluster",
        "metadata": {"name": "main"},
        "spec": spec,
    }
    (folder / "main.yaml").write_text(json.dumps(document))
    ended(world.leaf, "apply", "-f", str(folder / "main.yaml"))
    world.online()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Yield a root and a leaf that has joined it; joe may be LOGIN on the leaf's node db1."""
    folder = tmp_path_factory.mktemp("rotation")
    root, leaf = linked.cluster(folder / "root", "main"), linked.cluster(folder / "leaf", "leaf")
    root.configure({"teleport": {"nodename": "web1"}})
    leaf.configure({"teleport": {"nodename": "db1"}})
    with ExitStack() as stack:
        stack.enter_context(root)
        stack.enter_context(leaf)
        root.launch()
        leaf.start()
        root.wait_for_log("ready: ")
        declare(root, user("joe", [LOGIN]), role("dev", allow={"logins": [LOGIN], "nodeLabels": {"*": ["*"]}}))
        made = World(root, leaf, folder, certify(root, "joe", [LOGIN], roles=["dev"]))
        join(made)
        yield made


def audited(teleport: Teleport, cluster: str, kinds: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return what was logged of a cluster's rotation: type, how many keys came, and how many went."""
    found = [each for each in events(teleport, "trust.rotated", cluster=cluster) if each["type"] in kinds]
    return [(each["type"], len(each["came"]), len(each["went"])) for each in found]


def test_the_roots_rotation(world: World) -> None:
    """Phase by phase the leaf follows; a session goes on through all of them, and new ones are possible in each."""
    before = keys(authorities_of(world.root))
    with session(world) as open_session:
        for phase in PHASES:
            world.rotate(world.root, phase)
            world.works()
            assert open_session.is_open(), phase
    after = keys(authorities_of(world.root))
    assert before.isdisjoint(after)
    assert sorted(audited(world.leaf, "main", ["user", "host"])) == [
        ("host", 0, 1),
        ("host", 1, 0),
        ("user", 0, 1),
        ("user", 1, 0),
    ]
    assert "Trusted" in ended(world.leaf, "get", "trusted_clusters")


def test_the_leafs_rotation(world: World) -> None:
    """The same for the leaf's host CA; the root hears nothing of its user CA."""
    with session(world) as open_session:
        for phase in PHASES:
            world.rotate(world.leaf, phase)
            world.works()
            assert open_session.is_open(), phase
    assert audited(world.root, "leaf", ["host", "user"]) == [("host", 1, 0), ("host", 0, 1)]


def test_a_rollback_is_followed(world: World) -> None:
    """The key that came goes, and the one of before stays."""
    before = keys(authorities_of(world.root))
    with session(world) as open_session:
        for phase in (Phase.INIT, Phase.UPDATE_CLIENTS, Phase.ROLLBACK, Phase.STANDBY):
            world.rotate(world.root, phase)
            world.works()
            assert open_session.is_open(), phase
    assert keys(authorities_of(world.root)) == before


def test_who_was_away_for_a_whole_rotation_catches_up(world: World) -> None:
    """The leaf during one of the root; then the root during one of the leaf, which its auth tells over HTTPS."""
    world.leaf.stop()
    for phase in PHASES:
        rotate(world.root, phase)
    world.leaf.start()  # with a pin in its Secret of a key that has long gone
    world.followed(world.root)
    world.online()
    world.works()

    world.root.stop()
    for phase in PHASES:
        rotate(world.leaf, phase)
    world.root.start()
    world.followed(world.leaf)
    world.online()
    world.works()


def test_an_emergency_of_the_root_ends_trust(world: World) -> None:
    """The old keys say that they have ended: the leaf believes nothing in their place and says so, until it joins."""
    rotate(world.root, Phase.STANDBY, emergency=True)
    wait_until(lambda: "CAReplaced" in ended(world.leaf, "get", "trusted_clusters"))
    assert believed(world.leaf, "main") == set()
    assert "main: its host CA and its user CA have ended" in ended(world.leaf, "auth", "ls")
    wait_until(lambda: world.sites()["leaf"] == "offline")
    join(world)
    world.works()


def test_an_emergency_of_the_leaf_ends_trust(world: World) -> None:
    """The same at the root, whose administrator forgets the leaf before it joins anew."""
    rotate(world.leaf, Phase.STANDBY, emergency=True)
    wait_until(lambda: "leaf: its host CA has ended" in ended(world.root, "auth", "ls"))
    assert believed(world.root, "leaf") == set()
    wait_until(lambda: world.sites()["leaf"] == "offline")
    ended(world.root, "auth", "rm", "leaf")
    join(world)
    world.works()


def test_both_rotate_at_once_that_know_each_other_by_files(world: World) -> None:
    """The manual's way, with keys that were carried by hand: the files stay as they are, and are followed from."""
    ended(world.leaf, "rm", "trusted_cluster/main")
    ended(world.root, "auth", "rm", "leaf")
    theirs = linked.peer(authorities_of(world.leaf))
    ours = linked.peer(authorities_of(world.root), tunnel_addr=world.tunnel_addr, allow_logins=[LOGIN])
    linked.trust(world.root, theirs)
    linked.trust(world.leaf, ours)
    world.followed(world.root)
    wait_until(lambda: world.sites()["leaf"] == "online")
    with session(world) as open_session:
        for phase in PHASES:
            rotate(world.leaf, phase)
            world.rotate(world.root, phase)
            due = {each for each in keys(authorities_of(world.leaf)) if each[1] == "host"}
            wait_until(lambda due=due: believed(world.root, "leaf") >= due)  # type: ignore[misc] # bound in time
            world.works()
            assert open_session.is_open(), phase
    # The leaf's user CA is what the file says, and lets nobody in; its host CA is the one of now, and no other.
    assert {each for each in believed(world.root, "leaf") if each[1] == "host"} == due
    assert {key for _, kind, key in believed(world.root, "leaf") if kind == "user"} == {
        parse_public_key(key).fingerprint for key in theirs.user_keys
    }
