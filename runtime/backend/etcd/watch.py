"""One watch: a stream of its own to one peer, taken up on another where it ended, without a gap or a duplicate."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import grpc
from aetcd import rpc

from runtime.backend.base import Delete, Event, Put, Snapshot
from runtime.backend.etcd.connections import METADATA, Closed, Connections, denied
from runtime.backend.etcd.keyspace import Keyspace, lease_expiry, range_end
from runtime.backend.etcd.requests import current_revision, read_all, revoke
from runtime.core.clock import Clock
from runtime.core.errors import Unavailable

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
"""Pauses between attempts to reconnect: up to the first, doubled each time up to the longest, with full jitter."""

LEASE_CHECK_SECONDS = 1.0
"""How often leases that have outlived their items are looked for."""

LEASE_GRACE = timedelta(seconds=5)
"""How long after an item's expiry etcd may take to revoke its lease by itself (usually 1 to 3 s) before we do."""

_log = logging.getLogger(__name__)


class Watch:
    """One watch and its place in history."""

    def __init__(
        self, connections: Connections, keyspace: Keyspace, clock: Clock, prefix: str, after: int | None
    ) -> None:
        """Prepare to follow the prefix after that revision, or from a Snapshot on for None."""
        self._connections = connections
        self._keyspace = keyspace
        self._clock = clock
        self._prefix = prefix
        self._start = keyspace.raw(prefix)
        self._after = after  # all up to here was yielded; None: the next event is a Snapshot
        self._cluster: int | None = None  # the id of the cluster that `_after` is a revision of
        self._failures = 0
        self._leases: dict[bytes, int] = {}  # those of the items seen, by etcd's key

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield events until the backend is closed. Raises AccessDenied."""
        while True:
            try:
                if self._after is None:
                    yield await self._connections.or_closed(self._snapshot())
                async with aclosing(self._stream()) as stream:
                    async for event in stream:
                        yield event
            except Closed:
                return
            except Unavailable as error:
                try:
                    await self._connections.or_closed(self._pause(error))
                except Closed:
                    return

    async def _snapshot(self) -> Snapshot:
        content = await read_all(self._connections, self._start)
        self._after, self._cluster = content.revision, content.cluster
        self._leases = {kv.key: kv.lease for kv in content.kvs if kv.lease}
        return self._keyspace.snapshot(content.kvs, content.revision, self._clock.now())

    async def _stream(self) -> AsyncGenerator[Event, None]:
        """Yield the events of one stream, until a Snapshot is due. Raises Unavailable when the stream is lost."""
        connection = await self._connections.or_closed(self._connections.dial())
        call = connection.watch.Watch(metadata=METADATA)
        reader = _Reader(call, self._connections.closed)
        failed = True
        try:
            await self._connections.or_closed(call.write(self._request()))
            waiting: list[Event] = []
            while self._after is not None:
                response = await reader.receive(LEASE_CHECK_SECONDS)
                self._end_leases()
                if response is None:
                    continue
                if response.canceled:
                    self._canceled(response)
                elif response.created:
                    await self._connections.or_closed(self._created(response.header))
                elif not response.events:
                    self._after = response.header.revision  # a progress notification: nothing is due up to there
                events = waiting + [event for raw in response.events if (event := self._event(raw)) is not None]
                # Only whole revisions: were the stream lost within one, the rest of it could not be asked for.
                waiting = (
                    [event for event in events if event.revision == events[-1].revision] if response.fragment else []
                )
                for event in events[: len(events) - len(waiting)]:
                    self._after = event.revision
                    yield event
            failed = False
        except grpc.aio.AioRpcError as error:
            raise Unavailable(f"etcd peer {connection.peer}: {error.details() or error.code().name}") from error
        finally:
            call.cancel()
            await reader.stop()
            self._connections.retire(connection, failed=failed)

    def _request(self) -> Any:
        return rpc.WatchRequest(
            create_request=rpc.WatchCreateRequest(
                key=self._start,
                range_end=range_end(self._start),
                start_revision=(self._after or 0) + 1,
                progress_notify=True,  # so that a quiet prefix does not fall behind the next compaction
                fragment=True,
            )
        )

    async def _created(self, header: Any) -> None:
        """Note that the stream is there; a cluster that was restored from a backup has lost our place in history."""
        if self._failures:
            _log.info("etcd: watching %s again after revision %s", self._prefix, self._after)
            self._failures = 0
        known, self._cluster = self._cluster, header.cluster_id
        if known not in (None, header.cluster_id):
            self._forget("it is another cluster now")
        elif self._after is not None and header.revision < self._after:
            # This member may only lag behind; the majority knows.
            revision = await current_revision(self._connections, self._start)
            if revision < self._after:
                self._forget(f"it is at revision {revision}, as after restoring a backup")

    def _canceled(self, response: Any) -> None:
        """Find out why etcd has ended the watch. Raises AccessDenied, Unavailable."""
        if response.compact_revision:
            self._forget(f"it is compacted up to revision {response.compact_revision}")
        elif "permission denied" in response.cancel_reason:
            raise denied(f"etcd does not let us watch {self._prefix}: {response.cancel_reason}")
        else:
            raise Unavailable(f"etcd ended the watch: {response.cancel_reason}")

    def _forget(self, reason: str) -> None:
        _log.warning(
            "etcd: %s: the history after revision %s is gone, %s; reading anew", self._prefix, self._after, reason
        )
        self._after = None

    def _event(self, raw: Any) -> Event | None:
        """Return etcd's event as one of ours, or None where the key cannot be ours; note the item's lease."""
        kv = raw.kv
        if kv.lease and raw.type == rpc.Event.PUT:
            self._leases[kv.key] = kv.lease
        else:
            self._leases.pop(kv.key, None)
        if raw.type == rpc.Event.PUT:
            item = self._keyspace.item(kv)
            return None if item is None else Put(item)
        key = self._keyspace.key(kv.key)
        return None if key is None else Delete(key, kv.mod_revision)

    def _end_leases(self) -> None:
        """Revoke the leases of items that expired a while ago.

        etcd starts a lease's time anew whenever its leader changes, so that the Delete of an item with a long life
        could otherwise come as late again.
        """
        limit = self._clock.now() - LEASE_GRACE
        for key, lease in list(self._leases.items()):
            expires = lease_expiry(lease)
            if expires is not None and expires <= limit:
                del self._leases[key]
                self._connections.background(self._end_lease(key, lease))

    async def _end_lease(self, key: bytes, lease: int) -> None:
        if not await revoke(self._connections, lease):
            self._leases.setdefault(key, lease)  # the next check tries again

    async def _pause(self, error: Unavailable) -> None:
        if not self._failures:
            _log.warning("etcd: the watch of %s is lost and will be taken up again: %s", self._prefix, error)
        longest = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**self._failures)
        self._failures += 1
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - not a secret


class _Reader:
    """Reads a stream with a time limit: giving up a read would end the stream, so it is kept for the next call."""

    def __init__(self, call: Any, closed: asyncio.Future[None]) -> None:
        self._call = call
        self._closed = closed
        self._reading: asyncio.Task[Any] | None = None

    async def receive(self, seconds: float) -> Any:
        """Return the next message, or None when none came in time. Raises AioRpcError, Unavailable, Closed."""
        reading = self._reading or asyncio.ensure_future(self._call.read())
        self._reading = reading
        await asyncio.wait({reading, self._closed}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self._closed.done():
            raise Closed
        if not reading.done():
            return None
        self._reading = None
        if reading.cancelled() or (message := reading.result()) is grpc.aio.EOF:
            raise Unavailable("etcd ended the stream")
        return message

    async def stop(self) -> None:
        """End a read that is under way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
