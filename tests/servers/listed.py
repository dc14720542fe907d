"""A cluster whose nodes are listed: auth, proxy and a node in one process, another node in a second; two people."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.people import Person, certify, declare, role, user
from tests.servers.teleport import Teleport, run

TOKEN = "0123456789abcdef0123456789abcdef"
"""With which a node or a proxy joins."""
DEADLINE = 10.0
"""Seconds within which a change of users, roles and nodes has to show (SECURITY.md: "within 10 s")."""

Done = subprocess.CompletedProcess[str]


@dataclass
class Cluster:
    """Auth, proxy and the node `prod` in one process, the node `stage` in another; joe and ann, logged in."""

    main: Teleport
    stage: Teleport
    folder: Path

    def tsh(self, who: str, *arguments: str, **env: str) -> Done:
        """Run tsh as somebody who has a home."""
        return run("tsh", *arguments, env={"TELEPORT_HOME": str(self.home(who)), "SSH_AUTH_SOCK": "", **env})

    def home(self, who: str) -> Path:
        """Return where somebody's logins are."""
        return self.folder / f"home-{who}"

    def log_in(self, who: str, *logins: str, **claims: Any) -> Person:
        """Leave a login, issued by the cluster's authority, in a person's home."""
        person = certify(self.main, who, logins, **claims)
        person.log_in(self.home(who), self.main)
        return person

    def names(self, who: str, *arguments: str) -> list[str]:
        """Return the names of the nodes that somebody sees."""
        done = self.tsh(who, "ls", "--format=json", *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return [node["name"] for node in json.loads(done.stdout)]

    def get(self, target: str, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Ask the proxy as any program might."""
        trusted = ssl.create_default_context(cafile=str(self.main.data_dir / "web.pem"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.main.web_port, context=trusted, timeout=30)
        with closing(connection):
            connection.request("GET", target, headers=dict(headers))
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def events(self) -> list[dict[str, Any]]:
        """Return the audit log."""
        files = sorted((self.main.data_dir / "log").iterdir())
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def eventually(true: Callable[[], bool]) -> None:
    """Wait until something is true. Raises AssertionError after DEADLINE."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)


@contextmanager
def listed_cluster(folder: Path) -> Iterator[Cluster]:
    """Run the cluster, and give it once both nodes are listed."""
    roles = ("auth", "proxy", "node")
    config: dict[str, dict[str, Any]] = {
        "teleport": {"nodename": "prod"},
        "auth_service": {"tokens": [f"node:{TOKEN}"]},
        "ssh_service": {"labels": {"env": "prod", "role": "web"}},
    }
    with Teleport(folder / "main", roles, config=config).start() as main:
        labels: dict[str, dict[str, Any]] = {
            "teleport": {"nodename": "stage"},
            "ssh_service": {"labels": {"env": "staging", "note": "a, b"}},
        }
        stage = Teleport(folder / "stage", ("node",), auth_servers=[main.auth_address], token=TOKEN, config=labels)
        with stage.start():
            made = Cluster(main, stage, folder)
            declare(main, role("stage", allow={"logins": ["dev"], "nodeLabels": {"env": ["staging"]}}))
            declare(main, user("joe", ["root"]), user("ann", [], ["stage"]))
            made.log_in("joe", "root")
            made.log_in("ann", "dev")
            eventually(lambda: made.names("joe") == ["prod", "stage"])
            yield made
