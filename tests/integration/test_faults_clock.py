"""The clock of auth is moved over midnight, and set back: two files, one chain, and nothing is missing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from pathlib import Path

import pytest

from runtime.core.clock import SystemClock
from tests.servers.moved_clock import MovedClock
from tests.servers.sshclient import wait_until
from tests.servers.teleport import Teleport, run

MIDNIGHT = datetime.combine(SystemClock().now().date() + timedelta(days=1), time(), SystemClock().now().tzinfo)
"""The next one (UTC)."""
MINUTE = timedelta(minutes=1)


class Auth:
    """An auth server whose clock is the test's."""

    def __init__(self, folder: Path) -> None:
        self.server = Teleport(folder / "auth")
        self._clock = MovedClock(folder)

    def start(self, at: datetime) -> None:
        """Start it at that time."""
        self._clock.set(at)
        self.server.start(env=self._clock.environment)

    def tctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run tctl by the same clock."""
        return run("tctl", "-c", str(self.server.config_file), *arguments, env=self._clock.environment)

    def invite(self, name: str, at: datetime) -> None:
        """Let something happen at that time."""
        self._clock.set(at)
        done = self.tctl("users", "add", name, name)
        assert done.returncode == 0, done.stderr

    def listed(self) -> list[tuple[str, str]]:
        """Return the users that `tctl events ls` tells of, each with the day."""
        done = self.tctl("events", "ls", "--type=user.invited", "--format=json")
        assert done.returncode == 0, done.stderr
        return [(event["user"], event["time"][:10]) for event in map(json.loads, done.stdout.splitlines())]

    def logged(self) -> dict[str, list[str]]:
        """Return the users that each file of the log tells of, by the file's name."""
        files = sorted((self.server.data_dir / "log").glob("*.log"))
        events = {path.name: list(map(json.loads, path.read_text().splitlines())) for path in files}
        return {
            name: [event["user"] for event in found if event["event"] == "user.invited"]
            for name, found in events.items()
        }


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[Auth]:
    """Start auth ten minutes before midnight."""
    made = Auth(tmp_path)
    try:
        made.start(MIDNIGHT - 10 * MINUTE)
        yield made
    finally:
        made.server.stop()


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_clock_passes_midnight_and_is_set_back(auth: Auth, end: str) -> None:
    """Files are named as the manual says; once a day has begun its file is written to, also by the next process."""
    yesterday, today = (f"{MIDNIGHT - MINUTE:%Y-%m-%d}", f"{MIDNIGHT:%Y-%m-%d}")
    files = [f"{day}.00:00:00.log" for day in (yesterday, today)]
    auth.invite("ann", MIDNIGHT - MINUTE)
    assert auth.logged() == {files[0]: ["ann"]}
    auth.invite("bob", MIDNIGHT + MINUTE)
    auth.invite("cyd", MIDNIGHT - 2 * MINUTE)
    (auth.server.stop if end == "stop" else auth.server.process.kill)()
    auth.start(MIDNIGHT - 2 * MINUTE)
    auth.invite("dan", MIDNIGHT - MINUTE)
    assert auth.logged() == {files[0]: ["ann"], files[1]: ["bob", "cyd", "dan"]}
    expected = {("ann", yesterday), ("bob", today), ("cyd", yesterday), ("dan", yesterday)}
    wait_until(lambda: set(auth.listed()) == expected, "the view lacks one")  # before midnight: the day to come too
    auth.invite("eve", MIDNIGHT + 2 * MINUTE)
    wait_until(lambda: ("eve", today) in auth.listed(), "the view lacks the last one")
    assert sorted(auth.listed()) == sorted({*expected, ("eve", today)})
    done = auth.tctl("audit", "verify", "--from-start")
    assert done.returncode == 0, done.stderr
    assert ".log:" not in done.stderr
    assert "in 2 files" in done.stdout
