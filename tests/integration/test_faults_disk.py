"""Full disks, of the node and of auth: sessions, events and recordings, while there is no room and afterwards."""

from __future__ import annotations

import getpass
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtime.audit.recording import verify
from runtime.backend.options import SqliteOptions
from tests.servers.people import certify
from tests.servers.small_disk import SmallDisk
from tests.servers.sshclient import DEADLINE, Client, wait_until
from tests.servers.teleport import Teleport

LOGIN = getpass.getuser()
TOKEN = "0123456789abcdef0123456789abcdef"
ON_AND_ON = "i=0; while [ ! -e {stop} ]; do i=$((i+1)); echo line $i; sleep 0.02; done; echo over; exit 5"
NODE_KIB, AUTH_KIB = 2 * 1024, 24 * 1024


class Cluster:
    """Auth and a node, one of them on a small disk."""

    def __init__(self, folder: Path, small: str, recording: str = "strict") -> None:
        self.auth = Teleport(folder / "auth", config={"auth_service": {"tokens": [f"node:{TOKEN}"]}})
        self.node = Teleport(
            folder / "node",
            ["node"],
            auth_servers=[self.auth.auth_address],
            token=TOKEN,
            config={"ssh_service": {"recording": recording}},
        )
        self.small = {"auth": self.auth, "node": self.node}[small]
        self.disk = SmallDisk(self.small.data_dir, AUTH_KIB if small == "auth" else NODE_KIB)
        self.small.prefix = self.disk.prefix
        self._folder = folder

    def begin(self) -> Client:
        """Start both, and return the ssh of joe."""
        self.auth.start()
        done = self.run_tctl("users", "add", "joe", LOGIN)
        assert done.returncode == 0, done.stderr
        self.node.start()
        copy = self._folder / "backend"  # SQLite itself would look for the file outside of the namespace
        copy.mkdir()
        for path in self.path(self.auth).glob("backend.sqlite*"):
            shutil.copy(path, copy)
        storage = SqliteOptions(str(copy / "backend.sqlite"))
        return Client(self.node, certify(self.auth, "joe", [LOGIN], storage=storage), self._folder / "joe", LOGIN)

    def stop(self) -> None:
        """End both."""
        self.node.stop()
        self.auth.stop()

    def fill(self) -> Path:
        """Fill the small disk; return the file to remove to make room."""
        return self.disk.fill(self.small.process.pid)

    def path(self, server: Teleport, *parts: str) -> Path:
        """Return where we see a path in data_dir."""
        path = server.data_dir.joinpath(*parts)
        return self.disk.seen(server.process.pid, path) if server is self.small else path

    def run_tctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run tctl to its end, from outside of the namespace."""
        identity = str(self.path(self.auth, "admin.identity"))
        return self.auth.tctl(*arguments, f"--identity={identity}", f"--auth-server={self.auth.auth_address}")

    def events(self, kind: str, **fields: str) -> list[dict[str, Any]]:
        """Return the events of a type that `tctl events ls` shows, and that have these fields."""
        done = self.run_tctl("events", "ls", "--format=json", f"--type={kind}")
        assert done.returncode == 0, done.stderr
        found = map(json.loads, done.stdout.splitlines())
        return [event for event in found if fields.items() <= event.items()]

    def recording_of(self, command: str) -> str:
        """Return the session of a command, once all of its recording is with auth."""
        found: list[str] = []

        def there() -> bool:
            done = self.run_tctl("recordings", "ls", "--format=json")
            assert done.returncode == 0, done.stderr
            found[:] = [
                entry["session"]["sid"]
                for entry in json.loads(done.stdout)
                if entry["over"] and entry["session"]["command"] == command
            ]
            return bool(found)

        wait_until(there, f"{command} is not recorded")
        (sid,) = found
        return sid

    def recorded(self, sid: str) -> tuple[bytes, list[dict[str, Any]]]:
        """Return what a session printed, and the lines of its log, after both were verified."""
        kept = self.path(self.auth, "log", "sessions", "default")
        log, printed = (kept / f"{sid}.session.{part}" for part in ("log", "bytes"))
        with log.open("rb") as lines, printed.open("rb") as data:
            assert verify(lines, data) == []
        return printed.read_bytes(), [json.loads(line) for line in log.read_bytes().splitlines()]

    def verify_log(self) -> None:
        """Check the event log of auth."""
        done = self.run_tctl("audit", "verify", "--from-start", str(self.path(self.auth, "log")))
        assert (done.returncode, done.stderr) == (0, "")


@contextmanager
def running(folder: Path, small: str, recording: str = "strict") -> Iterator[tuple[Cluster, Client]]:
    """Run a cluster."""
    cluster = Cluster(folder, small, recording)
    try:
        yield cluster, cluster.begin()
    finally:
        cluster.stop()


def lines_of(process: subprocess.Popen[bytes], count: int) -> bytes:
    """Read so many lines of what a session prints."""
    assert process.stdout is not None
    return b"".join(process.stdout.readline() for _ in range(count))


def test_a_session_may_not_go_on_unrecorded(tmp_path: Path) -> None:
    """Strict: it ends, and says why; none begins; events still arrive; with room again all is as before."""
    command = ON_AND_ON.format(stop=tmp_path / "stop")
    with running(tmp_path, "node") as (cluster, joe), joe.running(command) as session:
        shown = lines_of(session, 5)
        room = cluster.fill()
        rest, told = session.communicate(timeout=DEADLINE)
        assert session.returncode == 255
        assert b"may not go on unrecorded" in told
        assert b"No space left on device" in told
        wait_until(lambda: cluster.events("exec", command=command), "the event waits for room")
        printed, log = cluster.recorded(cluster.recording_of(command))
        assert printed == shown + rest
        assert [line["event"] for line in log][-2:] == ["truncated", "session.end"]
        wait_until(lambda: not list(cluster.path(cluster.node, "spool").iterdir()), "auth has it, and the disk too")
        cluster.fill()  # what auth has is room again
        refused = joe.run("echo never")
        assert (refused.returncode, refused.stdout) == (255, b"")
        assert b"No space left on device" in refused.stderr
        wait_until(lambda: cluster.events("session.rejected"), "the event waits for room")
        room.unlink()
        assert joe.run("echo again").stdout == b"again\n"
        assert cluster.recorded(cluster.recording_of("echo again"))[0] == b"again\n"
        wait_until(lambda: not list(cluster.path(cluster.node, "spool").iterdir()), "something is left in the spool")
        assert list(cluster.path(cluster.node, "running").iterdir()) == []
        cluster.verify_log()


def test_a_session_goes_on_unrecorded(tmp_path: Path) -> None:
    """Best effort: its recording says where it stops, and why; those that begin meanwhile have none."""
    stop = tmp_path / "stop"
    command = ON_AND_ON.format(stop=stop)
    with running(tmp_path, "node", "best_effort") as (cluster, joe), joe.running(command) as session:
        shown = lines_of(session, 5)
        room = cluster.fill()
        shown += lines_of(session, 50)
        assert joe.run("echo unrecorded").stdout == b"unrecorded\n"
        stop.touch()
        rest, _ = session.communicate(timeout=DEADLINE)
        assert session.returncode == 5
        assert rest.endswith(b"over\n")
        printed, log = cluster.recorded(cluster.recording_of(command))
        assert len(shown + rest) > len(printed) > 0
        assert (shown + rest).startswith(printed)
        (truncated,) = (line for line in log if line["event"] == "truncated")
        assert "No space left on device" in truncated["reason"]
        assert (log[-1]["event"], log[-1]["exitCode"]) == ("session.end", 5)
        for said in (command, "echo unrecorded"):
            wait_until(lambda said=said: cluster.events("exec", command=said), "the event waits for room")  # type: ignore[misc]
        room.unlink()
        assert joe.run("echo again").stdout == b"again\n"
        assert cluster.recorded(cluster.recording_of("echo again"))[0] == b"again\n"
        wait_until(lambda: not list(cluster.path(cluster.node, "spool").iterdir()), "something is left in the spool")
        cluster.verify_log()


def test_auth_has_no_room(tmp_path: Path) -> None:
    """Sessions go on; auth says what is the matter; the node keeps events and recordings, and none is lost."""
    with running(tmp_path, "auth") as (cluster, joe):
        assert joe.run("echo before").stdout == b"before\n"
        cluster.recording_of("echo before")
        room = cluster.fill()
        said = [f"echo {number}; seq 2000" for number in range(5)]
        printed = [joe.run(each) for each in said]
        assert [done.returncode for done in printed] == [0] * 5
        refused = cluster.run_tctl("users", "add", "ann", "ann")
        assert refused.returncode == 1
        assert "disk is full" in refused.stderr or "No space left on device" in refused.stderr
        wait_until(
            lambda: "the disk of data_dir: No space left on device" in cluster.auth.log(), "auth does not say so"
        )
        assert "internal error" not in cluster.node.log()
        room.unlink()
        for command, done in zip(said, printed, strict=True):
            assert cluster.recorded(cluster.recording_of(command))[0] == done.stdout
            wait_until(lambda command=command: cluster.events("exec", command=command), "an event is lost")  # type: ignore[misc]
            (event,) = cluster.events("exec", command=command)
            assert event["exitCode"] == 0
        assert cluster.run_tctl("users", "add", "ann", "ann").returncode == 0
        wait_until(lambda: cluster.events("resource.written", name="ann"))
        wait_until(lambda: not list((cluster.node.data_dir / "spool").iterdir()), "something is left in the spool")
        cluster.verify_log()
