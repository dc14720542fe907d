"""Auth under load: what the heartbeats of a large cluster cost it, and what a lost auth server costs a caller.

`python -m tests.bench auth [NODES [CONNECTIONS [STORE]]]`: 5,000 nodes, 200 connections, sqlite unless told otherwise.

Every connection is a real member: a certificate of its own, SSH, the API, its own key in the backend. There are fewer
of them than nodes, since clients and server share one machine: each sends the heartbeats of many nodes, as its own. The
other nodes are in the backend already, so that lists have their real length. Memory for all nodes is thus computed,
from what one connection takes; CPU is measured.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.member_messages import Heartbeat, Presence
from runtime.api.messages import Nothing
from runtime.api.token_messages import TokenCreated, TokenRequest
from runtime.auth.presence import PresenceStore
from runtime.backend.open import open_backend
from runtime.core.callers import Caller, CallerKind
from runtime.core.clock import SystemClock
from runtime.core.errors import Unavailable
from runtime.service.identity import DataDir, StoredIdentity, read_identity
from runtime.service.member import HEARTBEAT_SECONDS, PRESENCE_TTL, AuthServers, auth_client, join
from tests.servers.auth_pair import AuthPair, Store, running_pair, running_store
from tests.servers.processes import Process
from tests.servers.teleport import Teleport

T = TypeVar("T")

CLOCK = SystemClock()
DIALS_AT_ONCE = 8
"""Below the ten unfinished logins from which on a port refuses some (MaxStartups)."""
SEEDED_FOR = timedelta(minutes=10)
"""How long the nodes that only fill the list are in it."""


def run(arguments: list[str]) -> None:
    """Print both tables."""
    nodes, connections, store = (*arguments[:3], *("5000", "200", "sqlite")[len(arguments[:3]) :])
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, running_store(store, Path(folder)) as backend:
        settings = {
            "storage": backend.section,
            "connection_limits": {"max_connections": 2 * int(nodes), "max_users": 2 * int(nodes)},
            "log": {"output": "stderr", "severity": "INFO"},
        }
        with Teleport(Path(folder, "auth"), config={"teleport": settings}).start() as auth:
            asyncio.run(_heartbeats(auth, backend, int(nodes), int(connections)))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, running_pair("sqlite", Path(folder)) as pair:
        asyncio.run(_losses(pair))


async def _heartbeats(auth: Teleport, store: Store, nodes: int, connections: int) -> None:
    print(f"{nodes:,} nodes, a heartbeat each in {HEARTBEAT_SECONDS:g} s, over {connections} connections; {store.name}")
    async with AsyncExitStack() as stack:
        token = await _admin(auth, stack).call(methods.TOKENS_CREATE, TokenRequest(roles=("node",)))
        identities = await _few_at_once(connections, lambda number: _join(auth, token, f"node{number}"))
        await asyncio.to_thread(auth.stop)  # or memory that joining left behind would seem to be no new one
        await asyncio.to_thread(auth.start)
        pid = auth.process.pid
        idle, before = resident(pid), cpu(pid)
        start = time.perf_counter()
        clients = await _few_at_once(connections, lambda number: _connect(auth, identities[number]))
        opened, seconds = cpu(pid) - before, time.perf_counter() - start
        for client in clients:
            stack.push_async_callback(client.close)
        each = (resident(pid) - idle) / connections
        await _seed(store, nodes - connections)
        quiet = await _over(pid, asyncio.sleep(HEARTBEAT_SECONDS / 3)) * 3
        times: list[float] = []
        used = await _over(pid, _period(clients, identities, nodes, times))
        loaded = resident(pid)
        listing = time.perf_counter()
        # By another process, whose work does not count as waiting here.
        listed = asyncio.create_task(asyncio.to_thread(auth.tctl, "nodes", "ls"))
        meanwhile = await _pings_until(listed, clients[0])
        listing = time.perf_counter() - listing
        back = await _come_back(auth, clients)
    assert len(times) == nodes
    assert listed.result().returncode == 0, listed.result().stderr
    assert listed.result().stdout.count("10.0.0.1:3022") == nodes
    median, slow = statistics.median(times), statistics.quantiles(times, n=100)[98]
    for what, value in (
        ("a heartbeat, p50 / p99 / longest", f"{median * 1000:.1f} / {slow * 1000:.1f} / {max(times) * 1000:.0f} ms"),
        (
            "auth's CPU for one period",
            f"{used:.2f} s of {HEARTBEAT_SECONDS:g} s: {used / HEARTBEAT_SECONDS:.0%} of a core",
        ),
        ("the same without heartbeats", f"{quiet:.2f} s"),
        ("a heartbeat's CPU", f"{(used - quiet) / nodes * 1000:.2f} ms"),
        ("a new connection's CPU", f"{opened / connections * 1000:.1f} ms; {connections / seconds:.0f} a second here"),
        ("auth's memory, nobody connected", f"{idle / 2**20:.0f} MiB"),
        (f"with {connections} connections, after the period", f"{loaded / 2**20:.0f} MiB"),
        ("one connection", f"{each / 1024:.0f} KiB; {nodes:,} of them {each * nodes / 2**20:,.0f} MiB (computed)"),
        ("tctl nodes ls", f"{listing * 1000:.0f} ms; meanwhile others wait up to {meanwhile * 1000:.0f} ms"),
        (f"after a restart half / all of {connections} are back", f"{statistics.median(back):.1f} / {max(back):.1f} s"),
    ):
        print(f"  {what:<44}{value}", flush=True)


async def _join(auth: Teleport, token: TokenCreated, name: str) -> StoredIdentity:
    joined = await join(
        token=token.entry.token,
        roles=[CallerKind.NODE],
        name=name,
        advertised=[],
        servers=_servers(auth),
        ca_pin=token.ca_pin,
        clock=CLOCK,
    )
    return joined[CallerKind.NODE]


async def _connect(auth: Teleport, identity: StoredIdentity) -> AuthClient:
    client = auth_client(lambda: identity, _servers(auth), CLOCK)
    await client.call(methods.PING, Nothing())
    return client


def _admin(auth: Teleport, stack: AsyncExitStack) -> AuthClient:
    identity = read_identity(auth.admin_identity)
    client = auth_client(lambda: identity, _servers(auth), CLOCK)
    stack.push_async_callback(client.close)
    return client


def _servers(*servers: Teleport) -> AuthServers:
    return AuthServers(DataDir(servers[0].folder / "none"), [server.auth_address for server in servers])


async def _few_at_once(count: int, make: Callable[[int], Awaitable[T]]) -> list[T]:
    few = asyncio.Semaphore(DIALS_AT_ONCE)

    async def one(number: int) -> T:
        async with few:
            return await make(number)

    return await asyncio.gather(*(one(number) for number in range(count)))


async def _seed(store: Store, count: int) -> None:
    backend = await open_backend(store.options, clock=CLOCK)
    presences = PresenceStore(backend, CLOCK)
    for number in range(count):
        presence = _presence(uuid.uuid4(), f"filler{number}")
        caller = Caller(CallerKind.NODE, str(presence.id), "127.0.0.1")
        await presences.heartbeat(caller, presence, SEEDED_FOR, {})
    await backend.close()


def _presence(node: uuid.UUID, name: str) -> Presence:
    labels = {"env": "prod", "region": "eu-west-1", "kernel": "Linux 6.12.0"}
    return Presence(id=node, kind=CallerKind.NODE, name=name, addr="10.0.0.1:3022", labels=labels)


async def _period(
    clients: Sequence[AuthClient], identities: Sequence[StoredIdentity], nodes: int, times: list[float]
) -> None:
    """Send each node's heartbeat at its own moment of one period, whatever became of the ones before."""
    start = asyncio.get_running_loop().time()

    async def beat(number: int) -> None:
        due = start + HEARTBEAT_SECONDS * number / nodes
        await asyncio.sleep(due - asyncio.get_running_loop().time())
        which = number % len(clients)
        heartbeat = Heartbeat(presence=_presence(identities[which].id, f"node{which}"), ttl=PRESENCE_TTL)
        sent = time.perf_counter()
        await clients[which].call(methods.HEARTBEAT, heartbeat)
        times.append(time.perf_counter() - sent)

    await asyncio.gather(*(beat(number) for number in range(nodes)))


async def _pings_until(done: asyncio.Task[Any], client: AuthClient) -> float:
    """Return the longest time that a ping took, of those sent one after the other until something is done."""
    longest = 0.0
    while not done.done():
        sent = time.perf_counter()
        await client.call(methods.PING, Nothing())
        longest = max(longest, time.perf_counter() - sent)
    return longest


async def _come_back(auth: Teleport, clients: Sequence[AuthClient]) -> list[float]:
    """Return how long each of the clients, which all watch something, is without auth that restarts, once it serves."""
    serves, ready = 0.0, asyncio.Event()
    watching = asyncio.Semaphore(0)

    async def watch(client: AuthClient) -> float:
        async with aclosing(client.watch("Role")) as events:
            await anext(events)
            watching.release()
            await anext(events)
            came = time.perf_counter()
        await ready.wait()
        return max(0.0, came - serves)

    back = [asyncio.create_task(watch(client)) for client in clients]
    for _ in clients:
        await watching.acquire()
    await asyncio.to_thread(auth.process.kill)
    await asyncio.to_thread(auth.start)
    serves = time.perf_counter()
    ready.set()
    return await asyncio.gather(*back)


async def _over(pid: int, work: Awaitable[object]) -> float:
    """Return the seconds of CPU that a process uses while something is done."""
    before = cpu(pid)
    await work
    return cpu(pid) - before


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used (proc(5), utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    """Return the bytes of memory that a process holds (proc(5), VmRSS)."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


async def _losses(pair: AuthPair) -> None:
    print("Two auth servers, one of them lost, as its caller sees it")
    async with AsyncExitStack() as stack:
        for what, lose in (("killed", Process.kill), ("frozen", Process.freeze)):
            client = pair.admin(*pair.both)
            stack.push_async_callback(client.close)
            while client.server != pair.one.auth_address:
                await client.close()
                await client.call(methods.PING, Nothing())
            lose(pair.one.process)
            print(f"  {what}: the first call {await _timed(client)}, the next {await _timed(client)}", flush=True)
            newcomer = pair.admin(*pair.both)
            stack.push_async_callback(newcomer.close)
            print(f"  {'':<{len(what)}}  a client that comes new {await _timed(newcomer)}", flush=True)
            pair.one.process.thaw()
            if not pair.one.process.running:
                await asyncio.to_thread(pair.one.start)


async def _timed(client: AuthClient) -> str:
    start = time.perf_counter()
    try:
        await client.call(methods.PING, Nothing())
        end = "is answered"
    except Unavailable:
        end = "fails"
    return f"{end} after {(time.perf_counter() - start) * 1000:,.0f} ms"
