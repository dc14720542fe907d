"""The memory of auth, proxy and node while 200 recorded sessions go on: it has to stay where it is.

`python -m tests.bench memory [SECONDS]`: a minute, if not given; ten minutes are 600. Each session goes through the
proxy, ten on a connection, and prints a line a second, which is recorded and brought to auth. What is compared is the
memory after a tenth of the time and at the end. The node's is without what runs in the sessions.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from runtime.node.party import TAIL_BYTES
from tests.servers.whole_cluster import LOGIN, Cluster, running_cluster

CONNECTIONS, EACH = 20, 10
SECONDS = 60.0
LOOKS = 10
LINE = "x" * 79
# First what the node keeps of a terminal for those who join it: this would grow for a quarter of an hour.
FIRST = TAIL_BYTES
# `read` waits, and makes no process for that, as `sleep` would.
SCRIPT = f"printf '%0{FIRST}d'; while :; do echo {LINE}; read -t 1 unused; done"


def run(arguments: list[str]) -> None:
    """Print a table of how much memory each process has as time goes by."""
    seconds = float(arguments[0]) if arguments else SECONDS
    with tempfile.TemporaryDirectory(prefix="bench-") as name, running_cluster(Path(name), "sqlite") as cluster:
        parts = {
            "auth": cluster.pair.one.process.pid,
            "auth 2": cluster.pair.two.process.pid,
            "proxy": cluster.proxy.process.pid,
            "node": cluster.node.process.pid,
            "spawner": _spawner(cluster.node.process.pid),
        }
        print(f"{CONNECTIONS * EACH} recorded sessions for {seconds:g} s, MiB (to reach: flat)")
        print(f"{'seconds':>9}" + "".join(f"{part:>9}" for part in parts), flush=True)
        _show("before", _memory(parts))
        with _sessions(cluster, Path(name)) as clients:
            began, looks = time.monotonic(), []
            for look in range(LOOKS + 1):
                time.sleep(max(0.0, began + seconds * look / LOOKS - time.monotonic()))
                looks.append(_memory(parts))
                _show(f"{time.monotonic() - began:.0f}", looks[-1])
            ended = sum(client.poll() is not None for client in clients)
        _show("growth", {part: looks[-1][part] - looks[1][part] for part in parts})
        print(f"{ended} sessions have ended by themselves", flush=True)


@contextmanager
def _sessions(cluster: Cluster, folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Have all sessions running."""
    with ExitStack() as stack:
        clients: list[subprocess.Popen[bytes]] = []
        for number in range(CONNECTIONS):
            control = ("-o", f"ControlPath={folder / f'control{number}'}")
            over = (*cluster.through_proxy, *control)
            stack.enter_context(_running([*over, "-o", "ControlMaster=yes", "-N", f"{LOGIN}@localhost"]))
            while subprocess.run([*over, "-O", "check", "localhost"], capture_output=True, check=False).returncode:
                time.sleep(0.05)
            session = [*over, "-tt", f"{LOGIN}@localhost", SCRIPT]
            clients.extend(stack.enter_context(_running(session)) for _ in range(EACH))
        spool = cluster.node.data_dir / "spool"
        while sum(path.stat().st_size > FIRST for path in spool.glob("*.bytes")) < len(clients):
            time.sleep(0.5)
        yield clients


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _spawner(node: int) -> int:
    (child,) = Path(f"/proc/{node}/task/{node}/children").read_text().split()
    return int(child)


def _memory(parts: Mapping[str, int]) -> dict[str, float]:
    """Return the memory of each process in MiB; what some share is counted in parts."""
    return {part: _pss(pid) / 1024 for part, pid in parts.items()}


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _show(title: str, memory: Mapping[str, float]) -> None:
    print(f"{title:>9}" + "".join(f"{each:>9.1f}" for each in memory.values()), flush=True)
