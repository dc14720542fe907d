"""`tctl events ls`: one view of what happened, whichever of two auth servers logged it."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.auth_pair import AuthPair, running_pair
from tests.servers.processes import Process
from tests.servers.teleport import SCRIPTS, Teleport

SECONDS = 20.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthPair]:
    """Run two auth servers on one storage."""
    with running_pair("sqlite", tmp_path_factory.mktemp("pair")) as running:
        yield running


def until(server: Teleport, fits: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Ask until so many lines are found: events reach the storage within a second or two."""
    deadline = time.monotonic() + SECONDS
    while True:
        done = server.tctl("events", "ls", *arguments)
        assert done.returncode == 0, done.stderr
        if len(done.stdout.splitlines()) == fits or time.monotonic() > deadline:
            return done
        time.sleep(0.1)


def test_either_server_tells_what_both_logged(pair: AuthPair) -> None:
    """Two users, one made at each; both servers list both, in their order."""
    for server, name in ((pair.one, "ann"), (pair.two, "bob")):
        assert server.tctl("users", "add", name, name).returncode == 0
    for server in pair.both:
        done = until(server, 2, "--type=resource.written", "--format=json")
        assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == ["ann", "bob"]
        (line,) = until(server, 1, "--type=user.invited", "--user=bob").stdout.splitlines()
        assert line.split("  ")[1:3] == ["user.invited", "user=bob"]
    # Each file holds what its server logged, and is whole.
    for server in pair.both:
        assert server.tctl("audit", "verify", "--from-start").returncode == 0


def test_follow_shows_what_comes(pair: AuthPair, tmp_path: Path) -> None:
    """Until it is interrupted, which is no failure."""
    command: list[str | Path] = [SCRIPTS / "tctl", "-c", pair.one.config_file, "events", "ls", "-f", "--user=eve"]
    with Process(command, log=tmp_path / "log", output=tmp_path / "out") as following:
        assert pair.two.tctl("users", "add", "eve", "eve").returncode == 0
        following.wait_until(lambda: "user.invited" in (tmp_path / "out").read_text(), timeout=SECONDS)
    assert "user=eve" in (tmp_path / "out").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from=yesterday"], "is no time"),
        (["--follow", "--to=1h"], "--follow goes on, and --to ends"),
    ],
)
def test_what_cannot_be_meant(pair: AuthPair, arguments: list[str], message: str) -> None:
    """It is refused in words that say what to write."""
    done = pair.one.tctl("events", "ls", *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert done.stdout == ""
