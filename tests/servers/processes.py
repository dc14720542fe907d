"""Server processes of tests: started with a log file, awaited until ready, stopped by pid with all their children."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

PORTS = range(12_000, 30_000)
"""Below those that Linux gives to clients (ip_local_port_range), and below Kubernetes' node ports."""
SHARES = 10
"""Into so many parts they are divided, one for each worker."""


class Process:
    """One running server, the leader of a process group of its own; as a context manager it is stopped at the end."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        log: Path,
        output: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Start the command. Its output is appended to `log`; `env` is added to this process's environment.

        What it writes to stdout goes to the file `output` instead, if one is given.
        """
        self.name = Path(command[0]).name
        self.log = log
        with log.open("ab") as stderr, (output or log).open("ab") as stdout:
            self._popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process's id, which is its group's too."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        if self._popen.returncode is not None:
            return False
        # Looked at, not reaped: until `kill` reaps it, its id cannot become anybody else's.
        return os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait_until(self, ready: Callable[[], bool], *, timeout: float) -> None:
        """Block until `ready()` is true. From a coroutine, call it in `asyncio.to_thread`.

        Raises RuntimeError, with the end of the log, when the process ends first or `timeout` seconds pass.
        """
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.running:
                raise RuntimeError(f"{self.name} has ended:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} was not ready after {timeout:g} s:\n{self.log_tail()}")
            time.sleep(0.02)

    def wait(self, *, timeout: float) -> int:
        """Block until it ends by itself, and return its exit code; a signal's is negative.

        Raises subprocess.TimeoutExpired.
        """
        return self._popen.wait(timeout)

    def log_tail(self, size: int = 4000) -> str:
        """Return the last `size` bytes of the log."""
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read().decode(errors="replace")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children, unless it was stopped before."""
        if self._popen.returncode is None:
            os.killpg(self._popen.pid, number)

    def freeze(self) -> None:
        """Stop it in its tracks and return when it stands: the kernel accepts connections, nothing is answered."""
        self.signal(signal.SIGSTOP)
        # On a busy machine its threads run on for a while after the signal was sent.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self.signal(signal.SIGCONT)

    def stop(self, *, grace: float = 10.0) -> None:
        """End it: SIGTERM, and SIGKILL for what is left after `grace` seconds. Safe to call twice."""
        self.signal(signal.SIGTERM)
        self.thaw()
        deadline = time.monotonic() + grace
        while self.running and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()

    def kill(self) -> None:
        """End it and its children with SIGKILL, as a power cut would. Safe to call twice."""
        self.signal(signal.SIGKILL)
        self._popen.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nobody listens."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return that many different TCP ports of 127.0.0.1 on which nobody listens.

    Nobody takes them meanwhile: the kernel gives them to no client, and other workers of pytest-xdist have their own.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_ports)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            found.append(port)
    return found


def _own_ports() -> Iterator[int]:
    """Yield the ports of this process round and round, from anywhere: other runs of tests have the same."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = len(PORTS) // SHARES
    share = PORTS[worker % SHARES * size :][:size]
    begin = random.randrange(size)
    return itertools.cycle([*share[begin:], *share[:begin]])


_ports = _own_ports()


def listens(port: int) -> bool:
    """Return whether somebody accepts connections on that port of 127.0.0.1: a `ready` for `Process.wait_until`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0
