"""Through a reverse tunnel beside the plain way through a proxy, to the same sshd, in the same minutes.

`python -m tests.bench tunnel [bytes|latency|idle|restart]`: all of them unless one is named. `bytes` and `latency` are
real processes: a root, and a leaf with an sshd behind its proxy. `plain` is the leaf's own 3023, `tunnel` the root's,
from where it goes through the tunnel and the leaf's proxy. The two take turns. `idle` and `restart` are one root proxy
in this process with all its leaves in another.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import resource
import shlex
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from runtime.core.clock import SystemClock
from runtime.core.defaults import MAX_CERTIFICATE_TTL
from runtime.pki.claims import HostClaims, MemberRole
from runtime.pki.keys import PrivateKey, generate_key, load_private_key
from runtime.pki.signing import random_serial, sign_host
from runtime.pki.trust import Trust
from tests.servers import linked
from tests.servers.linked import peer, trust
from tests.servers.people import certify, declare, user
from tests.servers.sshd import LOGIN, Sshd, trusted_user_ca_keys
from tests.servers.teleport import Teleport
from tests.servers.tunnels import Hosts, LeafProxy, RootProxy

MEGABYTES, ROUNDS = 96, 5
LOGINS, EXECS = 10, 40
LEAVES, RESTARTED = 1000, 500
ROUTES = ("plain", "tunnel")
CLOCK = SystemClock()

Figures = dict[str, list[float]]


def run(arguments: list[str]) -> None:
    """Print a table for each thing that is asked for."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = arguments or ["bytes", "latency", "idle", "restart"]
    if {"bytes", "latency"} & set(wanted):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, _routes(Path(folder)) as routes:
            if "bytes" in wanted:
                _bytes(routes)
            if "latency" in wanted:
                _latency(routes)
    if "idle" in wanted:
        asyncio.run(_idle())
    if "restart" in wanted:
        asyncio.run(_restart())


# --- a root and a leaf as processes -----------------------------------------------------------------------------------


Routes = dict[str, list[str]]
"""For each the words of an ssh whose connection is open already."""


@contextmanager
def _routes(folder: Path) -> Iterator[Routes]:
    root = linked.cluster(folder / "root", "main", ("auth", "proxy"))
    leaf = linked.cluster(folder / "leaf", "leaf", ("auth", "proxy"))
    ours, theirs = linked.authorities(root, "main"), linked.authorities(leaf, "leaf")
    trust(root, peer(theirs))
    trust(leaf, peer(ours, tunnel_addr=f"127.0.0.1:{root.tunnel_port}", allow_logins=[LOGIN]))
    key = generate_key()
    claims = HostClaims(
        host_id="0b9d3a3c-4b52-4b0f-9a0e-6f1f6f0f7c11",
        role=MemberRole.NODE,
        name="box",
        cluster="leaf",
        ttl=MAX_CERTIFICATE_TTL,
    )
    certificate = sign_host(claims, key.public, signer=theirs.host.signer, now=CLOCK.now(), serial=random_serial())
    (folder / "sshd").mkdir()
    with Sshd(
        folder / "sshd",
        host_key=key.to_openssh(),
        host_certificate=certificate.line,
        trusted_user_ca_keys=trusted_user_ca_keys(ours.user.signer.public, theirs.user.signer.public),
    ) as sshd:
        servers = [{"name": "box", "addr": f"127.0.0.1:{sshd.port}"}]
        leaf.configure({"proxy_service": {"openssh_servers": servers}})
        with root.start(), leaf.start():
            for teleport in (root, leaf):
                declare(teleport, user("joe", [LOGIN]))
            hosts = f"@cert-authority * {ours.host.signer.public.key.line}\n"
            hosts += f"@cert-authority * {theirs.host.signer.public.key.line}\n"
            routes = {
                "plain": _ssh(folder / "plain", leaf, hosts, "proxy:%h:%p"),
                "tunnel": _ssh(folder / "tunnel", root, hosts, "proxy:%h:%p@leaf"),
            }
            for route in ROUTES:
                _open(routes[route])
            try:
                yield routes
            finally:
                for route in ROUTES:
                    subprocess.run([*routes[route][:-1], "-O", "exit", "box"], capture_output=True, check=False)


def _ssh(folder: Path, teleport: Teleport, hosts: str, subsystem: str) -> list[str]:
    person = certify(teleport, "joe", [LOGIN])
    options = person.ssh_options(folder)
    (folder / "known_hosts").write_text(hosts)
    proxy = shlex.join(["ssh", *options, "-p", str(teleport.ssh_port), f"{LOGIN}@127.0.0.1"])
    control = ["-o", "ControlMaster=auto", "-o", "ControlPersist=yes", "-o", f"ControlPath={folder}/master"]
    return ["ssh", *options, *control, "-o", f"ProxyCommand={proxy} -s {subsystem}", "-l", LOGIN, "box"]


def _open(ssh: list[str]) -> None:
    deadline = time.monotonic() + 60
    while subprocess.run([*ssh, "true"], capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError("a route does not open")
        time.sleep(0.2)


def _ratio(figures: Figures) -> float:
    pairs = zip(figures["tunnel"], figures["plain"], strict=True)
    return statistics.median(through / plain for through, plain in pairs)


def _row(title: str, figures: Figures, wanted: str, form: str = ">10.1f") -> None:
    medians = "".join(f"{statistics.median(figures[route]):{form}}" for route in ROUTES)
    print(f"{title:<40}{medians}{_ratio(figures):>14.2f}   {wanted}", flush=True)


def _head(title: str) -> None:
    print(f"{title:<40}{'plain':>10}{'tunnel':>10}{'tunnel/plain':>14}   wanted", flush=True)


def _bytes(routes: Routes) -> None:
    _head(f"{MEGABYTES} MiB, median of {ROUNDS}")
    for direction in ("down", "up"):
        speed: Figures = {route: [] for route in ROUTES}
        for _ in range(ROUNDS):
            for route in ROUTES:
                start = time.perf_counter()
                _transfer(routes[route], direction)
                speed[route].append(MEGABYTES / (time.perf_counter() - start))
        _row(f"{direction}, MiB/s", speed, ">= 0.6")


def _transfer(ssh: list[str], direction: str) -> None:
    if direction == "down":
        command = [*ssh, f"head -c {MEGABYTES << 20} /dev/zero"]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=120)
        return
    source = ["head", "-c", str(MEGABYTES << 20), "/dev/zero"]
    with subprocess.Popen(source, stdout=subprocess.PIPE) as zeros:
        subprocess.run([*ssh, "cat >/dev/null"], stdin=zeros.stdout, check=True, timeout=120)


def _latency(routes: Routes) -> None:
    _head("latency, median, ms")
    for title, count, fresh in (("exec on an open connection", EXECS, False), ("ssh from nothing", LOGINS, True)):
        figures: Figures = {route: [] for route in ROUTES}
        for _ in range(count):
            for route in ROUTES:
                start = time.perf_counter()
                _run(routes[route], fresh)
                figures[route].append((time.perf_counter() - start) * 1000)
        _row(title, figures, "<= 1.5")


def _run(ssh: list[str], fresh: bool) -> None:
    alone = ["-o", "ControlMaster=no", "-o", "ControlPath=none"] if fresh else []
    # The first of several values of an option counts.
    command = [ssh[0], *alone, *ssh[1:], "true"]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)


# --- one root with many leaves ----------------------------------------------------------------------------------------


def _leaves(pipe: Connection, count: int, root_key: str, root_port: int) -> None:
    """Be the proxies of so many leaves of one cluster's authority, until the pipe closes."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    main = Hosts("main", load_private_key(root_key))
    leaves = [Hosts(f"leaf{number}") for number in range(count)]
    pipe.send([(leaf.cluster, leaf.signer.key.to_openssh()) for leaf in leaves])
    pipe.recv()

    async def work() -> None:
        ends = [LeafProxy(leaf, seed=number) for number, leaf in enumerate(leaves)]
        for end in ends:
            end.keep((main, f"127.0.0.1:{root_port}"))
        await asyncio.get_running_loop().run_in_executor(None, _until_closed, pipe)
        for end in ends:
            await end.agent.stop()

    asyncio.run(work())


def _until_closed(pipe: Connection) -> None:
    try:
        pipe.recv()
    except EOFError:
        return


@contextmanager
def _many(count: int, root: RootProxy, main: PrivateKey) -> Iterator[tuple[list[str], Connection]]:
    """Yield the names of so many leaves, whom the root trusts, and what they begin to dial at when it is sent to."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_leaves, args=(theirs, count, main.to_openssh(), root.port))
    process.start()
    theirs.close()
    try:
        told = [(name, Hosts(name, load_private_key(key)).key) for name, key in ours.recv()]
        root.trust = Trust(key for _, key in told)
        yield [name for name, _ in told], ours
    finally:
        ours.close()
        process.join(30)
        if process.is_alive():
            process.kill()
            process.join()


def _resident() -> int:
    """Return this process's resident memory in KiB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


async def _all_online(root: RootProxy, names: list[str], seconds: float = 300) -> float:
    start = time.perf_counter()
    async with asyncio.timeout(seconds):
        while len(list(root.registry.status())) < len(names):  # noqa: ASYNC110 - no one event tells
            await asyncio.sleep(0.1)
    return time.perf_counter() - start


async def _idle() -> None:
    main = Hosts("main")
    root = RootProxy(main)
    await root.start(max_connections=10_000)
    print(f"{'idle tunnels at one proxy of the root':<40}{'took s':>10}{'KiB each':>10}{'':>14}   wanted")
    with _many(LEAVES, root, main.signer.key) as (names, pipe):
        before = _resident()
        pipe.send("go")
        took = await _all_online(root, names)
        each = (_resident() - before) / LEAVES
        print(f"{LEAVES:<40}{took:>10.1f}{each:>10.1f}{'':>14}   <= 100 KiB", flush=True)
        await root.registry.stop()


async def _restart() -> None:
    main = Hosts("main")
    root = RootProxy(main)
    await root.start(max_connections=10_000)
    print(f"{'restart of a proxy of the root':<40}{'all back':>10}")
    with _many(RESTARTED, root, main.signer.key) as (names, pipe):
        pipe.send("go")
        await _all_online(root, names)
        await root.registry.stop()
        await asyncio.sleep(5)
        await root.start(max_connections=10_000)
        took = await _all_online(root, names)
        print(f"{f'{RESTARTED} tunnels, s':<40}{took:>10.1f}{'':>24}   <= 60", flush=True)
        await root.registry.stop()
