"""The real ssh against one node, to its end or in the background, and small servers for what is forwarded."""

from __future__ import annotations

import json
import os
import pwd
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.people import Person
from tests.servers.processes import Process
from tests.servers.teleport import Teleport

ME = pwd.getpwuid(os.geteuid()).pw_name
"""The login that a node has whoever runs it."""


DEADLINE = 45.0
"""Seconds to wait for what other processes do, on a busy machine."""


class Ssh:
    """Runs ssh as one person to one node; its files are in a folder of its own."""

    def __init__(self, node: Teleport, person: Person, folder: Path, *options: str, login: str = ME) -> None:
        """`options` come before those of the person, so that they win."""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "ssh.log"
        self.folder = folder
        self._command = ["ssh", *options, *person.ssh_options(folder), "-p", str(node.node_port), "-l", login]

    def command(self, *arguments: str, command: str | None = None) -> list[str]:
        """Return the command line."""
        return [*self._command, *arguments, "localhost", *([command] if command is not None else [])]

    def run(
        self, *arguments: str, command: str | None = None, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        done = subprocess.run(
            self.command(*arguments, command=command),
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
            env={**os.environ, **(env or {})},
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, *arguments: str, command: str | None = None) -> Process:
        """Start it in the background without a session, or with a command; its output goes to `log`."""
        nothing = ["-N"] if command is None else []
        return Process(self.command(*nothing, *arguments, command=command), log=self.log)

    def says(self, text: str) -> None:
        """Wait until it has said that."""
        eventually(lambda: text in self.log.read_text(), f"ssh says {text!r}", self.log.read_text)


def eventually(condition: Callable[[], object], what: str, instead: Callable[[], object] = lambda: "") -> None:
    """Wait for something that other processes bring about; fail, with what is there instead, when it does not."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen within {DEADLINE:g} s: {what}\n{instead()}")
        time.sleep(0.05)


class _Upper(socketserver.BaseRequestHandler):
    """Answers in capitals, until the other side has said all."""

    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data.upper())


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True


class _Unix(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def upper_port() -> Iterator[int]:
    """Yield a port of 127.0.0.1 that answers in capitals."""
    with _Tcp(("127.0.0.1", 0), _Upper) as server, _serving(server):
        yield server.server_address[1]


@contextmanager
def upper_socket(path: Path) -> Iterator[str]:
    """Yield the path of a Unix socket that answers in capitals."""
    with _Unix(str(path), _Upper) as server, _serving(server):
        yield str(path)


def events(teleport: Teleport, kind: str, count: int, **fields: str) -> list[dict[str, Any]]:
    """Return the audit events of a kind that have these fields, once auth has so many: nodes send them there."""
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = [event for event in _logged(teleport) if {"event": kind, **fields}.items() <= event.items()]
        return len(found) >= count

    eventually(look, f"{count} events {kind} with {fields}", lambda: _logged(teleport))
    return found


def _logged(teleport: Teleport) -> list[dict[str, Any]]:
    files = sorted((teleport.data_dir / "log").glob("*.log"))
    return [
        json.loads(line) for file in files for line in file.read_text().splitlines(keepends=True) if line[-1] == "\n"
    ]
