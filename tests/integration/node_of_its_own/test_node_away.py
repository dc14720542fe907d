"""A node whose auth is away, whose spawner has died, or that stops: what goes on, and what people are told."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.integration.node_of_its_own.conftest import LOGIN
from tests.servers.people import certify, declare, role, user
from tests.servers.sshclient import Client, events, wait_until
from tests.servers.teleport import Teleport, admin

STOPPED_SECONDS = 60.0
"""How long the end of a process may take on a busy machine."""


def test_access_goes_on_while_auth_is_away(auth: Teleport, node: Teleport, joe: Client) -> None:
    """With users, roles and trust as last heard, also by a node that starts meanwhile; then events and news arrive."""
    assert joe.run("true").returncode == 0
    kept = node.data_dir / "node.people.json"
    wait_until(lambda: kept.exists() and "joe" in kept.read_text())
    auth.process.kill()

    assert joe.run("echo still here").stdout == b"still here\n"
    node.stop()
    node.start()
    assert "auth is away: users and roles are those of the last time" in node.log()
    assert joe.run("echo after a start").stdout == b"after a start\n"

    auth.start()
    wait_until(lambda: [event for event in events(auth, "exec") if event["command"] == "echo after a start"])
    assert auth.tctl("users", "del", "joe").returncode == 0
    wait_until(lambda: joe.run("true").returncode == 255)


def test_a_node_that_has_heard_nothing_lets_nobody_in(auth: Teleport, node: Teleport, joe: Client) -> None:
    """Without users and roles it decides nothing; it says so, and works once auth is back."""
    node.stop()
    (node.data_dir / "node.people.json").unlink(missing_ok=True)
    auth.process.kill()
    node.start()
    assert "nobody gets in until it is back" in node.log()
    assert "there is no user joe" in joe.run("true").stderr.decode()
    auth.start()
    wait_until(lambda: joe.run("true").returncode == 0)


async def test_labels_of_the_token_override_the_nodes_own(auth: Teleport, tmp_path: Path) -> None:
    """A node cannot talk itself into a role: what its token imposes counts in decisions too."""
    from runtime.api import methods
    from runtime.api.token_messages import TokenRequest

    async with admin(auth) as client:
        token = await client.call(methods.TOKENS_CREATE, TokenRequest(roles=("node",), labels={"env": "prod"}))
    declare(
        auth,
        role("testers", allow={"logins": [LOGIN], "nodeLabels": {"env": ["test"]}}),
        role("keepers", allow={"logins": [LOGIN], "nodeLabels": {"env": ["prod"]}}),
        user("tess", [], ["testers"]),
        user("pat", [], ["keepers"]),
    )
    node = Teleport(
        tmp_path / "node",
        ("node",),
        auth_servers=[auth.auth_address],
        token=token.entry.token,
        config={"ssh_service": {"labels": {"env": "test"}}},
    )
    with node.start():
        tess, pat = (Client(node, certify(auth, name, [LOGIN]), tmp_path / name, LOGIN) for name in ("tess", "pat"))
        assert "no role of user tess allows this node" in tess.run("true").stderr.decode()
        assert pat.run("true").returncode == 0


def test_a_spawner_that_dies_is_replaced(node: Teleport, joe: Client) -> None:
    """Sessions that run are ended with a word; the next one works."""
    with joe.running("echo ready; cat") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"ready\n"
        os.kill(spawner_of(node), signal.SIGKILL)
        assert running.wait(STOPPED_SECONDS) == 255
        assert b"teleport: the node's spawner has ended" in running.stderr.read()
    assert joe.run("echo again").stdout == b"again\n"


def test_a_stop_lets_a_command_finish(node: Teleport, joe: Client) -> None:
    """SIGTERM: no new connections, and what runs may end by itself for a while."""
    with joe.running("echo ready; read x; echo done; exit 4") as running:
        assert running.stdout is not None
        assert running.stdin is not None
        assert running.stdout.readline() == b"ready\n"
        node.process.signal(signal.SIGTERM)
        wait_until(lambda: "SIGTERM: stopping" in node.log())
        wait_until(lambda: joe.run("true").returncode == 255)
        running.stdin.write(b"\n")
        running.stdin.flush()
        assert running.stdout.read() == b"done\n"
        assert running.wait(STOPPED_SECONDS) == 4
    assert node.wait(timeout=STOPPED_SECONDS) == 0


def test_a_stop_ends_what_does_not(auth: Teleport, node: Teleport, joe: Client) -> None:
    """Whoever sits at a terminal is told, twice, and ends with 255; the end of the session is audited."""
    with joe.terminal("echo ready; while :; do sleep 1; done") as terminal:
        terminal.expect("ready")
        began = time.monotonic()
        node.process.signal(signal.SIGTERM)
        terminal.expect("teleport on this node is being stopped: the session ends in 10 s")
        assert terminal.wait() == 255
        assert b"the session ends: teleport on this node is being stopped" in terminal.seen
    assert node.wait(timeout=STOPPED_SECONDS) == 0
    assert time.monotonic() - began < STOPPED_SECONDS
    wait_until(lambda: [event for event in events(auth, "session.end") if "being stopped" in str(event.get("reason"))])


def spawner_of(node: Teleport) -> int:
    """Return the process id of the spawner of a node."""
    children = Path(f"/proc/{node.process.pid}/task/{node.process.pid}/children").read_text().split()
    (found,) = [int(pid) for pid in children if b"spawning" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found
