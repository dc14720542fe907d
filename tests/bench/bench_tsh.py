"""How long a person waits for tsh itself: `tsh version` beside an empty Python, and `tsh login` less the server's part.

`python -m tests.bench tsh [RUNS]`. All rows take turns, so that a busy machine is busy for all of them; the CPU time is
what hardly depends on that. The proxy is the stand-in of the unit tests, in a thread, and is timed by itself.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.unit.cli.tsh_proxy import Answer, StandIn, stand_in

RUNS = 15
TSH = Path(sys.executable).parent / "tsh"


@dataclass
class Row:
    """What the runs of one command took, in seconds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def run(self, command: list[str], environment: dict[str, str], stdin: str = "") -> None:
        """Run the command once more."""
        cpu, start = _cpu_of_children(), time.perf_counter()
        subprocess.run(command, env=environment, input=stdin.encode(), capture_output=True, timeout=60, check=True)
        self.wall.append(time.perf_counter() - start)
        self.cpu.append(_cpu_of_children() - cpu)


def run(arguments: list[str]) -> None:
    """Print a table in milliseconds; the argument is how many runs."""
    runs = int(arguments[0]) if arguments else RUNS
    empty, version, login, status = Row(), Row(), Row(), Row()
    with tempfile.TemporaryDirectory(prefix="bench-") as name, stand_in(Path(name)) as proxy:
        environment = {**os.environ, "TELEPORT_HOME": f"{name}/home"}
        environment.pop("SSH_AUTH_SOCK", None)
        served = _timed(proxy)
        command = [str(TSH), f"--proxy={proxy.address}", "--user=joe", "login", "--password-stdin"]
        for _ in range(runs):
            empty.run([sys.executable, "-c", "pass"], environment)
            version.run([str(TSH), "version"], environment)
            served.clear()
            login.run([*command, f"--pin={proxy.fingerprint}"], environment, "password\n123456\n")
            login.wall[-1] -= sum(served)
            status.run([str(TSH), "status"], environment)
    print(f"Milliseconds of {runs} runs; 'more' is what the median has over that of python -c pass.")
    print(f"{'':<28}{'median':>8}{'fastest':>9}{'slowest':>9}{'more':>8}{'CPU':>8}")
    rows = {"python -c pass": empty, "tsh version": version, "tsh login, less the server": login, "tsh status": status}
    for title, row in rows.items():
        more = statistics.median(row.wall) - statistics.median(empty.wall)
        figures = [statistics.median(row.wall), min(row.wall), max(row.wall), more, statistics.median(row.cpu)]
        print(
            f"{title:<28}"
            + "".join(f"{figure * 1000:>{size}.0f}" for figure, size in zip(figures, (8, 9, 9, 8, 8), strict=True))
        )


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _timed(proxy: StandIn) -> list[float]:
    """Have the stand-in note how long it takes for each answer, and return the notes."""
    notes: list[float] = []

    def note(answer: Callable[..., tuple[int, Answer]]) -> Callable[..., tuple[int, Answer]]:
        def noted(*arguments: Any) -> tuple[int, Answer]:
            start = time.perf_counter()
            try:
                return answer(*arguments)
            finally:
                notes.append(time.perf_counter() - start)

        return noted

    proxy.on_ping, proxy.on_login = note(proxy.on_ping), note(proxy.on_login)
    return notes
