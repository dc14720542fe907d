"""Events of nodes and proxies outlive kill -9: taken to the own disk first, and brought to auth from there in order."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.integration.node_of_its_own.conftest import LOGIN, TOKEN
from tests.servers.people import certify
from tests.servers.sshclient import Client, events, wait_until
from tests.servers.teleport import Teleport


def waiting(member: Teleport, role: str) -> list[dict[str, Any]]:
    """Return the events on a member's disk, those that auth has too where they were not deleted yet."""
    files = sorted((member.data_dir / "outbox" / role).glob("*.events"))
    return [json.loads(line) for path in files for line in path.read_bytes().splitlines()]


def told(auth: Teleport) -> dict[str, str]:
    """Return the commands that auth has logged, in their order, by uid."""
    return {str(event["uid"]): str(event["command"]) for event in events(auth, "exec") if "lost" not in event}


def test_a_node_that_is_killed_while_auth_is_away(auth: Teleport, node: Teleport, joe: Client) -> None:
    """Twice: what it had seen arrives once auth is back, in order and before what its successor sees."""
    kept = node.data_dir / "node.people.json"
    wait_until(lambda: kept.exists() and "joe" in kept.read_text())
    auth.process.kill()
    commands = [f"echo {number}" for number in range(6)]
    for command in commands[:3]:
        assert joe.run(command).returncode == 0
    node.process.kill()
    node.start()
    for command in commands[3:]:
        assert joe.run(command).returncode == 0
    node.process.kill()
    on_disk = [event["fields"]["command"] for event in waiting(node, "node") if event["event"] == "exec"]
    assert on_disk == commands
    assert told(auth) == {}
    auth.start()
    node.start()
    wait_until(
        lambda: len(told(auth)) >= len(commands),
        "events are missing",
    )
    assert list(told(auth).values()) == commands
    auth_logins = [event for event in events(auth, "auth") if event.get("server_id") and event.get("user") == "joe"]
    assert len({event["uid"] for event in auth_logins}) == len(commands)
    assert events(auth, "audit.lost") == []
    assert auth.tctl("audit", "verify").returncode == 0


@pytest.mark.parametrize("seed", range(2))
def test_a_node_that_is_killed_at_any_moment(auth: Teleport, node: Teleport, joe: Client, seed: int) -> None:
    """Each command whose end somebody has seen is in the log."""
    rng = random.Random(seed)
    seen: list[str] = []
    over = threading.Event()

    def work(name: str) -> None:
        number = 0
        while not over.is_set():
            number += 1
            command = f"echo {name}-{number}"
            if joe.run(command).returncode == 0:
                seen.append(command)

    workers = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    try:
        for _ in range(3):
            before, more = len(seen), rng.randint(1, 12)
            wait_until(lambda before=before, more=more: len(seen) >= before + more, "no command ends")  # type: ignore[misc]
            node.process.kill()
            node.start()
    finally:
        over.set()
        for worker in workers:
            worker.join()
    wait_until(lambda: set(seen) <= set(told(auth).values()), f"missing: {set(seen) - set(told(auth).values())}")
    assert len(seen) == len(set(seen))


def test_a_proxy_that_is_killed_while_auth_is_away(auth: Teleport, tmp_path: Path) -> None:
    """That somebody was refused is not forgotten."""
    mallory = certify(auth, "mallory", [LOGIN])
    proxy = Teleport(tmp_path / "proxy", ("proxy",), auth_servers=[auth.auth_address], token=TOKEN)
    with proxy.start():
        auth.process.kill()
        login = ["ssh", *mallory.ssh_options(tmp_path), "-p", str(proxy.ssh_port), "mallory@localhost", "true"]
        assert subprocess.run(login, capture_output=True, timeout=60, check=False).returncode == 255
        wait_until(lambda: "mallory" in json.dumps(waiting(proxy, "proxy")), "the proxy has not noticed")
        proxy.process.kill()
        auth.start()
        assert refused(auth, "mallory") == []
        proxy.start()
        wait_until(lambda: len(refused(auth, "mallory")) == 1, "it is forgotten")


def refused(auth: Teleport, name: str) -> list[dict[str, object]]:
    """Return the logins of somebody that were refused, as auth has logged them."""
    return [event for event in events(auth, "auth") if event.get("user") == name and event["success"] == "false"]
