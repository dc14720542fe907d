"""Rotations of a whole cluster of processes: two auth servers, a proxy and a node, and people who work meanwhile."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from runtime.api import methods
from runtime.api.messages import Message, Nothing
from runtime.api.methods import Method
from runtime.api.rotation_messages import RotateRequest
from runtime.auth.authorities import LocalAuthorities
from runtime.backend.open import open_backend
from runtime.core.clock import SystemClock
from runtime.core.rotation import Phase
from tests.servers.people import authorities_of, certify, in_thread
from tests.servers.sshclient import wait_until
from tests.servers.teleport import Teleport, admin
from tests.servers.whole_cluster import LOGIN, Cluster, running_cluster

DEADLINE = 90.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Yield a cluster on a file that two auth servers share; each test leaves it in standby."""
    with tempfile.TemporaryDirectory() as folder, running_cluster(Path(folder), "sqlite") as cluster:
        yield cluster


@pytest.fixture
def on_etcd(tmp_path: Path) -> Iterator[Cluster]:
    """Yield a cluster on etcd."""
    with running_cluster(tmp_path, "etcd") as cluster:
        yield cluster


Params = TypeVar("Params", bound=Message)
Result = TypeVar("Result", bound=Message)


def call(auth: Teleport, method: Method[Params, Result], params: Params) -> Result:
    """Call an auth server as its administrator."""

    async def ask() -> Result:
        async with admin(auth) as client:
            return await client.call(method, params)

    return asyncio.run(ask())


def all_follow(auth: Teleport, phase: Phase, members: int = 4) -> bool:
    """Tell whether both authorities are in a phase, and so many members follow."""
    told = call(auth, methods.AUTHORITIES_ROTATION, Nothing()).authorities
    return all((each.phase, each.members, each.stragglers) == (phase, members, ()) for each in told)


def go(cluster: Cluster, to: Phase) -> None:
    """Take a step, and wait until everybody has followed."""
    call(cluster.pair.one, methods.AUTHORITIES_ROTATE, RotateRequest(phase=to, manual=True))
    wait_until(lambda: all_follow(cluster.pair.two, to), f"nobody follows phase {to}")


def authorities(cluster: Cluster) -> LocalAuthorities:
    """Return the authorities as they are in the storage."""
    return authorities_of(cluster.pair.one, cluster.pair.store.options)


def records(cluster: Cluster) -> str:
    """Return all that the storage holds of authorities."""

    async def read() -> str:
        backend = await open_backend(cluster.pair.store.options, clock=SystemClock())
        try:
            return "".join([item.value.decode() for item in (await backend.range("authority/")).items])
        finally:
            await backend.close()

    return in_thread(read())


class Joe:
    """Somebody with a certificate, and the host keys of the cluster, as an administrator would copy them."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._folder = cluster.pair.one.folder.parent / name
        person = certify(cluster.pair.one, "joe", [LOGIN], storage=cluster.pair.store.options)
        self._options = person.ssh_options(self._folder)

    def believe(self) -> None:
        """Believe the hosts of the cluster, by all keys that there are now."""
        _, host = call(self._cluster.pair.two, methods.AUTHORITIES, Nothing()).authorities
        lines = [f"@cert-authority * {key}\n" for key in host.keys]
        (self._folder / "known_hosts").write_text("".join(lines))

    @property
    def ssh(self) -> list[str]:
        """The program that reaches the node through the proxy."""
        node, proxy = self._cluster.node, self._cluster.proxy
        jump = ["ssh", *self._options, "-p", str(proxy.ssh_port), f"{LOGIN}@localhost"]
        through = " ".join([*jump, "-s", f"proxy:localhost:{node.node_port}"])
        return ["ssh", *self._options, "-p", str(node.node_port), "-o", f"ProxyCommand={through}", f"{LOGIN}@localhost"]

    def gets_in(self) -> bool:
        """Tell whether a new connection through the proxy to the node works."""
        done = subprocess.run(
            [*self.ssh, "echo", "in"], stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, check=False
        )
        return done.stdout == b"in\n"

    @contextmanager
    def session(self) -> Iterator[subprocess.Popen[bytes]]:
        """Yield a session that says again what is said to it."""
        with subprocess.Popen([*self.ssh, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                yield process
            finally:
                process.kill()


def answers(session: subprocess.Popen[bytes], word: str) -> bool:
    """Tell whether a session goes on."""
    assert session.stdin is not None
    assert session.stdout is not None
    session.stdin.write(f"{word}\n".encode())
    session.stdin.flush()
    return session.stdout.readline() == f"{word}\n".encode()


def test_by_hand(cluster: Cluster) -> None:
    """Sessions go on through all phases, and new ones come in each; at the end the old keys are nowhere any more."""
    before = authorities(cluster)
    secrets = [each.signer.key.to_openssh().splitlines()[2] for each in (before.user, before.host)]
    old = Joe(cluster, "old")
    old.believe()
    with old.session() as session:
        assert answers(session, "standby")
        for phase in (Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS):
            go(cluster, phase)
            old.believe()
            assert answers(session, phase)
            assert old.gets_in(), phase
            assert all(secret in records(cluster) for secret in secrets)
        new = Joe(cluster, "new")
        new.believe()
        assert new.gets_in()
        go(cluster, Phase.STANDBY)
        assert answers(session, "standby again")
        assert not old.gets_in()
        new.believe()
        assert new.gets_in()
    after = authorities(cluster)
    assert (len(after.user.generations), len(after.host.generations)) == (1, 1)
    assert after.user.signer.key.public != before.user.signer.key.public
    assert not any(secret in records(cluster) for secret in secrets)
    listed = cluster.pair.two.tctl("auth", "ls").stdout
    assert after.host.signer.key.public.fingerprint in listed
    assert before.host.signer.key.public.fingerprint not in listed


def test_back(cluster: Cluster) -> None:
    """What the new key signed is good until everybody has gone back, and then no more; the old key signs as before."""
    before = authorities(cluster)
    old = Joe(cluster, "stayed")
    go(cluster, Phase.INIT)
    go(cluster, Phase.UPDATE_CLIENTS)
    new = Joe(cluster, "went")
    go(cluster, Phase.ROLLBACK)
    for each in (old, new):
        each.believe()
        assert each.gets_in()
    go(cluster, Phase.STANDBY)
    old.believe()
    assert old.gets_in()
    new.believe()
    assert not new.gets_in()
    assert authorities(cluster).host.public == before.host.public


def test_by_itself_while_an_auth_server_is_killed(on_etcd: Cluster) -> None:
    """What one auth server began, both go on with; one that is killed amid it takes its place again."""
    cluster = on_etcd
    before = authorities(cluster)
    done = cluster.pair.two.tctl("auth", "rotate", "--grace-period=0")
    cluster.pair.two.signal(signal.SIGKILL)
    cluster.pair.two.wait()
    assert done.returncode == 0, done.stderr
    cluster.pair.two.start()

    def is_over() -> bool:
        return authorities(cluster).host.active != before.host.active and all_follow(cluster.pair.two, Phase.STANDBY)

    wait_until(is_over, "the rotation does not come to its end")
    joe = Joe(cluster, "after")
    joe.believe()
    assert joe.gets_in()
    steps = [(event["type"], event["phase"]) for event in cluster.events("ca.rotated")]
    last = [(kind, str(phase)) for kind in ("user", "host") for phase in Phase if phase is not Phase.ROLLBACK]
    assert sorted(steps) == sorted(last)
