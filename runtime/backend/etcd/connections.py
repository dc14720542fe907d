"""Connections to the peers: one at a time for requests, to another peer as soon as it fails; one for each watch.

gRPC's own balancing is not used: it knows several addresses of one name, not several names, and it cannot say whether a
failed request was sent. Here a peer is first dialled and asked for its status, so that a peer that is down, frozen or
without a leader is found out before anything is sent to it, and a write that fails later is known to be in doubt.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from aetcd import rpc

from runtime.backend.etcd.tls import Peer, TLSFiles, credentials, parse_peers, read_tls_files
from runtime.backend.options import EtcdOptions
from runtime.core.errors import AccessDenied, InvalidSettings, TeleportError, Unavailable

METADATA = (("hasleader", "true"),)
"""Tells a member that is cut off from the majority to refuse at once instead of waiting (etcd's MetadataHasLeader)."""

KEEPALIVE_SECONDS = 6
"""Pause before a silent watch's connection is pinged: etcd closes those that ping more often than every 5 s."""

KEEPALIVE_TIMEOUT_SECONDS = 3
"""How long the ping may stay unanswered before the connection counts as lost."""

REDIAL_SECONDS = 0.2
"""The longest pause between two rounds of dialling all peers within one request's timeout."""

_OPTIONS = (
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),  # what gRPC 1.85 goes by; its default is 60 s
    ("grpc.keepalive_permit_without_calls", 0),  # etcd takes pings without a request for an attack
    ("grpc.http2.max_pings_without_data", 0),  # no end to the pings of an idle watch
    ("grpc.max_receive_message_length", -1),  # the port limits values, etcd limits requests
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection with the files read anew
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # what may be sent twice is decided here
)

_UNREACHED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
CHECK_PEERS = "Check that etcd runs and that `peers` are the URLs its members advertise to clients."
IN_DOUBT = "The write may have been carried out: read before deciding."

_NO_LEADER = "etcdserver: no leader"

_log = logging.getLogger(__name__)

T = TypeVar("T")

# gRPC polls in a thread that it ends with the last channel of the process, and it waits for that in the thread of the
# event loop, whenever the channel happens to be collected. With this the thread stays.
grpc.aio.init_grpc_aio()


@dataclass(slots=True, eq=False)
class Connection:
    """One channel to one peer that has answered, with etcd's services on it."""

    peer: Peer
    channel: grpc.aio.Channel
    kv: Any = field(init=False)
    lease: Any = field(init=False)
    watch: Any = field(init=False)
    maintenance: Any = field(init=False)

    def __post_init__(self) -> None:
        self.kv = rpc.KVStub(self.channel)
        self.lease = rpc.LeaseStub(self.channel)
        self.watch = rpc.WatchStub(self.channel)
        self.maintenance = rpc.MaintenanceStub(self.channel)


Request = Callable[[Connection, float], Awaitable[T]]
"""Sends one request on the connection, with that many seconds to be answered."""


class Refused(Unavailable):
    """etcd understood the request and did nothing; `reason` is its text, for the operation that may know what to do."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Closed(Unavailable):
    """The backend was closed while, or before, it was asked."""

    def __init__(self) -> None:
        super().__init__("the etcd backend is closed")


class Connections:
    """All connections of one backend."""

    def __init__(self, options: EtcdOptions, peers: list[Peer], files: TLSFiles) -> None:
        self._options = options
        self._peers = peers
        self._files = files
        self._next = 0  # the peer to dial first
        self._current: Connection | None = None
        self._dialling = asyncio.Lock()
        self._open: set[Connection] = set()
        self._background: set[asyncio.Task[Any]] = set()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, options: EtcdOptions) -> Connections:
        """Check the options and connect to the first peer that answers. Raises InvalidSettings, Unavailable."""
        peers = parse_peers(options)
        files = await asyncio.to_thread(read_tls_files, options)
        connections = cls(options, peers, files)
        try:
            await connections._connect(time.monotonic() + options.timeout)
        except BaseException:
            await connections.close()
            raise
        return connections

    async def retrying(self, request: Request[T]) -> T:
        """Send a request that does no harm when sent twice, on to the next peer until one answers or time is up.

        Raises Unavailable, AccessDenied, and Refused.
        """
        deadline = time.monotonic() + self._options.timeout
        # Two at least: the first may find that its connection has died since it was last used.
        for tries_left in range(max(2, len(self._peers)), 0, -1):
            connection = await self._connect(deadline)
            share = (deadline - time.monotonic()) / min(tries_left, len(self._peers))
            try:
                return await self._send(request, connection, share)
            except grpc.aio.AioRpcError as error:
                if not self._lost(connection, error) or tries_left == 1 or time.monotonic() >= deadline:
                    raise self._translated(error, connection) from error
        raise AssertionError("unreachable: the last try returns or raises")

    async def once(self, request: Request[T]) -> T:
        """Send a request that changes something. Where the answer is lost it may or may not have been carried out.

        Raises Unavailable then; AccessDenied and Refused where it certainly was not.
        """
        deadline = time.monotonic() + self._options.timeout
        while True:
            connection = await self._connect(deadline)
            try:
                return await self._send(request, connection, deadline - time.monotonic())
            except grpc.aio.AioRpcError as error:
                lost = self._lost(connection, error)
                if lost and error.details() == _NO_LEADER:
                    continue  # refused before it was looked at; dialling finds a peer with a leader, or gives up
                raise self._translated(error, connection, in_doubt=lost) from error

    async def dial(self) -> Connection:
        """Return a new connection, for the caller to close by `retire`. Raises Unavailable, AccessDenied."""
        return await self._dial(time.monotonic() + self._options.timeout)

    def retire(self, connection: Connection, *, failed: bool = False) -> None:
        """Close a connection once the requests on it have ended; after a failure another peer is dialled next."""
        if failed and self._peers[self._next] == connection.peer:
            self._next = (self._next + 1) % len(self._peers)
        self.background(self._close(connection))

    def background(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something that nobody waits for; `close` does."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def or_closed(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what the work returns. Raises Closed as soon as the backend is closed."""
        task = asyncio.ensure_future(work)
        try:
            waiting: set[asyncio.Future[Any]] = {task, self.closed}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if task.cancelled():
            raise Closed
        return task.result()

    async def close(self) -> None:
        """Close all connections. Safe to call twice."""
        if not self.closed.done():
            self.closed.set_result(None)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._current = None
        while self._open:
            await self._open.pop().channel.close()

    async def _close(self, connection: Connection) -> None:
        await connection.channel.close(self._options.timeout)
        self._open.discard(connection)

    async def _connect(self, deadline: float) -> Connection:
        """Return the connection for requests, made anew where there is none or it is known to be lost.

        gRPC would mend a lost one by itself, but with the certificates of then, and to the same peer.
        """
        async with self._dialling:
            if self._current is not None and self._current.channel.get_state() is not grpc.ChannelConnectivity.READY:
                self.retire(self._current)
                self._current = None
            if self._current is None:
                self._current = await self.or_closed(self._dial(deadline))
            return self._current

    async def _send(self, request: Request[T], connection: Connection, seconds: float) -> T:
        try:
            return await request(connection, max(seconds, 0.001))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self.closed.done() and task is not None and not task.cancelling():
                raise Closed from None
            raise

    def _lost(self, connection: Connection, error: grpc.aio.AioRpcError) -> bool:
        """Return whether the error says that the peer did not answer; the connection is then not used again."""
        if error.code() not in _UNREACHED:
            return False
        if self._current is connection:
            self._current = None
            self.retire(connection, failed=True)
        return True

    async def _dial(self, deadline: float) -> Connection:
        """Return a connection to the first peer that answers, each in turn, until the deadline."""
        reasons: dict[Peer, str] = {}
        while True:
            start = self._next
            for tried in range(len(self._peers)):
                if self.closed.done():
                    raise Closed
                number = (start + tried) % len(self._peers)
                peer = self._peers[number]
                share = (deadline - time.monotonic()) / (len(self._peers) - tried)
                try:
                    async with asyncio.timeout(max(share, 0.05)):
                        connection = await self._try(peer, max(share, 0.05))
                except TimeoutError:
                    reasons.setdefault(peer, "no answer")
                except OSError as error:
                    reasons[peer] = error.strerror or str(error)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in _UNREACHED:
                        raise translated(error, f"etcd peer {peer}") from error
                    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                        reasons.setdefault(peer, "no answer")
                    else:
                        reasons[peer] = error.details() or error.code().name
                else:
                    self._next = number
                    return connection
            # Full jitter, so that clients do not all come back at once.
            pause = random.uniform(0, REDIAL_SECONDS)  # noqa: S311 - not a secret
            if time.monotonic() + pause >= deadline:
                raise self._unreachable(reasons)
            await asyncio.sleep(pause)

    async def _try(self, peer: Peer, seconds: float) -> Connection:
        connection = Connection(peer, await self._channel(peer))
        try:
            # Any user may ask for the status, whatever keys its role opens.
            await connection.maintenance.Status(rpc.StatusRequest(), timeout=seconds, metadata=METADATA)
        except BaseException:
            await connection.channel.close()
            raise
        self._open.add(connection)
        return connection

    async def _channel(self, peer: Peer) -> grpc.aio.Channel:
        # `dns:` also takes addresses; said, so that nothing in a host name is read as another scheme.
        target = f"dns:///{peer.address}"
        if not peer.tls:
            return grpc.aio.insecure_channel(target, options=_OPTIONS)
        await self._read_files()
        trusted = await credentials(peer, self._files, insecure=self._options.insecure)
        name = [("grpc.ssl_target_name_override", trusted.name)] if trusted.name else []
        return grpc.aio.secure_channel(target, trusted.channel, options=[*_OPTIONS, *name])

    async def _read_files(self) -> None:
        """Take up renewed certificates. While they are being replaced the old ones stay in use."""
        try:
            self._files = await asyncio.to_thread(read_tls_files, self._options)
        except InvalidSettings as error:
            _log.warning("etcd: going on with the certificates read before: %s", error)

    def _unreachable(self, reasons: dict[Peer, str]) -> Unavailable:
        tried = "; ".join(f"{peer}: {reason}" for peer, reason in reasons.items())
        hint = CHECK_PEERS
        if self._options.tls_cert_file is None and any(peer.tls for peer in reasons):
            hint += " Members that demand client certificates drop us: set tls_cert_file and tls_key_file."
        return Unavailable(f"no etcd peer answered within {self._options.timeout:g} s ({tried})", hint=hint)

    def _translated(
        self, error: grpc.aio.AioRpcError, connection: Connection, *, in_doubt: bool = False
    ) -> TeleportError:
        if self.closed.done():
            return Closed()
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            message = f"etcd peer {connection.peer} did not answer within {self._options.timeout:g} s"
        elif error.code() in _UNREACHED:
            message = f"etcd peer {connection.peer} was lost: {error.details()}"
        else:
            return translated(error, f"etcd peer {connection.peer}")
        return Unavailable(
            message, hint="The write may have been carried out: read before deciding." if in_doubt else ""
        )


def translated(error: grpc.aio.AioRpcError, what: str) -> TeleportError:
    """Return etcd's refusal as one of our errors; `what` it is that says so."""
    details = error.details() or error.code().name
    match error.code():
        case grpc.StatusCode.PERMISSION_DENIED | grpc.StatusCode.UNAUTHENTICATED:
            return denied(f"{what}: {details}")
        case grpc.StatusCode.INVALID_ARGUMENT if "user name is empty" in details:
            return denied(f"{what} wants to know who we are: {details}")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if "space exceeded" in details:
            return Unavailable(
                f"{what} is full: {details}", hint="Compact and defragment it, then `etcdctl alarm disarm`."
            )
        case grpc.StatusCode.OUT_OF_RANGE | grpc.StatusCode.FAILED_PRECONDITION | grpc.StatusCode.NOT_FOUND:
            return Refused(f"{what} refused: {details}", details)
    return Unavailable(f"{what} refused: {details}")


def denied(message: str) -> AccessDenied:
    """Return the error for a certificate whose user may not do that."""
    hint = "The common name of tls_cert_file's certificate is the etcd user: grant its role the keys under `prefix`."
    return AccessDenied(message, hint=hint)
