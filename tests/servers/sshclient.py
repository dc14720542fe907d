"""The real ssh against a node: run to its end, left running, or in a terminal of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.servers.people import Person
from tests.servers.teleport import Teleport

DEADLINE = 60.0
"""How long anything may take on a busy machine."""

Done = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True)
class Client:
    """Somebody's ssh to a node, directly at its port; `folder` takes keys and control sockets."""

    node: Teleport
    person: Person
    folder: Path
    login: str

    def command(self, *arguments: str, options: tuple[str, ...] = (), login: str | None = None) -> list[str]:
        """Return ssh's command line: `options` come before the host, `arguments` are the command."""
        destination = f"{login or self.login}@localhost"
        mine = self.person.ssh_options(self.folder)
        return ["ssh", *mine, "-p", str(self.node.node_port), *options, destination, *arguments]

    def run(self, *arguments: str, options: tuple[str, ...] = (), login: str | None = None, stdin: bytes = b"") -> Done:
        """Run ssh to its end."""
        return subprocess.run(
            self.command(*arguments, options=options, login=login),
            input=stdin,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )

    @contextmanager
    def running(self, *arguments: str, options: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
        """Run ssh with pipes; it is killed at the end."""
        with subprocess.Popen(
            self.command(*arguments, options=options),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGCONT)
                process.kill()

    @contextmanager
    def connected(self) -> Iterator[Connected]:
        """Keep one connection open, over which further sessions go."""
        made = Connected(self)
        options = (*made.options, "-o", "ControlMaster=yes", "-N", "-E", str(made.log))
        with self.running(options=options) as process:
            wait_until(lambda: made.socket.exists() or process.poll() is not None)
            assert process.poll() is None, made.told()
            yield made

    @contextmanager
    def terminal(self, *arguments: str, options: tuple[str, ...] = ("-tt",)) -> Iterator[Terminal]:
        """Run ssh in a terminal of 80 columns and 24 rows; it is killed at the end."""
        made = Terminal(self.command(*arguments, options=options))
        try:
            yield made
        finally:
            made.close()


class Connected:
    """An open connection of a client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.socket = client.folder / "control"
        self.log = client.folder / "control.log"
        self.options = ("-o", f"ControlPath={self.socket}")

    @property
    def over(self) -> tuple[str, ...]:
        """The options of a session that goes over this connection, or nowhere."""
        return (*self.options, "-o", "ProxyCommand=false")

    def run(self, *arguments: str) -> Done:
        """Run a session to its end."""
        return self._client.run(*arguments, options=self.over)

    def is_refused(self) -> bool:
        """Tell whether a session is refused now."""
        done = self.run("true")
        if done.returncode == 0:
            return False
        assert b"Session open refused by peer" in done.stderr, done
        return True

    def told(self) -> str:
        """Return what the server has told the client of refusals."""
        return self.log.read_text() if self.log.exists() else ""


class Terminal:
    """A program in a terminal, and a person before it."""

    def __init__(self, command: list[str], *, columns: int = 80, rows: int = 24) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, rows)
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(slave)
        self.seen = b""

    def resize(self, columns: int, rows: int) -> None:
        """Change the window's size."""
        termios.tcsetwinsize(self._master, (rows, columns))

    def type(self, text: str) -> None:
        """Type something."""
        os.write(self._master, text.encode())

    def expect(self, text: str) -> None:
        """Read until a text has been shown since the last call; fail when it is not."""
        deadline = time.monotonic() + DEADLINE
        wanted = text.encode()
        while wanted not in self.seen:
            assert time.monotonic() < deadline, (text, self.seen)
            if select.select([self._master], [], [], 0.5)[0]:
                assert self._read(), (text, self.seen)
        self.seen = self.seen.partition(wanted)[2]

    def skip_to(self, text: str) -> None:
        """Do the same after so much output that looking through all of it again and again would take long."""
        deadline = time.monotonic() + DEADLINE
        wanted = text.encode()
        while wanted not in self.seen:
            self.seen = self.seen[-len(wanted) :]
            assert time.monotonic() < deadline, text
            assert self._read(), (text, self.seen)
        self.seen = self.seen.partition(wanted)[2]

    def wait(self) -> int:
        """Return the exit code, and leave in `seen` all that was shown until the end."""
        deadline = time.monotonic() + DEADLINE
        while self._read():
            assert time.monotonic() < deadline, self.seen
        return self.process.wait(DEADLINE)

    def close(self) -> None:
        """End it. Safe to call twice."""
        self.process.kill()
        self.process.wait()
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _read(self) -> bytes:
        try:
            data = os.read(self._master, 64 * 1024)
        except OSError:  # EIO: it has ended
            return b""
        self.seen += data
        return data


def wait_until(condition: Callable[[], object], what: str = "it did not happen") -> None:
    """Wait until a function returns something true; fail when it does not in time."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def events(teleport: Teleport, kind: str) -> list[dict[str, object]]:
    """Return the audit events of a kind that auth has, in their order."""
    files = sorted((teleport.data_dir / "log").glob("*.log"))
    lines = [line for file in files for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return [event for event in map(json.loads, lines) if event["event"] == kind]
