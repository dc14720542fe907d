"""A cluster with people who may join sessions in different ways, and a shell of joe's to join."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.people import certify, declare, role, user
from tests.servers.sshclient import Terminal, events, wait_until
from tests.servers.sshd import LOGIN
from tests.servers.tsh import Tsh, TshCluster, tsh_cluster

RULES = {"resources": ["session"]}
ROLES = (
    # Takes part: may log in there too.
    role(
        "peer",
        allow={"logins": [LOGIN], "nodeLabels": {"*": ["*"]}, "rules": [{**RULES, "verbs": ["list", "join"]}]},
    ),
    # Watches, and has no login on any node.
    role("auditor", allow={"logins": ["nobody-here"], "rules": [{**RULES, "verbs": ["list", "read"]}]}),
    # May join, and has no login there.
    role("helper", allow={"logins": ["nobody-here"], "rules": [{**RULES, "verbs": ["list", "join"]}]}),
    # Logs in somewhere else, and no more.
    role("x", allow={"logins": ["nobody-here"]}),
    role("plain", allow={"logins": [LOGIN], "nodeLabels": {"*": ["*"]}}),
)
PEOPLE = {"ann": "peer", "eve": "auditor", "hal": "helper", "bob": "plain"}


@dataclass(frozen=True)
class Shared:
    """A cluster, and people who have logged in."""

    cluster: TshCluster
    people: dict[str, Tsh]

    def sid(self, who: str = "joe") -> str:
        """Wait for one session of joe's that can be joined, and return its id."""
        found: list[str] = []

        def looked() -> bool:
            found[:] = [each["sid"] for each in self.listed(who) if each["joinable"]]
            return len(found) == 1

        wait_until(looked, "no session is listed, or more than one")
        return found[0]

    def listed(self, who: str) -> list[dict[str, Any]]:
        """Return what tsh sessions ls tells somebody."""
        done = self.people[who].run("sessions", "ls", "--format=json")
        assert done.returncode == 0, done.stderr
        entries: list[dict[str, Any]] = json.loads(done.stdout)
        return entries

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes of the cluster."""
        found: list[dict[str, Any]] = json.loads(self.people["joe"].run("ls", "--format=json").stdout)
        return found

    def events(self, kind: str, sid: str) -> list[dict[str, object]]:
        """Return the audit events of a session."""
        return [event for event in events(self.cluster.main, kind) if event.get("sid") == sid]

    @contextmanager
    def session(self, node: str = "db1") -> Iterator[tuple[Terminal, str]]:
        """Run a shell of joe's, and yield its terminal and id."""
        wait_until(lambda: not self.listed("joe"), "the session before is still listed")
        with self.people["joe"].terminal("ssh", f"{LOGIN}@{node}") as terminal:
            terminal.type("exec env PS1= PS2= sh\n")
            ready(terminal)
            yield terminal, self.sid()

    @contextmanager
    def joined(self, who: str, sid: str, *options: str) -> Iterator[Terminal]:
        """Run tsh join as somebody."""
        with self.people[who].terminal("join", *options, sid) as terminal:
            yield terminal


def ready(terminal: Terminal) -> None:
    """Wait until a shell answers."""
    terminal.type("echo re''ady\n")
    terminal.expect("ready")


@contextmanager
def shared_cluster(folder: Path) -> Iterator[Shared]:
    """Run the cluster; the nodes are db1 and db2."""
    with tsh_cluster(folder / "cluster") as cluster:
        declare(cluster.main, *ROLES, *(user(name, [], [its]) for name, its in PEOPLE.items()), user("zoe", [], ["x"]))
        people = {"joe": cluster.person(folder / "joe")}
        for name, its in PEOPLE.items():
            logins = [LOGIN] if its in {"peer", "plain"} else ["nobody-here"]
            certify(cluster.main, name, logins, roles=[its]).log_in(folder / name, cluster.main)
            people[name] = Tsh(folder / name)
        yield Shared(cluster, people)
