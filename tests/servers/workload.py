"""Many sessions of one person whose output is known, for tests that break something while they run.

Each says first which session it is; then come lines that can be told from all others', slowly or at once.
"""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers.sshclient import DEADLINE, wait_until

AT_ONCE = 10
"""Sessions at a time: a login takes some 50 ms of a core."""


@dataclass
class Run:
    """One session: ssh's process, and what its person has seen of it."""

    tag: str
    shell: bool
    """A shell that is told what to do on its input, not a command."""
    terminal: bool
    code: int
    """The exit code that it is to have."""
    expected: bytes
    """What it is to print after its first line; with a terminal there is more."""
    process: subprocess.Popen[bytes]
    out: Path

    @property
    def seen(self) -> bytes:
        """What ssh has printed."""
        return self.out.read_bytes()

    @property
    def sid(self) -> str:
        """The session's id; empty if nothing was seen of it."""
        found = re.search(rf"{self.tag} ([0-9a-f-]{{36}})\r?\n".encode(), self.seen)
        return found[1].decode() if found else ""

    @property
    def whole(self) -> bool:
        """Whether it went as if nothing had happened."""
        return self.process.returncode == self.code


@dataclass
class Workload:
    """Sessions of one person, a random mix: `rng` decides."""

    ssh: tuple[str, ...]
    """The program with its options; the files that these name are there."""
    destination: str
    folder: Path
    rng: random.Random
    runs: list[Run] = field(default_factory=list)

    def run(self, count: int, events: Iterable[tuple[int, Callable[[], object]]] = ()) -> None:
        """Run so many sessions, some at a time; of `events` each happens once that many have been started."""
        due = dict(events)
        for number in range(count):
            if number in due:
                due[number]()
            self._wait_for(AT_ONCE - 1)
            self.start()
        self.wait()

    def wait(self) -> None:
        """Wait until all have ended."""
        self._wait_for(0)

    def wait_for_some(self) -> None:
        """Wait until half of those that run have printed something."""
        running = [run for run in self.runs if run.process.poll() is None]
        wait_until(lambda: sum(bool(run.sid) for run in running) >= len(running) / 2, "sessions print nothing")

    def start(self) -> Run:
        """Start one more."""
        number, rng = len(self.runs), self.rng
        tag = f"w{rng.getrandbits(40):010x}n{number}"
        shell, terminal, code = rng.random() < 0.3, rng.random() < 0.5, rng.choice((0, 0, 1, 7))
        body, expected = self._body(tag)
        script = f"echo {tag} $SSH_SESSION_ID; {body}; exit {code}"
        path = self.folder / tag
        typed = path.with_suffix(".in")
        typed.write_text(f"{script}\n" if shell else "")
        command = [*self.ssh, "-tt" if terminal else "-T", self.destination, *(() if shell else (script,))]
        with path.open("wb") as out, path.with_suffix(".err").open("wb") as err, typed.open("rb") as stdin:
            process = subprocess.Popen(command, stdin=stdin, stdout=out, stderr=err)
        run = Run(tag, shell, terminal, code, expected, process, path)
        self.runs.append(run)
        return run

    def stop(self) -> None:
        """End what still runs. Safe to call twice."""
        for run in self.runs:
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait()

    def _body(self, tag: str) -> tuple[str, bytes]:
        """Return what a session does after its first line, and what that prints."""
        kind = self.rng.random()
        if kind < 0.4:  # at once over
            return f"echo {tag}.0", f"{tag}.0\n".encode()
        if kind < 0.9:  # a line now and then
            lines, pause = self.rng.randint(2, 12), self.rng.uniform(0.01, 0.25)
            said = "".join(f"{tag}.{number}\n" for number in range(1, lines + 1))
            return f"for i in $(seq {lines}); do echo {tag}.$i; sleep {pause:.2f}; done", said.encode()
        lines = self.rng.randint(1_000, 20_000)  # as fast as it goes
        return f"seq -f {tag}.%.0f {lines}", "".join(f"{tag}.{number}\n" for number in range(1, lines + 1)).encode()

    def _wait_for(self, left: int) -> None:
        deadline = time.monotonic() + DEADLINE
        while sum(run.process.poll() is None for run in self.runs) > left:
            assert time.monotonic() < deadline, "sessions do not end"
            time.sleep(0.01)
