"""Sessions through the proxy beside `ssh -J` through an sshd to the same sshd behind it, in the same minutes.

`python -m tests.bench sessions [bytes|logins|latency|idle|crowd|steady|cluster]`: all of them unless one is named. The
first six measure our SSH port and relay in a process of their own, against defaults of sshd; `cluster` is real
`teleport start` processes, with a node of ours in place of the sshd behind. The routes take turns, so that a busy
machine is busy for all of them, and what is compared are the ratios of neighbours. Clients and servers share its
cores. CPU is the server's alone: the proxy's, or the jump's with its children.

BENCH_STEADY_SECONDS (10) is how long `steady` runs; five minutes are 300.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

from tests.bench.sessions_setup import CIPHERS, ROUTES, Servers
from tests.servers.tsh import tsh_cluster

MEGABYTES, ROUNDS = 192, 5
LOGINS, AT_A_TIME = 20, 4
ROUND_TRIPS, EXECS = 300, 20
IDLE = (500, 500, 1000)
"""How many more at a time: what each costs is measured at 500, 1,000 and 2,000."""
IDLE_SSHD = 50
CROWD = 300
RATE = 10
STEADY_SECONDS = float(os.environ.get("BENCH_STEADY_SECONDS", "10"))
BLOCK = 5.0
"""Seconds for which one route is used before the next has its turn."""
SERVER = {"direct": "node", "jump": "jump", "proxy": "proxy"}
"""Whose CPU time a route costs, besides that of the sshd behind it."""

Figures = dict[str, list[float]]
"""What was measured by each route, in the same order."""


def run(arguments: list[str]) -> None:
    """Print a table for each thing that is asked for."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name in arguments or _TABLES:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, Servers(Path(folder)) as servers:
            _TABLES[name](servers)
        print(flush=True)


def _figures() -> Figures:
    return {route: [] for route in ROUTES}


def _ratio(figures: Figures) -> float:
    """Return the median of what the proxy takes or gives for each of what the jump does, turn by turn."""
    return statistics.median(ours / theirs for ours, theirs in zip(figures["proxy"], figures["jump"], strict=True))


def _row(title: str, figures: Figures, ratio: float, wanted: str, *, form: str = ">10.0f") -> None:
    medians = "".join(f"{statistics.median(figures[route]):{form}}" for route in ROUTES)
    print(f"{title:<44}{medians}{ratio:>14.2f}   {wanted}", flush=True)


def _head(title: str) -> None:
    print(f"{title:<44}{'direct':>10}{'ssh -J':>10}{'proxy':>10}{'proxy/ssh -J':>14}   wanted", flush=True)


@contextmanager
def _masters(servers: Servers, cipher: str) -> Iterator[None]:
    servers.open_masters(cipher)
    try:
        yield
    finally:
        servers.close_masters(cipher)


# --- bytes ---------------------------------------------------------------------------------------------------------


def _bytes(servers: Servers) -> None:
    """Time bulk data on connections that are open already."""
    _head(f"{MEGABYTES} MiB, median of {ROUNDS}")
    for name, cipher in CIPHERS.items():
        with _masters(servers, cipher):
            for direction, transfer in (("down", _download), ("up", _upload)):
                speed, cpu = _figures(), _figures()
                for _ in range(ROUNDS):
                    for route in ROUTES:
                        used, start = servers.cpu(SERVER[route]), time.perf_counter()
                        transfer(servers.ssh(cipher, route))
                        speed[route].append(MEGABYTES / (time.perf_counter() - start))
                        cpu[route].append((servers.cpu(SERVER[route]) - used) / MEGABYTES * 1024)
                _row(f"{name} {direction}, MiB/s", speed, _ratio(speed), ">= 1.0")
                _row(f"{name} {direction}, CPU s/GiB", cpu, _ratio(cpu), "", form=">10.2f")


def _download(ssh: list[str]) -> None:
    command = [*ssh, f"head -c {MEGABYTES << 20} /dev/zero"]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=120)


def _upload(ssh: list[str]) -> None:
    source = ["head", "-c", str(MEGABYTES << 20), "/dev/zero"]
    with subprocess.Popen(source, stdout=subprocess.PIPE) as zeros:
        subprocess.run([*ssh, "cat >/dev/null"], stdin=zeros.stdout, check=True, timeout=120)


# --- logins and latency ---------------------------------------------------------------------------------------------


def _logins(servers: Servers) -> None:
    """Time `ssh HOST true`, two processes of ssh and two logins by either way: one after the other, and four at a time.

    One alone waits for its own processes most of the time; several show what the machine takes.
    """
    cipher = CIPHERS["chacha20-poly1305"]
    speed, cpu = _figures(), _figures()
    for turn in range(LOGINS + 1):
        for route in ROUTES:
            used, start = servers.cpu(SERVER[route]), time.perf_counter()
            _log_in(servers.ssh(cipher, route, "true"))
            if turn:  # the first is for the caches
                speed[route].append(1 / (time.perf_counter() - start))
                cpu[route].append(servers.cpu(SERVER[route]) - used)
    together = _figures()
    for _ in range(LOGINS // AT_A_TIME):
        for route in ROUTES:
            start = time.perf_counter()
            with ThreadPoolExecutor(AT_A_TIME) as several:
                list(several.map(_log_in, [servers.ssh(cipher, route, "true")] * 2 * AT_A_TIME))
            together[route].append(2 * AT_A_TIME / (time.perf_counter() - start))
    _head(f"ssh HOST true, {LOGINS} times")
    _row("logins/s, one after the other", speed, _ratio(speed), "", form=">10.1f")
    _row(f"logins/s, {AT_A_TIME} at a time", together, _ratio(together), ">= 1.2", form=">10.1f")
    # The clock of CPU time has ticks of 10 ms, so the sum alone means something.
    spent = {route: [sum(values) / LOGINS * 1000] for route, values in cpu.items()}
    _row("CPU of the server, ms a login", spent, _ratio(spent), "", form=">10.1f")


def _log_in(command: list[str]) -> None:
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=60)


def _latency(servers: Servers) -> None:
    """Time a byte there and back, and a command on an open connection."""
    cipher = CIPHERS["chacha20-poly1305"]
    trips, execs = _figures(), _figures()
    shells = {route: _echo(servers.ssh(cipher, route, "cat")) for route in ROUTES}
    try:
        for _ in range(10):
            for route, shell in shells.items():
                trips[route].append(_round_trips(shell, ROUND_TRIPS // 10) * 1e6)
    finally:
        for shell in shells.values():
            shell.kill()
            shell.communicate()
    with _masters(servers, cipher):
        for _ in range(EXECS):
            for route in ROUTES:
                start = time.perf_counter()
                _log_in(servers.ssh(cipher, route, "true"))
                execs[route].append((time.perf_counter() - start) * 1000)
    _head("latency on an open connection")
    _row("a byte there and back, us", trips, _ratio(trips), "<= 0.8")
    _row("a command, ms (two processes in any case)", execs, _ratio(execs), "<= 0.8", form=">10.1f")


def _echo(command: list[str]) -> subprocess.Popen[bytes]:
    shell = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    _round_trips(shell, 10)
    return shell


def _round_trips(shell: subprocess.Popen[bytes], count: int) -> float:
    """Return the seconds of one, the median."""
    to, back = _open(shell.stdin), _open(shell.stdout)
    times = []
    for _ in range(count):
        start = time.perf_counter()
        to.write(b"x")
        if back.read(1) != b"x":
            raise RuntimeError("the connection has ended")
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("no pipe was asked for")
    return pipe


# --- many -----------------------------------------------------------------------------------------------------------


@contextmanager
def _clients(servers: Servers, route: str, *, at_once: int) -> Iterator[Callable[[int], tuple[int, float]]]:
    """Give a function that opens so many more and returns how many failed, in how many seconds."""
    command = [sys.executable, "-m", "tests.bench.sessions_clients"]
    arguments = [str(servers.folder), route, str(servers.port(route)), str(at_once)]
    with subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as clients:

        def more(count: int) -> tuple[int, float]:
            assert clients.stdin is not None
            assert clients.stdout is not None
            print(count, file=clients.stdin, flush=True)
            failed, seconds = clients.stdout.readline().split()
            return int(failed), float(seconds)

        try:
            yield more
        finally:
            clients.kill()


def _idle(servers: Servers) -> None:
    """Measure what each session costs that is open and silent."""
    print(f"{'memory of each further idle session':<44}{'KiB':>10}{'failed':>10}   wanted")
    with _clients(servers, "jump", at_once=5) as more:
        before = servers.memory("jump")
        failed, _ = more(IDLE_SSHD)
        each = (servers.memory("jump") - before) / (IDLE_SSHD - failed) / 1024
        print(f"{f'sshd, {IDLE_SSHD} of them':<44}{each:>10.0f}{failed:>10}", flush=True)
    with _clients(servers, "proxy", at_once=20) as more:
        more(20)  # what the first ones load belongs to none of them
        there = 0
        for count in IDLE:
            before = servers.memory("proxy")
            failed, _ = more(count)
            each = (servers.memory("proxy") - before) / (count - failed) / 1024
            there += count
            print(f"{f'proxy, up to {there:,}':<44}{each:>10.1f}{failed:>10}   <= 48", flush=True)


def _crowd(servers: Servers) -> None:
    """Have many come at once, with the defaults."""
    print(f"{f'{CROWD} connections at once':<44}{'failed':>10}{'seconds':>10}   wanted")
    for route in ("jump", "proxy"):
        with _clients(servers, route, at_once=CROWD) as more:
            failed, seconds = more(CROWD)
            print(f"{_NAMES[route]:<44}{failed:>10}{seconds:>10.1f}   {'0' if route == 'proxy' else ''}", flush=True)


def _steady(servers: Servers) -> None:
    """Run commands at a fixed rate, late or not."""
    cipher = CIPHERS["chacha20-poly1305"]
    times = _figures()
    failed = dict.fromkeys(ROUTES, 0)
    for _ in range(max(1, round(STEADY_SECONDS / BLOCK))):
        for route in ROUTES:
            results = asyncio.run(_block(servers.ssh(cipher, route, "true")))
            times[route].extend(seconds * 1000 for code, seconds in results if code == 0)
            failed[route] += sum(code != 0 for code, _ in results)
    print(
        f"{f'{RATE} commands/s for {STEADY_SECONDS:g} s each':<44}{'p50 ms':>10}{'p99 ms':>10}{'failed':>10}   wanted"
    )
    for route in ROUTES:
        cuts = statistics.quantiles(times[route], n=100, method="inclusive")
        wanted = "0 failed" if route == "proxy" else ""
        print(f"{_NAMES[route]:<44}{cuts[49]:>10.0f}{cuts[98]:>10.0f}{failed[route]:>10}   {wanted}", flush=True)


async def _block(command: list[str]) -> list[tuple[int, float]]:
    """Return exit codes and seconds of the commands of one block."""

    async def one(at: float) -> tuple[int, float]:
        await asyncio.sleep(at)
        start = time.perf_counter()
        process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return await process.wait(), time.perf_counter() - start

    return list(await asyncio.gather(*(one(number / RATE) for number in range(round(BLOCK * RATE)))))


# --- a whole cluster -------------------------------------------------------------------------------------------------


def _cluster(servers: Servers) -> None:
    """Compare our node with sshd, and tsh with ssh, through a real proxy."""
    with tsh_cluster(servers.folder / "cluster") as cluster:
        joe = cluster.person(servers.folder / "home")
        config = servers.folder / "tsh_config"
        config.write_text(joe.run("config").stdout)
        ours = ["ssh", "-F", str(config), "-o", "BatchMode=yes"]
        port = str(cluster.second.node_port)
        alone = [
            *ours,
            "-o",
            "ProxyCommand=none",
            "-o",
            "HostName=127.0.0.1",
            "-o",
            "HostKeyAlias=db2.main",
            "-p",
            port,
        ]
        print(f"{f'{MEGABYTES} MiB and a login, MiB/s':<44}{'sshd':>10}{'our node':>10}{'ratio':>14}   wanted")
        for name, cipher in CIPHERS.items():
            for title, theirs, mine in (("direct", "direct", alone), ("proxy beside ssh -J", "jump", ours)):
                for direction, transfer in (("down", _download), ("up", _upload)):
                    pair = ([*servers.ssh(cipher, theirs)], [*mine, "-c", cipher, "db2.main"])
                    speeds = [[MEGABYTES / _seconds(partial(transfer, ssh)) for ssh in pair] for _ in range(ROUNDS)]
                    _pair(f"{name} {title}, {direction}", speeds)
        print(f"{'HOST true through the proxy, s':<44}{'ssh':>10}{'tsh ssh':>10}{'ratio':>14}   wanted")
        plain, handed = [*ours, "db2.main", "true"], ("ssh", "db2", "true")
        joe.run(*handed)
        turns = [
            [
                _seconds(lambda: subprocess.run(plain, stdin=subprocess.DEVNULL, check=True, timeout=60)),
                _seconds(lambda: joe.run(*handed).check_returncode()),
            ]
            for _ in range(LOGINS)
        ]
        _pair("true", turns, "<= 1.5", form=">10.2f")


def _seconds(what: Callable[[], object]) -> float:
    start = time.perf_counter()
    what()
    return time.perf_counter() - start


def _pair(title: str, turns: list[list[float]], wanted: str = "", *, form: str = ">10.0f") -> None:
    """Print the medians of two, and of their ratios turn by turn."""
    first, second = ([turn[which] for turn in turns] for which in (0, 1))
    ratio = statistics.median(mine / theirs for theirs, mine in turns)
    medians = f"{statistics.median(first):{form}}{statistics.median(second):{form}}"
    print(f"{title:<44}{medians}{ratio:>14.2f}   {wanted}", flush=True)


_NAMES = {"direct": "direct", "jump": "ssh -J, sshd", "proxy": "proxy"}
_TABLES: dict[str, Callable[[Servers], None]] = {
    "bytes": _bytes,
    "logins": _logins,
    "latency": _latency,
    "idle": _idle,
    "crowd": _crowd,
    "steady": _steady,
    "cluster": _cluster,
}
