"""Sessions that run: listed, ended through either of two auth servers, and ended in the log when parts are killed."""

from __future__ import annotations

import getpass
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from runtime.backend.options import SqliteOptions
from tests.servers.auth_pair import TOKEN, AuthPair, Store
from tests.servers.people import certify, declare, user
from tests.servers.sshclient import Client, Terminal, events, wait_until
from tests.servers.teleport import Teleport

LOGIN = getpass.getuser()
EFFECT_SECONDS = 5.0
"""How long a kill may take, from the order to the log."""
MESSAGE = "this session was ended by an administrator"


class Cluster:
    """Two auth servers on one storage, and a node that was told of the first of them."""

    def __init__(self, folder: Path) -> None:
        shared = folder / "one" / "data" / "backend.sqlite"  # where a user's certificate is made from
        shared.parent.mkdir(mode=0o700, parents=True)
        section: dict[str, object] = {"type": "sqlite", "path": str(shared)}
        self.pair = AuthPair(folder, Store("sqlite", section, SqliteOptions(str(shared))))
        self.node = Teleport(
            folder / "node",
            ["node"],
            auth_servers=[self.pair.one.auth_address],
            token=TOKEN.partition(":")[2],
        )

    def listed(self, server: Teleport) -> list[dict[str, Any]]:
        """Return what tctl lists at a server."""
        done = server.tctl("sessions", "ls", "--format=json")
        assert done.returncode == 0, done.stderr
        entries: list[dict[str, Any]] = json.loads(done.stdout)
        return entries

    def until_listed(self, command: str) -> str:
        """Wait until a command is listed, by its shell's command or "" for a shell; return its session's id."""
        found: list[str] = []

        def looked() -> bool:
            sessions = [entry["session"] for entry in self.listed(self.pair.two)]
            found[:] = [each["sid"] for each in sessions if each["command"] == command]
            return bool(found)

        wait_until(looked, f"{command!r} is not listed")
        (sid,) = found
        return sid

    def events(self, kind: str, sid: str) -> list[dict[str, object]]:
        """Return the events of a session in both logs."""
        return [event for server in self.pair.both for event in events(server, kind) if event["sid"] == sid]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Run two auth servers and a node."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.pair.start()
        declare(cluster.pair.one, user("joe", [LOGIN]))
        with cluster.node:
            cluster.node.start()
            known = cluster.node.data_dir / "authservers.json"
            wait_until(
                lambda: all(server.auth_address in known.read_text() for server in cluster.pair.both),
                "the node has not heard of the second auth server",
            )
            yield cluster
    finally:
        cluster.pair.stop()


@pytest.fixture
def joe(cluster: Cluster, tmp_path: Path) -> Client:
    """Return the ssh of joe."""
    return Client(cluster.node, certify(cluster.pair.one, "joe", [LOGIN]), tmp_path, LOGIN)


def begun(terminal: Terminal) -> None:
    """Wait until a shell in a terminal answers."""
    terminal.type("echo be''gun\n")
    terminal.expect("begun")


def test_a_shell_is_listed_and_ended_through_the_other_server(cluster: Cluster, joe: Client) -> None:
    """The person is told, ssh ends; the log has who did it, and one end; all of that within five seconds."""
    with joe.terminal() as terminal:
        begun(terminal)
        sid = cluster.until_listed("")
        table = cluster.pair.two.tctl("sessions", "ls").stdout.splitlines()
        titles = ["Session", "ID", "User", "Login", "Node", "Started", "(UTC)", "Joined", "Command"]
        assert table[0].split() == titles
        assert table[2].split()[:4] == [sid, "joe", LOGIN, "localhost"]
        ordered = time.monotonic()
        done = cluster.pair.two.tctl("sessions", "kill", sid)
        took = time.monotonic() - ordered
        assert (done.returncode, done.stderr) == (0, f"session {sid} has ended\n")
        terminal.expect(MESSAGE)
        assert terminal.wait() == 255
    assert took < EFFECT_SECONDS
    (killed,) = cluster.events("session.killed", sid)
    assert str(killed["by"]).startswith("admin ")
    assert (killed["user"], killed["login"]) == ("joe", LOGIN)
    (end,) = cluster.events("session.end", sid)
    assert end["reason"] == MESSAGE
    assert "lost" not in end
    assert cluster.listed(cluster.pair.one) == []


def test_a_command_is_listed_and_ended(cluster: Cluster, joe: Client) -> None:
    """Another one that runs beside it goes on."""
    with joe.running("sleep 301") as one, joe.running("sleep 302") as two:
        sid, other = cluster.until_listed("sleep 301"), cluster.until_listed("sleep 302")
        assert cluster.pair.one.tctl("sessions", "kill", sid).returncode == 0
        assert MESSAGE.encode() in one.communicate(timeout=30)[1]
        assert one.returncode == 255
        assert two.poll() is None
        assert [entry["session"]["sid"] for entry in cluster.listed(cluster.pair.two)] == [other]
    (event,) = cluster.events("exec", sid)
    assert (event["command"], event["exitError"]) == ("sleep 301", MESSAGE)
    wait_until(lambda: cluster.listed(cluster.pair.two) == [], "the other is listed for ever")


def test_several_at_once_and_one_that_is_not_there(cluster: Cluster, joe: Client) -> None:
    """Those that run are ended; the others are named, with 1."""
    nowhere = str(uuid.uuid4())
    with joe.running("sleep 303") as one, joe.running("sleep 304") as two:
        sids = [cluster.until_listed(f"sleep {seconds}") for seconds in (303, 304)]
        done = cluster.pair.one.tctl("sessions", "kill", sids[0], nowhere, sids[1], sids[1])
        assert done.returncode == 1
        assert f"error: no session {nowhere} is running\n" in done.stderr
        assert "hint: See tctl sessions ls" in done.stderr
        assert sorted(line for line in done.stderr.splitlines() if "has ended" in line) == sorted(
            f"session {sid} has ended" for sid in sids
        )
        for process in (one, two):
            assert process.wait(30) == 255
    assert cluster.events("session.killed", nowhere) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([str(uuid.UUID(int=7))], 1, "no session 00000000-0000-0000-0000-000000000007 is running"),
        (["../x"], 2, "is not a valid UUID"),
        ([], 2, "Missing argument 'SID...'"),
    ],
)
def test_what_cannot_be_ended(cluster: Cluster, arguments: list[str], code: int, message: str) -> None:
    """It is said what is wrong, by the exit code too."""
    done = cluster.pair.one.tctl("sessions", "kill", *arguments)
    assert done.returncode == code
    assert message in done.stderr


def test_an_auth_server_is_killed(cluster: Cluster, joe: Client) -> None:
    """The session goes on, is listed by the other one and ends there: one end, which is not lost."""
    with joe.terminal() as terminal:
        begun(terminal)
        sid = cluster.until_listed("")
        cluster.pair.one.process.kill()
        terminal.type("exit 3\n")
        assert terminal.wait() == 3
    wait_until(lambda: cluster.events("session.end", sid), "there is no end")
    wait_until(lambda: cluster.listed(cluster.pair.two) == [], "it is listed for ever")
    cluster.pair.one.start()
    assert [end.get("lost") for end in cluster.events("session.end", sid)] == [None]


def test_a_node_is_killed_and_started_again(cluster: Cluster, joe: Client) -> None:
    """What it ran is ended in the log at once, as lost: a terminal with session.end, a command with exec."""
    with joe.terminal() as terminal, joe.running("sleep 305"):
        begun(terminal)
        shell, command = cluster.until_listed(""), cluster.until_listed("sleep 305")
        cluster.node.process.kill()
        assert terminal.wait() == 255
    assert cluster.events("session.end", shell) == []
    cluster.node.start()
    wait_until(lambda: cluster.listed(cluster.pair.two) == [], "they are listed for ever")
    (end,) = cluster.events("session.end", shell)
    assert (end["user"], end["login"], end["lost"]) == ("joe", LOGIN, True)
    (event,) = cluster.events("exec", command)
    assert (event["command"], event["lost"], event["exitCode"]) == ("sleep 305", True, 255)


@pytest.mark.parametrize("part", ["node", "auth"])
@pytest.mark.parametrize("seed", range(3))
def test_every_start_has_one_end(cluster: Cluster, joe: Client, part: str, seed: int) -> None:
    """Killed with -9 at a random moment of many sessions that come and go, and started again."""
    rng = random.Random(seed)
    killed = cluster.node if part == "node" else cluster.pair.one

    def told() -> tuple[Counter[str], Counter[str]]:
        starts, ends = (
            {str(event["uid"]): str(event["sid"]) for server in cluster.pair.both for event in events(server, kind)}
            for kind in ("session.start", "session.end")
        )  # by uid: what a killed server had taken, the other is told again
        return Counter(starts.values()), Counter(ends.values())

    before = set(told()[0])
    with ExitStack() as stack:
        running = []
        for _ in range(6):
            command = f"sleep {rng.uniform(0, 2):.2f}"
            running.append(stack.enter_context(joe.running(command, options=("-tt",))))
            time.sleep(rng.uniform(0, 0.3))
        wait_until(lambda: set(told()[0]) - before, "no session has begun")
        time.sleep(rng.uniform(0, 1.5))
        killed.process.kill()
        for process in running:
            process.wait(60)
    killed.start()

    wait_until(lambda: len(set.difference(*map(set, told()))) == 0, "a session has no end")
    wait_until(lambda: cluster.listed(cluster.pair.two) == [], "one is listed for ever")
    starts, ends = told()
    assert starts == ends
    assert set(starts.values()) == {1}
