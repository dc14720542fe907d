"""Which processes belong to a cluster that outlives the command that started it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.servers.processes import Process

FILE = "processes.json"
GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Recorded:
    """A process, told from a later one with the same id by the moment it started (clock ticks since boot)."""

    name: str
    pid: int
    started: str


def write(folder: Path, processes: Iterable[Process]) -> None:
    """Remember the processes in the cluster's folder."""
    recorded = [Recorded(process.name, process.pid, _started(process.pid)) for process in processes]
    (folder / FILE).write_text(json.dumps([asdict(process) for process in recorded]))


def read(folder: Path) -> list[Recorded]:
    """Return the processes, in the order they were started. Raises RuntimeError for any other folder."""
    try:
        if folder.stat().st_uid != os.getuid():
            raise RuntimeError(f"{folder} belongs to another user; it is left alone")
        return [Recorded(**process) for process in json.loads((folder / FILE).read_text())]
    except FileNotFoundError as error:
        raise RuntimeError(f"{folder} holds no cluster that was started here; it is left alone") from error


def is_running(process: Recorded) -> bool:
    """Return whether that very process has not ended."""
    return _started(process.pid) == process.started


def kill(processes: Iterable[Recorded]) -> None:
    """End the processes, one after the other: SIGTERM, and SIGKILL after GRACE_SECONDS."""
    for process in processes:
        deadline = time.monotonic() + GRACE_SECONDS
        if is_running(process):
            os.kill(process.pid, signal.SIGTERM)
        while is_running(process):
            if time.monotonic() > deadline:
                os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.05)


def _started(pid: int) -> str:
    """Return proc(5)'s `starttime`, or nothing when there is no such process or it waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
