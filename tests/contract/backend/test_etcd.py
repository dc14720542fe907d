"""What is particular to etcd: how items lie in it, leases, pages, and what its history can do to a watch."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from aetcd import rpc

from runtime.backend.base import Backend, Delete, Put, Snapshot
from runtime.backend.etcd import EtcdBackend, keyspace, requests
from runtime.backend.options import EtcdOptions
from runtime.core.clock import SystemClock
from runtime.core.errors import AlreadyExists, CompareFailed, InvalidValue
from tests.contract.backend.etcd_store import EtcdStore
from tests.contract.backend.harness import (
    PATIENCE_SECONDS,
    REQUEST_SECONDS,
    next_changes,
    next_event,
    next_snapshot,
    start_clock,
)
from tests.servers.etcd import Etcd, running

pytestmark = pytest.mark.parametrize("store", ["etcd"], indirect=True)


@asynccontextmanager
async def _raw(store: EtcdStore) -> AsyncIterator[grpc.aio.Channel]:
    """Give a bare channel to the server, as etcdctl has."""
    async with grpc.aio.insecure_channel(store.address) as channel:
        yield channel


def _root(store: EtcdStore) -> bytes:
    return store.options.prefix.encode() + b"/"


async def _leases(channel: grpc.aio.Channel) -> set[int]:
    response = await rpc.LeaseStub(channel).LeaseLeases(rpc.LeaseLeasesRequest())
    return {lease.ID for lease in response.leases}


async def _until(check: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await check():  # noqa: ASYNC110 - the state is etcd's: there is no event to wait for
            await asyncio.sleep(0.02)


async def test_keys_and_values_lie_in_etcd_as_they_are(store: EtcdStore) -> None:
    """PREFIX/KEY and the bare value, also with an expiry: that is in the id of the lease, to the millisecond."""
    clock = start_clock()
    backend = await store.open(clock)
    expires = clock.now() + timedelta(seconds=90, milliseconds=7)
    item = await backend.put("resources/Üser/..", b"\x00value\xff", expires=expires)
    async with _raw(store) as channel:
        (kv,) = (await rpc.KVStub(channel).Range(rpc.RangeRequest(key=_root(store) + "resources/Üser/..".encode()))).kvs
        lease = await rpc.LeaseStub(channel).LeaseTimeToLive(rpc.LeaseTimeToLiveRequest(ID=kv.lease))
    assert (kv.value, kv.mod_revision) == (b"\x00value\xff", item.revision)
    assert keyspace.lease_expiry(kv.lease) == item.expires == expires
    assert lease.grantedTTL == 91


async def test_an_item_without_expiry_has_no_lease(store: EtcdStore, backend: Backend) -> None:
    """Also when it had one before."""
    await backend.put("resources/a", b"", expires=start_clock().now() + timedelta(hours=1))
    assert (await backend.put("resources/a", b"")).expires is None
    async with _raw(store) as channel:
        (kv,) = (await rpc.KVStub(channel).Range(rpc.RangeRequest(key=_root(store) + b"resources/a"))).kvs
    assert kv.lease == 0


async def test_two_prefixes_of_one_etcd_do_not_meet(store: EtcdStore, backend: Backend) -> None:
    """Even where one is the start of the other, and with whatever lies beside the keys."""
    async with _raw(store) as channel:
        kv = rpc.KVStub(channel)
        prefix = store.options.prefix.encode()
        for stranger in (prefix + b"2/resources/a", prefix + b"/resources-old/a", prefix + b"/resources", prefix):
            await kv.Put(rpc.PutRequest(key=stranger, value=b"stranger"))
    item = await backend.put("resources/a", b"ours")
    assert (await backend.range("resources/")).items == (item,)


async def test_a_writer_that_loses_leaves_no_lease(store: EtcdStore, backend: Backend) -> None:
    """The lease of a create or compare_and_swap that came too late is revoked; the winner's stays."""
    later = start_clock().now() + timedelta(hours=1)
    async with _raw(store) as channel:
        before = await _leases(channel)
        await backend.create("resources/a", b"", expires=later)
        with_winner = await _leases(channel)
        assert len(with_winner - before) == 1
        with pytest.raises(AlreadyExists):
            await backend.create("resources/a", b"", expires=later)
        with pytest.raises(CompareFailed):
            await backend.compare_and_swap("resources/a", b"", revision=1, expires=later)

        async def only_the_winners() -> bool:
            return await _leases(channel) - before == with_winner - before

        await _until(only_the_winners)


async def test_a_lease_id_that_is_taken_is_chosen_again(
    store: EtcdStore, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writes with the same millisecond and the same random bits get two leases."""
    bits = iter([1, 1, 2])
    monkeypatch.setattr("secrets.randbits", lambda _: next(bits))
    expires = start_clock().now() + timedelta(hours=1)
    await backend.put("resources/a", b"", expires=expires)
    await backend.put("resources/b", b"", expires=expires)
    async with _raw(store) as channel:
        kvs = (await rpc.KVStub(channel).Range(rpc.RangeRequest(key=_root(store), range_end=b"\0"))).kvs
    ours = [kv.lease for kv in kvs if kv.key.startswith(_root(store))]
    assert len(set(ours)) == 2
    assert {keyspace.lease_expiry(lease) for lease in ours} == {expires}


async def test_an_expiry_that_a_lease_id_cannot_hold_is_refused(backend: Backend) -> None:
    """Later than 2109: InvalidValue instead of another expiry."""
    with pytest.raises(InvalidValue, match="2109"):
        await backend.put("resources/a", b"", expires=start_clock().now().replace(year=2110))


async def test_a_lease_that_outlives_its_item_is_revoked_by_a_watch(store: EtcdStore) -> None:
    """A change of etcd's leader starts a lease's time anew; the Delete comes all the same, and once."""
    clock = start_clock()
    backend = await store.open(clock)
    async with aclosing(backend.watch("resources/")) as watch:
        await next_snapshot(watch)
        # To etcd the lease has an hour to go: only the watch's clock says otherwise.
        item = await backend.put("resources/a", b"", expires=clock.now() + timedelta(hours=1))
        kept = await backend.put("resources/b", b"", expires=clock.now() + timedelta(hours=2))
        assert [await next_event(watch), await next_event(watch)] == [Put(item), Put(kept)]
        clock.advance(timedelta(hours=1, seconds=10))
        deleted = await next_event(watch)
        assert isinstance(deleted, Delete)
        assert deleted.key == "resources/a"
        assert (await backend.range("resources/")).items == (kept,)


async def test_several_changes_of_one_revision_all_come(store: EtcdStore, backend: Backend) -> None:
    """As another tool's transaction makes them."""
    root = _root(store)
    async with aclosing(backend.watch("resources/")) as watch, _raw(store) as channel:
        await next_snapshot(watch)
        puts = [
            rpc.RequestOp(request_put=rpc.PutRequest(key=root + f"resources/{n}".encode(), value=b"")) for n in range(9)
        ]
        await rpc.KVStub(channel).Txn(rpc.TxnRequest(success=puts))
        changes = await next_changes(watch, 9)
        assert len({change.revision for change in changes}) == 1
        item = await backend.put("resources/after", b"")
        assert await next_event(watch) == Put(item)
    assert [change.item.key for change in changes if isinstance(change, Put)] == [f"resources/{n}" for n in range(9)]


async def test_large_changes_come_in_fragments_without_a_gap(store: EtcdStore, backend: Backend) -> None:
    """10 MB of history are more than one of etcd's messages may have."""
    items = [await backend.put(f"resources/{number % 3}", bytes(350_000)) for number in range(30)]
    async with aclosing(backend.watch("resources/", after=items[0].revision)) as watch:
        assert await next_changes(watch, 29) == [Put(item) for item in items[1:]]


async def test_keys_that_are_not_ours_are_passed_over(store: EtcdStore, backend: Backend) -> None:
    """A key that is not UTF-8 hides nothing else."""
    async with aclosing(backend.watch("resources/")) as watch, _raw(store) as channel:
        await next_snapshot(watch)
        await rpc.KVStub(channel).Put(rpc.PutRequest(key=_root(store) + b"resources/\xff", value=b""))
        item = await backend.put("resources/a", b"")
        assert await next_event(watch) == Put(item)
    assert (await backend.range("resources/")).items == (item,)


async def test_all_pages_of_a_range_are_of_one_revision(
    store: EtcdStore, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while somebody writes, and while etcd is compacted under it: then it is read again."""
    monkeypatch.setattr(requests, "PAGE_ITEMS", 1)
    for number in range(10):
        await backend.put(f"resources/{number}", b"0")
    writer = asyncio.ensure_future(_write_and_compact(store, backend))
    try:
        for _ in range(30):
            values = [int(item.value) for item in (await backend.range("resources/")).items]
            # The writer raises 0, then 1, … then 9 by one: what one revision holds never rises, and falls by one once.
            assert values == sorted(values, reverse=True)
            assert values[0] - values[-1] <= 1
        assert not writer.done()
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)


async def _write_and_compact(store: EtcdStore, backend: Backend) -> None:
    turn = 0
    while True:
        turn += 1
        for number in range(10):
            await backend.put(f"resources/{number}", str(turn).encode())
        if turn % 5 == 0:
            await store.forget_history()


async def test_a_watch_of_a_cluster_restored_from_a_backup_gets_a_snapshot(
    store: EtcdStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its revisions start below what the watch has seen: the state is told anew, with a warning, and then changes."""
    etcd = Etcd(tmp_path / "restored")
    async with running(etcd):
        backend = await EtcdBackend.open(EtcdOptions(peers=(etcd.url,), timeout=REQUEST_SECONDS), clock=SystemClock())
        try:
            async with aclosing(backend.watch("resources/")) as watch:
                await next_snapshot(watch)
                for _ in range(20):
                    last = await backend.put("resources/a", b"")
                    await next_event(watch)
                await asyncio.to_thread(etcd.kill)
                shutil.rmtree(etcd.folder / "data")
                await asyncio.to_thread(etcd.start)
                snapshot = await next_event(watch)
                assert isinstance(snapshot, Snapshot)
                assert snapshot.items == ()
                assert snapshot.revision < last.revision
                item = await backend.put("resources/b", b"")
                assert await next_event(watch) == Put(item)
        finally:
            await backend.close()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len([text for text in warnings if "backup" in text]) == 1


async def _progress(channel: grpc.aio.Channel, revision: int) -> None:
    """Wait until a younger watch was notified three times: the older one was so at least once."""
    stream = rpc.WatchStub(channel).Watch()
    await stream.write(rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"quiet", progress_notify=True)))
    for _ in range(1 + 3):  # the first message says that it was created
        assert (await stream.read()).header.revision >= revision
    stream.cancel()


async def test_a_quiet_watch_does_not_fall_behind_compaction(store: EtcdStore, tmp_path: Path) -> None:
    """The server tells it of progress, so that after a restart it goes on without a Snapshot."""
    etcd = Etcd(tmp_path / "quiet", flags=["--watch-progress-notify-interval=100ms"])
    options = EtcdOptions(peers=(etcd.url,), timeout=REQUEST_SECONDS)
    async with running(etcd):
        backend = await EtcdBackend.open(options, clock=SystemClock())
        try:
            async with aclosing(backend.watch("resources/")) as watch:
                await next_snapshot(watch)
                waiting = asyncio.ensure_future(anext(watch))
                for _ in range(20):
                    elsewhere = await backend.put("presence/a", b"")
                async with grpc.aio.insecure_channel(etcd.address) as channel:
                    await _progress(channel, elsewhere.revision)
                    await rpc.KVStub(channel).Compact(rpc.CompactionRequest(revision=elsewhere.revision, physical=True))
                await asyncio.to_thread(etcd.restart)
                other = await EtcdBackend.open(options, clock=SystemClock())
                item = await other.put("resources/a", b"")
                await other.close()
                assert await asyncio.wait_for(waiting, PATIENCE_SECONDS) == Put(item)
        finally:
            await backend.close()
