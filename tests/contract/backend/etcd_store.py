"""The etcd store of the contract suite: one real server for the session, a prefix of its own for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import grpc
from aetcd import rpc

from runtime.backend.base import Backend
from runtime.backend.etcd import EtcdBackend
from runtime.backend.options import EtcdOptions
from runtime.core.clock import Clock, SystemClock
from tests.contract.backend.harness import REQUEST_SECONDS
from tests.servers.etcd import Etcd


class EtcdStore:
    """One prefix on the session's server."""

    name = "etcd"

    def __init__(self, server: Etcd, stack: AsyncExitStack, prefix: str) -> None:
        self._server = server
        self._stack = stack
        self.address = server.address
        self.options = EtcdOptions(peers=(server.url,), prefix=prefix, timeout=REQUEST_SECONDS)

    async def open(
        self,
        clock: Clock | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - the options' timeout, not this call's
    ) -> Backend:
        """Open it once more; the system's clock if none is given."""
        options = self.options if timeout is None else replace(self.options, timeout=timeout)
        backend = await EtcdBackend.open(options, clock=clock or SystemClock())
        self._stack.push_async_callback(backend.close)
        return backend

    async def restart(self) -> None:
        """Kill the server and start it on the same data and address; returns when it answers."""
        await asyncio.to_thread(self._server.restart)

    def freeze(self) -> None:
        """Stop the server in its tracks (SIGSTOP)."""
        self._server.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self._server.thaw()

    async def forget_history(self) -> None:
        """Compact etcd at its current revision, as its own housekeeping does from time to time."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            kv = rpc.KVStub(channel)
            revision = (await kv.Range(rpc.RangeRequest(key=b"any"))).header.revision
            await kv.Compact(rpc.CompactionRequest(revision=revision, physical=True))


@contextmanager
def server(folder: Path) -> Iterator[Etcd]:
    """Run one etcd for the session."""
    with Etcd(folder / "etcd") as etcd:
        yield etcd


@asynccontextmanager
async def open_store(server: Etcd, folder: Path) -> AsyncIterator[EtcdStore]:
    """Give an empty prefix for one test, named by its folder."""
    async with AsyncExitStack() as stack:
        try:
            yield EtcdStore(server, stack, folder.name)
        finally:
            server.thaw()
