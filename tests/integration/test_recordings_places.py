"""Two auth servers, and a recording on the disk of one of them or in an object store: everybody plays it."""

from __future__ import annotations

import getpass
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.servers import people
from tests.servers.auth_pair import TOKEN, AuthPair, running_store
from tests.servers.s3 import CREDENTIALS, S3
from tests.servers.teleport import Teleport, run

LOGIN = getpass.getuser()
SECONDS = 30.0
COMMAND = "seq 1000; echo bye"
SHOWN = "".join(f"{number}\n" for number in range(1, 1001)) + "bye\n"


class Cluster:
    """Two auth servers, a process with node and proxy, and joe, who is logged in."""

    def __init__(self, folder: Path, stack: ExitStack, environment: dict[str, str], audit: dict[str, Any]) -> None:
        self.pair = AuthPair(folder, stack.enter_context(running_store("sqlite", folder)))
        self._environment = environment
        stack.callback(self.pair.stop)
        for server in self.pair.both:
            server.configure({"audit": audit})
            server.start(env=environment)
        servers = [server.auth_address for server in self.pair.both]
        self.rest = Teleport(folder / "rest", ["node", "proxy"], auth_servers=servers, token=TOKEN.partition(":")[2])
        stack.callback(self.rest.stop)
        self.rest.start()
        people.declare(self.pair.one, people.user("joe", [LOGIN]))
        self.joe = people.certify(self.pair.one, "joe", [LOGIN], storage=self.pair.store.options)
        self.home = folder / "home"
        self.joe.log_in(self.home, self.rest)
        self._keys = folder / "keys"

    def session(self) -> str:
        """Run a command on the node, and return the session's id once its recording is over."""
        options = self.joe.ssh_options(self._keys)
        words = ["ssh", *options, "-p", str(self.rest.node_port), f"{LOGIN}@localhost", COMMAND]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == SHOWN, done.stderr
        deadline = time.monotonic() + SECONDS
        while not (found := [entry for entry in self.listed() if entry["over"]]):
            assert time.monotonic() < deadline, self.listed()
            time.sleep(0.1)
        return str(found[0]["session"]["sid"])

    def listed(self) -> list[dict[str, Any]]:
        """Return what recordings there are."""
        entries: list[dict[str, Any]] = json.loads(self.pair.one.tctl("recordings", "ls", "--format=json").stdout)
        return entries

    def whose(self, sid: str) -> tuple[Teleport, Teleport]:
        """Return the auth server that took a recording, and the other."""
        (address,) = {entry["auth"] for entry in self.listed() if entry["session"]["sid"] == sid}
        one, two = self.pair.both
        return (one, two) if one.auth_address == address else (two, one)

    def play(self, sid: str) -> subprocess.CompletedProcess[str]:
        """Play a recording as joe."""
        return run("tsh", "play", sid, env={"TELEPORT_HOME": str(self.home)})

    def restart(self, server: Teleport) -> None:
        """Start an auth server again."""
        server.start(env=self._environment)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """End what a test started."""
    with ExitStack() as stack:
        yield stack


def exported(server: Teleport, sid: str) -> subprocess.CompletedProcess[str]:
    """Return the output in a recording as an auth server gives it to its administrator."""
    return server.tctl("recordings", "export", sid, "--format=bytes")


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, str]]:
    """Run a cluster without an object store, and return it with a session that was recorded."""
    with ExitStack() as stack:
        cluster = Cluster(tmp_path_factory.mktemp("places"), stack, {}, {})
        yield cluster, cluster.session()


def test_on_the_disk_of_another_auth_server(on_disk: tuple[Cluster, str]) -> None:
    """Each of the two gives it, by asking the one that has it."""
    cluster, sid = on_disk
    owner, other = cluster.whose(sid)
    assert not (other.data_dir / "log" / "sessions" / "default" / f"{sid}.session.bytes").exists()
    for server in (owner, other):
        assert exported(server, sid).stdout == SHOWN
    assert cluster.play(sid).stdout == SHOWN


def test_an_auth_server_that_says_nothing(on_disk: tuple[Cluster, str]) -> None:
    """Whoever asks another one hears that, before giving up; and gets the recording once it goes on."""
    cluster, sid = on_disk
    owner, other = cluster.whose(sid)
    owner.signal(signal.SIGSTOP)
    try:
        assert f"is on the disk of auth server {owner.auth_address}" in exported(other, sid).stderr
    finally:
        owner.signal(signal.SIGCONT)
    assert exported(other, sid).stdout == SHOWN


def test_an_auth_server_that_is_away(on_disk: tuple[Cluster, str]) -> None:
    """It is said which one that is, and what to do; once it is back, all is well."""
    cluster, sid = on_disk
    owner, other = cluster.whose(sid)
    owner.stop()
    try:
        for done in (exported(other, sid), cluster.play(sid)):
            assert done.returncode == 1
            assert f"is on the disk of auth server {owner.auth_address}" in done.stderr
            assert "Start that one again" in done.stderr
    finally:
        cluster.restart(owner)
    assert cluster.play(sid).stdout == SHOWN


def test_in_an_object_store(tmp_path: Path, stack: ExitStack) -> None:
    """Once it is over it goes there, and every auth server plays it, also when the one that took it is gone."""
    store = stack.enter_context(S3(tmp_path / "s3"))
    cluster = Cluster(tmp_path, stack, CREDENTIALS, {"recordings_uri": store.uri()})
    sid = cluster.session()
    owner, other = cluster.whose(sid)
    deadline = time.monotonic() + SECONDS
    kept = owner.data_dir / "log" / "sessions" / "default"
    while list(kept.iterdir()):
        assert time.monotonic() < deadline, owner.log()
        time.sleep(0.1)
    assert store.names() == {f"teleport/{sid}.session.{part}" for part in ("bytes", "log", "index")}
    owner.stop()
    assert exported(other, sid).stdout == SHOWN
    assert cluster.play(sid).stdout == SHOWN
    store.kill()
    done = cluster.play(sid)
    assert done.returncode == 1
    assert "s3://recordings/teleport/ cannot be reached" in done.stderr


@pytest.mark.parametrize(
    ("uri", "environment", "said"),
    [
        ("", {"AWS_SECRET_ACCESS_KEY": "another"}, "does not accept the credentials: SignatureDoesNotMatch"),
        ("s3://nowhere/x?region=eu-west-1&endpoint={endpoint}", {}, "there is no bucket for s3://nowhere/x/"),
        ("s3://Bad_Bucket/a b?regoin=x", {}, "is no bucket's name"),
    ],
)
def test_a_store_that_cannot_be_right(
    tmp_path: Path, stack: ExitStack, uri: str, environment: dict[str, str], said: str
) -> None:
    """Auth does not start, and says why in one error."""
    store = stack.enter_context(S3(tmp_path / "s3"))
    uri = uri.format(endpoint=store.endpoint) or store.uri()
    auth = Teleport(tmp_path / "auth", config={"audit": {"recordings_uri": uri}})
    stack.callback(auth.stop)
    auth.launch(env={**CREDENTIALS, **environment})
    assert auth.wait() != 0
    assert said in auth.log()
    if "regoin" in uri:
        assert "the key 'regoin' is not known" in auth.log()
    assert "secret-key-of-the-tests" not in auth.log()


def test_a_store_that_is_away_does_not_keep_people_out(tmp_path: Path, stack: ExitStack) -> None:
    """Auth starts, says that recordings wait, and brings them once it is back; metrics count them."""
    store = S3(tmp_path / "s3")
    stack.push(store)
    cluster = Cluster(tmp_path, stack, CREDENTIALS, {"recordings_uri": store.uri()})
    assert "recordings wait on the disk of this auth server" in cluster.pair.one.log()
    sid = cluster.session()
    assert cluster.play(sid).stdout == SHOWN
    store.start()
    deadline = time.monotonic() + 2 * SECONDS
    while len(store.names()) < 3:
        assert time.monotonic() < deadline, cluster.whose(sid)[0].log()
        time.sleep(0.1)
    assert cluster.play(sid).stdout == SHOWN
