"""A cluster of four processes, on any storage, and what has to be true of it after some of them were broken."""

from __future__ import annotations

import getpass
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from runtime.audit.recording import verify
from tests.servers.auth_pair import TOKEN, AuthPair, running_store
from tests.servers.people import certify, declare, user
from tests.servers.sshclient import wait_until
from tests.servers.teleport import Teleport
from tests.servers.workload import Run, Workload

LOGIN = getpass.getuser()
SETTLED_SECONDS = 20.0
"""How long events may take to be in the one view, once their session is over."""


class Cluster:
    """Two auth servers, a proxy and a node, each a process of its own."""

    def __init__(self, folder: Path, store: str, stack: ExitStack) -> None:
        self.pair = AuthPair(folder, stack.enter_context(running_store(store, folder)))
        stack.callback(self.pair.stop)
        self.pair.start()
        declare(self.pair.one, user("joe", [LOGIN]))
        servers, token = [server.auth_address for server in self.pair.both], TOKEN.partition(":")[2]
        self.proxy, self.node = (
            stack.enter_context(Teleport(folder / role, [role], auth_servers=servers, token=token))
            for role in ("proxy", "node")
        )
        for member in (self.proxy, self.node):
            member.launch()
        for member in (self.proxy, self.node):
            member.wait_for_log("ready: ")
        joe = certify(self.pair.one, "joe", [LOGIN], storage=self.pair.store.options)
        self.ssh = ("ssh", *map(str, joe.ssh_options(folder / "joe")), "-p", str(self.node.node_port))
        """The program and its options with which joe reaches the node."""

    @property
    def through_proxy(self) -> tuple[str, ...]:
        """The same through the proxy."""
        jump = " ".join((*self.ssh[:-1], str(self.proxy.ssh_port)))
        to = f"{LOGIN}@localhost -s proxy:localhost:{self.node.node_port}"
        return (*self.ssh, "-o", f"ProxyCommand={jump} {to}")

    def events(self, *types: str) -> list[dict[str, Any]]:
        """Return what `tctl events ls` shows."""
        done = self.pair.two.tctl("events", "ls", "--format=json", *(f"--type={kind}" for kind in types))
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def recordings(self) -> dict[str, dict[str, Any]]:
        """Return what `tctl recordings ls` shows, by session."""
        done = self.pair.two.tctl("recordings", "ls", "--format=json")
        assert done.returncode == 0, done.stderr
        return {entry["session"]["sid"]: entry for entry in json.loads(done.stdout)}

    def running(self) -> list[object]:
        """Return what `tctl sessions ls` shows."""
        done = self.pair.two.tctl("sessions", "ls", "--format=json")
        assert done.returncode == 0, done.stderr
        found: list[object] = json.loads(done.stdout)
        return found

    def files_of(self, entry: dict[str, Any]) -> tuple[Path, Path]:
        """Return log and bytes of a recording, where the auth server keeps them that has them."""
        (server,) = (server for server in self.pair.both if server.auth_address == entry["auth"])
        folder = server.data_dir / "log" / "sessions" / "default"
        sid = entry["session"]["sid"]
        return folder / f"{sid}.session.log", folder / f"{sid}.session.bytes"


@contextmanager
def running_cluster(folder: Path, store: str) -> Iterator[Cluster]:
    """Run a cluster on a kind of storage."""
    with ExitStack() as stack:
        yield Cluster(folder, store, stack)


@contextmanager
def workload(ssh: tuple[str, ...], folder: Path, rng: random.Random) -> Iterator[Workload]:
    """Yield sessions to be run; they are ended at the end."""
    folder.mkdir()
    made = Workload(ssh, f"{LOGIN}@localhost", folder, rng)
    try:
        yield made
    finally:
        made.stop()


def settled(cluster: Cluster) -> None:
    """Wait until all is with auth, and what was lost is known."""
    spool = cluster.node.data_dir / "spool"
    wait_until(lambda: not list(spool.iterdir()), f"auth has not got {sorted(spool.iterdir())}")
    wait_until(lambda: not cluster.running(), "a session is listed for ever")


def check(cluster: Cluster, runs: list[Run]) -> None:
    """Check that what people have seen is in the log and in recordings, and that both are whole."""
    settled(cluster)
    seen = {run.sid: run for run in runs if run.sid}
    check_events(cluster, seen)
    recordings = cluster.recordings()
    for sid, run in seen.items():
        assert sid in recordings, f"there is no recording of {run.tag} ({sid})"
        recorded = cluster.files_of(recordings[sid])[1].read_bytes()
        # A login's files may say something on stderr first, which is recorded too.
        assert run.seen in recorded, f"{run.tag} ({sid}): seen, and not recorded"
        if run.whole:
            assert run.expected.replace(b"\n", b"\r\n" if run.terminal else b"\n") in recorded
    for sid, entry in recordings.items():
        assert entry["over"], sid
        log, printed = cluster.files_of(entry)
        with log.open("rb") as lines, printed.open("rb") as data:
            assert verify(lines, data) == [], sid
    for server in cluster.pair.both:
        done = server.tctl("audit", "verify", "--from-start")
        problems = [line for line in done.stderr.splitlines() if ".log:" in line and "a write was cut off" not in line]
        assert problems == [], done.stderr


def check_events(cluster: Cluster, seen: dict[str, Run]) -> None:
    """Check that each session has one start and one end, each command one event, by the one view over all servers."""

    def of(kind: str) -> Counter[str]:
        return Counter(event["sid"] for event in events if event["event"] == kind)

    interactive = {sid for sid, run in seen.items() if run.shell or run.terminal}
    commands = {sid for sid, run in seen.items() if not run.shell}
    events: list[dict[str, Any]] = []

    def missing() -> list[str]:
        events[:] = cluster.events("session.start", "session.end", "exec")
        starts, ends, execs = of("session.start"), of("session.end"), of("exec")
        return [
            *(f"{sid} has no start" for sid in interactive - set(starts)),
            *(f"{sid} has no end" for sid in set(starts) - set(ends)),
            *(f"{sid} has no exec" for sid in commands - set(execs)),
        ]

    deadline = time.monotonic() + SETTLED_SECONDS
    while missing() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert missing() == []
    for kind in ("session.start", "session.end", "exec"):
        assert {sid: count for sid, count in of(kind).items() if count != 1} == {}, kind
    assert set(of("session.end")) == set(of("session.start"))
    for event in events:
        run = seen.get(event["sid"])
        if event["event"] == "exec" and run is not None and run.whole and not event.get("lost"):
            assert event["exitCode"] == run.code
