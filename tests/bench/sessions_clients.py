"""Many connections at once, for `bench_sessions`: through our proxy or through an sshd, from one process.

`python -m tests.bench.sessions_clients FOLDER ROUTE PORT` reads a number from stdin, opens that many further
connections with a channel to a server of its own on each, up to AT_ONCE of them at a time (the fourth argument), waits
for the server's greeting on each, and prints how many failed and how long it took. At the end of stdin all are closed.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from runtime.core.errors import TeleportError
from runtime.transport.client import ClientConnection, connect
from runtime.transport.limits import Limits
from tests.servers.sshd import LOGIN

GREETING = b"here\n"
LIMITS = Limits(keepalive_interval=0)
TIMEOUT = 100.0
"""Seconds within which a connection must be there; it may wait for the others' sake."""


async def _through_proxy(connection: ClientConnection, port: int) -> Any:
    writer, reader, _ = await connection.open_session(subsystem=f"proxy:127.0.0.1:{port}", encoding=None)
    return reader, writer


async def _through_sshd(connection: ClientConnection, port: int) -> Any:
    return await connection.open_connection("127.0.0.1", port, encoding=None)


_CHANNELS: dict[str, Callable[[ClientConnection, int], Awaitable[Any]]] = {
    "proxy": _through_proxy,
    "jump": _through_sshd,
}


async def _run(folder: Path, route: str, port: int, at_once: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    key, certificate = (folder / "id").read_bytes(), (folder / "id-cert.pub").read_bytes()
    held: list[object] = []
    gate = asyncio.Semaphore(at_once)

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        writer.write(GREETING)

    server = await asyncio.start_server(greet, "127.0.0.1", 0, backlog=1024)
    target = server.sockets[0].getsockname()[1]

    async def session() -> bool:
        async with gate:
            try:
                connection = await connect(
                    "127.0.0.1",
                    port,
                    name=route,
                    login=LOGIN,
                    key=key,
                    certificate=certificate,
                    verify_host=lambda _name, _certificate: None,
                    limits=LIMITS,
                    connect_timeout=TIMEOUT,
                )
                reader, writer = await asyncio.wait_for(_CHANNELS[route](connection, target), TIMEOUT)
                greeting = await asyncio.wait_for(reader.readexactly(len(GREETING)), TIMEOUT)
            except (TeleportError, OSError, EOFError, Exception):
                return False
            held.append((connection, reader, writer))
            return bool(greeting == GREETING)

    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        start = time.perf_counter()
        results = await asyncio.gather(*(session() for _ in range(int(line))))
        print(results.count(False), time.perf_counter() - start, flush=True)


asyncio.run(_run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
