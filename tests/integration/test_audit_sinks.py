"""Events are passed on by a real auth server to stdout, syslog and a webhook, whatever is killed or away meanwhile."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.servers.processes import free_ports
from tests.servers.teleport import Teleport

SECONDS = 120.0
TOKEN = "Zm9yLXRlc3Q"


class Webhook:
    """An HTTP server that may be away, or refuse; it remembers what it took."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.taken: list[str] = []
        self.refuse = 0
        self.refused = 0
        self.tokens: set[str | None] = set()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Be there."""
        outer = self

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.tokens.add(self.headers["Authorization"])
                good = outer.refuse == 0
                if good:
                    outer.taken += [line.decode() for line in body.splitlines()]
                else:
                    outer.refuse -= 1
                    outer.refused += 1
                self.send_response(204 if good else 503)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Answer)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        """Be away. Safe to call twice."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
        self._server = None


class Syslog:
    """A syslog daemon's socket; a thread reads it."""

    def __init__(self, path: Path) -> None:
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(0.1)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._ends.is_set():
            try:
                self.messages.append(self._socket.recv(1_000_000).decode())
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Let it be over."""
        self._ends.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """Yield a webhook's server, which has not started."""
    webhook = Webhook()
    yield webhook
    webhook.stop()


@pytest.fixture
def syslog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Syslog, Path]]:
    """Yield a syslog daemon and its socket."""
    path = tmp_path_factory.mktemp("s") / "log"
    running = Syslog(path)
    yield running, path
    running.stop()


def logged(teleport: Teleport) -> list[str]:
    """Return the lines of the log's files."""
    files = sorted((teleport.data_dir / "log").glob("*.log"))
    return [line for file in files for line in file.read_text().splitlines()]


def until(holds: Callable[[], bool], what: Callable[[], object]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def in_order_once(received: Sequence[str], lines: Sequence[str]) -> bool:
    """Tell whether all lines are there, each at least once, and in order where each is first."""
    return list(dict.fromkeys(received)) == list(lines)


def test_all_three_at_once(webhook: Webhook, syslog: tuple[Syslog, Path], tmp_path: Path) -> None:
    """Each gets every line of the log: also what happened while the webhook was away, refused, or auth was killed."""
    (tmp_path / "token").write_text(TOKEN)
    url = f"http://127.0.0.1:{webhook.port}/{TOKEN}"
    config: dict[str, dict[str, Any]] = {
        "audit": {
            "fsync": "interval",
            "sinks": [
                {"type": "stdout"},
                {"type": "syslog", "address": f"unix://{syslog[1]}", "facility": "local3"},
                {"type": "webhook", "url": url, "token_file": str(tmp_path / "token")},
            ],
        }
    }
    with Teleport(tmp_path / "auth", config=config) as auth:
        auth.start()
        assert auth.tctl("users", "add", "ann", "ann").returncode == 0
        until(lambda: any("user.invited" in text for text in syslog[0].messages), lambda: syslog[0].messages)
        auth.wait_for_log("audit events wait for webhook-")
        webhook.refuse = 2
        webhook.start()
        until(lambda: in_order_once(webhook.taken, logged(auth)), lambda: webhook.taken)
        assert webhook.refused == 2
        webhook.stop()
        assert auth.tctl("users", "add", "bob", "bob").returncode == 0
        auth.process.kill()
        auth.start()
        assert auth.tctl("users", "add", "eve", "eve").returncode == 0
        webhook.start()
        for name, received in {
            "webhook": lambda: webhook.taken,
            "syslog": lambda: [text.partition("] ")[2] for text in syslog[0].messages],
            "stdout": lambda: auth.output().splitlines(),
        }.items():
            until(lambda received=received: in_order_once(received(), logged(auth)), lambda name=name: name)  # type: ignore[misc]
        invited = [json.loads(line)["user"] for line in logged(auth) if '"user.invited"' in line]
        assert invited == ["ann", "bob", "eve"]
        assert all(text.startswith(("<158>1 ", "<156>1 ")) for text in syslog[0].messages)
        assert webhook.tokens == {f"Bearer {TOKEN}"}
        assert TOKEN not in auth.log()
