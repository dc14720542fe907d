"""tsh play on a real terminal: a session that goes on is played on until it ends; keys work."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import people
from tests.servers.processes import Process
from tests.servers.teleport import SCRIPTS, Teleport, run

LOGIN = getpass.getuser()
SECONDS = 30.0


@pytest.fixture(scope="module")
def teleport(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Run a cluster, in which joe is logged in."""
    with Teleport(tmp_path_factory.mktemp("play"), ["auth", "proxy", "node"]) as running:
        running.start()
        people.declare(running, people.user("joe", [LOGIN]))
        yield running


class Player:
    """tsh play on a terminal of its own."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 80, 0, 0))
        self.before = termios.tcgetattr(theirs)
        self._process = subprocess.Popen(
            [SCRIPTS / "tsh", "play", *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            env={**os.environ, "TELEPORT_HOME": str(home)},
        )
        self._theirs = theirs
        self.shown = b""

    def until(self, text: bytes) -> None:
        """Wait until something is shown."""
        deadline = time.monotonic() + SECONDS
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.shown += os.read(self.terminal, 65536)

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.terminal, keys)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return the exit code and what it said. The terminal is as it was."""
        try:
            _, said = self._process.communicate(timeout=SECONDS)
            assert termios.tcgetattr(self._theirs) == self.before
            return self._process.returncode, said.decode()
        finally:
            self.close()

    def close(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
        os.close(self.terminal)
        os.close(self._theirs)


def test_a_session_that_goes_on(teleport: Teleport, tmp_path: Path) -> None:
    """What it prints is shown as it comes, until it ends; where stdout is no terminal, it is said that it goes on."""
    joe = people.certify(teleport, "joe", [LOGIN])
    joe.log_in(tmp_path / "home", teleport)
    flag = tmp_path / "flag"
    command = f"echo begun; while [ ! -e {flag} ]; do sleep 0.1; done; echo ended"
    words = ["ssh", *joe.ssh_options(tmp_path / "key"), "-p", str(teleport.node_port), f"{LOGIN}@localhost", command]
    with Process(words, log=tmp_path / "log") as session:
        deadline = time.monotonic() + SECONDS
        while not (listed := json.loads(teleport.tctl("recordings", "ls", "--format=json").stdout)):
            assert time.monotonic() < deadline, session.log_tail()
            time.sleep(0.1)
        sid = str(listed[0]["session"]["sid"])
        player = Player(tmp_path / "home", sid)
        player.until(b"begun")
        piped = run("tsh", "play", sid, env={"TELEPORT_HOME": str(tmp_path / "home")})
        assert (piped.returncode, piped.stdout) == (0, "begun\n")
        assert "the session goes on: this is what there is so far" in piped.stderr
        assert b"ended" not in player.shown
        flag.touch()
        player.until(b"ended")
        assert player.end() == (0, "")
    piped = run("tsh", "play", sid, env={"TELEPORT_HOME": str(tmp_path / "home")})
    assert (piped.stdout, piped.stderr) == ("begun\nended\n", "")
    player = Player(tmp_path / "home", "--skip-idle=0", sid)
    player.until(b"ended")
    assert player.end()[0] == 0
    player = Player(tmp_path / "home", "--speed=0.0625", sid)
    player.until(b"begun")
    player.press(b"9")
    player.until(b"\x1bcbegun")
    player.press(b"q")
    assert player.end() == (0, "")
