"""Several peers: which are asked, and what happens when one is down, frozen or killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from runtime.backend.base import Event, Item, Put, Snapshot
from runtime.backend.etcd import EtcdBackend
from runtime.backend.etcd.tls import parse_peers
from runtime.backend.options import EtcdOptions
from runtime.core.clock import SystemClock
from runtime.core.errors import InvalidSettings, Unavailable
from tests.contract.backend.conftest import Servers
from tests.contract.backend.harness import (
    PATIENCE_SECONDS,
    QUICK_SECONDS,
    REQUEST_SECONDS,
    SHORT_REQUEST_SECONDS,
    next_event,
)
from tests.servers.etcd import Cluster, Etcd, running
from tests.servers.processes import free_ports


@pytest.fixture
def etcd(servers: Servers) -> Etcd:
    """Give the session's single server."""
    server = servers.get("etcd")
    assert isinstance(server, Etcd)
    return server


@asynccontextmanager
async def _open(*peers: str, timeout: float = REQUEST_SECONDS) -> AsyncIterator[EtcdBackend]:  # noqa: ASYNC109 - the options'
    options = EtcdOptions(peers=peers, prefix="cluster", timeout=timeout)
    backend = await EtcdBackend.open(options, clock=SystemClock())
    try:
        yield backend
    finally:
        await backend.close()


async def _put(backend: EtcdBackend, key: str, value: bytes) -> Item:
    """Put as soon as there is a majority with a leader: a write in doubt is not repeated by the backend."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await backend.put(key, value)
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_it_opens_while_all_peers_but_one_are_down(etcd: Etcd) -> None:
    """Wherever in the list the living one is."""
    down = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
    for peers in ([*down, etcd.url], [down[0], etcd.url, down[1]], [etcd.url, *down]):
        async with _open(*peers) as backend:
            await backend.put("resources/a", b"")


async def test_when_no_peer_answers_the_error_lists_them_within_the_timeout() -> None:
    """Each with what happened."""
    down = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
    start = time.monotonic()
    with pytest.raises(Unavailable, match="etcd") as caught:
        await EtcdBackend.open(EtcdOptions(peers=tuple(down), timeout=1.0), clock=SystemClock())
    assert time.monotonic() - start < 1.0 + QUICK_SECONDS
    assert all(f"{peer}: " in str(caught.value) for peer in down)
    assert "refused" in str(caught.value)
    assert caught.value.hint


async def test_a_cluster_of_three_goes_on_with_two_and_says_so_with_one(tmp_path: Path) -> None:
    """A member is killed: reads, writes and the watch go on. A second: Unavailable. It is back: so are they."""
    cluster = Cluster(tmp_path)
    peers = [member.url for member in cluster.members]
    # The first peer of the list is the one that the backend and its watch are connected to.
    async with running(cluster), _open(*peers) as backend, aclosing(backend.watch("resources/")) as watch:
        assert isinstance(await next_event(watch), Snapshot)
        assert await _comes(watch, await backend.put("resources/a", b"three"))
        first, second, _ = cluster.members
        first.kill()
        assert await _comes(watch, await _put(backend, "resources/b", b"two"))
        assert (await backend.get("resources/a")).value == b"three"
        async with _open(*peers, timeout=SHORT_REQUEST_SECONDS) as impatient:
            second.kill()
            start = time.monotonic()
            with pytest.raises(Unavailable):
                await impatient.put("resources/c", b"one")
            with pytest.raises(Unavailable):
                await impatient.get("resources/a")
            assert time.monotonic() - start < 2 * SHORT_REQUEST_SECONDS + QUICK_SECONDS
        await asyncio.to_thread(second.start)
        assert await _comes(watch, await _put(backend, "resources/d", b"two again"))


async def _comes(watch: AsyncGenerator[Event, None], item: Item) -> bool:
    """Return whether the watch comes to that item; a put whose answer was lost may come before it."""
    while True:
        event = await next_event(watch)
        assert isinstance(event, Put)
        if event == Put(item):
            return True


async def test_a_frozen_member_is_left_for_the_next(tmp_path: Path) -> None:
    """A read and one that opens find the next member within their timeout, a watch when its keepalive fails."""
    cluster = Cluster(tmp_path)
    peers = [member.url for member in cluster.members]
    opened = partial(_open, *peers, timeout=9.0)  # a third of it is spent on the frozen one
    async with running(cluster), opened() as backend, aclosing(backend.watch("resources/")) as watch:
        await next_event(watch)
        item = await backend.put("resources/a", b"")
        assert await _comes(watch, item)  # so its stream is there, to the first peer
        cluster.members[0].freeze()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:  # the frozen one may have been the leader: the others elect one first
                try:
                    assert await backend.get("resources/a") == item
                    break
                except Unavailable:
                    continue
        async with opened() as other:
            assert await other.get("resources/a") == item
        assert await _comes(watch, await _put(backend, "resources/b", b""))


@pytest.mark.parametrize(
    "peers",
    [(), ("",), ("ftp://host",), ("https://",), ("https://host:port",), ("https://host/path",), ("https://u:p@host",)],
)
async def test_what_is_no_peer_is_invalid(peers: tuple[str, ...]) -> None:
    """InvalidSettings with the key's name, and how to write it."""
    with pytest.raises(InvalidSettings, match="peers") as caught:
        await EtcdBackend.open(EtcdOptions(peers=peers), clock=SystemClock())
    assert caught.value.hint


async def test_an_empty_prefix_is_invalid(etcd: Etcd) -> None:
    """It would take the whole etcd as ours."""
    for prefix in ("", "/"):
        with pytest.raises(InvalidSettings, match="prefix"):
            await EtcdBackend.open(EtcdOptions(peers=(etcd.url,), prefix=prefix), clock=SystemClock())


async def test_plain_http_is_warned_of_beyond_loopback(caplog: pytest.LogCaptureFixture) -> None:
    """Once for each such peer, and not for https nor for this machine."""
    parse_peers(EtcdOptions(peers=("http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "etcd-0:1")))
    assert not caplog.records
    peers = parse_peers(EtcdOptions(peers=("http://etcd-1", "http://[fd00::1]:1")))
    assert [record.getMessage().count(str(peer)) for peer, record in zip(peers, caplog.records, strict=True)] == [1, 1]
    assert [peer.address for peer in peers] == ["etcd-1:2379", "[fd00::1]:1"]
