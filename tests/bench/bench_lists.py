"""`tsh ls` in clusters of 10 to 20,000 nodes: what the proxy does for one answer, and how long a person waits for it.

`python -m tests.bench lists [RUNS]`. "held" is the longest time that other work in the proxy waited: sessions are
carried by the same process. The rows of tsh take turns with `tsh version`, which loads nothing; the proxy is then a
stand-in that has the answer ready, compressed as the real one sends it.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from runtime.proxy.lists import ClusterLists
from runtime.proxy.signed import SignedRequests
from tests.unit.cli.tsh_proxy import StandIn, stand_in
from tests.unit.proxy.world import World

RUNS = 7
COUNTS = (10, 1000, 5000, 20_000)
TSH = Path(sys.executable).parent / "tsh"


def run(arguments: list[str]) -> None:
    """Print a table in milliseconds and KiB; the argument is how many runs."""
    runs = int(arguments[0]) if arguments else RUNS
    with tempfile.TemporaryDirectory(prefix="bench-") as name, stand_in(Path(name)) as proxy:
        environment = {**os.environ, "TELEPORT_HOME": f"{name}/home", "SSH_AUTH_SOCK": ""}
        _tsh(
            environment,
            f"--proxy={proxy.address}",
            "--user=joe",
            "login",
            "--password-stdin",
            f"--pin={proxy.fingerprint}",
        )
        print(f"Medians of {runs} runs, in milliseconds; sizes in KiB.")
        print(f"{'nodes':>7}{'answer':>9}{'held':>7}{'size':>7}{'gzip':>7}{'tsh ls':>9}{'tsh version':>13}")
        for count in COUNTS:
            body, answer, held = asyncio.run(_answer(count, runs))
            packed = gzip.compress(body)
            waited, empty = _waits(proxy, packed, runs, environment)
            sizes = [len(body) / 1024, len(packed) / 1024]
            print(f"{count:>7}{answer:>9.1f}{held:>7.1f}{sizes[0]:>7.0f}{sizes[1]:>7.0f}{waited:>9.0f}{empty:>13.0f}")


async def _answer(count: int, runs: int) -> tuple[bytes, float, float]:
    """Return an answer's body, how long it takes to make, and the longest time that others waited meanwhile."""
    world = World()
    world.declare_role("dev", "dev", env="prod")
    world.declare_user("joe", "root", roles=("dev",))
    for number in range(count):
        uptime = f"up {number} hours, 15 minutes"
        world.add_node(f"node{number:05}", f"10.0.{number // 250}.{number % 250}:3022", env="prod", uptime=uptime)
    lists = ClusterLists(world.view, SignedRequests(world.view, world.clock))
    headers = CIMultiDict(world.login().headers("/webapi/nodes"))
    took, held = [], []
    for _ in range(runs):
        waits: list[float] = []

        async def wait(waits: list[float] = waits) -> None:
            while True:
                start = time.perf_counter()
                await asyncio.sleep(0)
                waits.append(time.perf_counter() - start)

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        start = time.perf_counter()
        response = await lists.nodes(make_mocked_request("GET", "/webapi/nodes", headers=headers))
        took.append(time.perf_counter() - start)
        waiting.cancel()
        held.append(max(waits))
    assert isinstance(response.body, bytes)
    return response.body, statistics.median(took) * 1000, statistics.median(held) * 1000


def _waits(proxy: StandIn, packed: bytes, runs: int, environment: dict[str, str]) -> tuple[float, float]:
    """Return how long `tsh ls` takes with this answer, and `tsh version`."""
    proxy.list_encoding = "gzip"
    proxy.on_list = lambda path, headers: (200, packed)
    rows = [(_tsh(environment, "ls"), _tsh(environment, "version")) for _ in range(runs)]
    listing, version = (statistics.median(row) * 1000 for row in zip(*rows, strict=True))
    return listing, version


def _tsh(environment: dict[str, str], *arguments: str) -> float:
    """Run tsh, and return the seconds it took."""
    start = time.perf_counter()
    command = [str(TSH), *arguments]
    subprocess.run(command, env=environment, input=b"password\n123456\n", capture_output=True, timeout=60, check=True)
    return time.perf_counter() - start
