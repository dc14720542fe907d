"""The node service: an SSH port for people with certificates of the cluster, and the node's labels."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from runtime.api.trust_messages import TrustedPeer
from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.core.clock import Clock
from runtime.node import events
from runtime.node.authority import NodeAccess, People
from runtime.node.labels import NodeLabels
from runtime.node.recording import Recordings
from runtime.node.registry import Running
from runtime.node.server import NodeConnection
from runtime.node.sessions import Node, Session
from runtime.node.spawner import Spawner
from runtime.pki.identity import UserIdentity
from runtime.service.identity import StoredIdentity
from runtime.service.values import Address
from runtime.transport.admission import Proxies
from runtime.transport.capture import Denied, Proved
from runtime.transport.guards import Peer
from runtime.transport.limits import Limits
from runtime.transport.server import Handler, Listener, listen

logger = logging.getLogger(__name__)

GRACE_SECONDS = 10.0
"""How long sessions may take to finish when the node stops, unless its options say so."""
FAREWELL_SECONDS = 2.0
"""How long a client may take to read the end of its session when the node stops."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What the service needs of teleport.yaml (`ssh_service`, `connection_limits`)."""

    listen: Address
    addr: Address
    """Where others reach it; port 0 stands for the one that `listen` gets."""
    limits: Limits
    grace: float = GRACE_SECONDS
    """How long sessions may take to finish when the node stops, in seconds."""


class NodeService:
    """One node: sessions, and labels."""

    def __init__(
        self,
        options: NodeOptions,
        *,
        identity: Callable[[], StoredIdentity],
        labels: NodeLabels,
        people: People,
        clusters: Callable[[], Mapping[str, TrustedPeer]] = dict,
        proxies: Proxies,
        audit: Audit,
        recordings: Recordings,
        running: Running,
        clock: Clock,
    ) -> None:
        """Take what it works with.

        `identity` is the member that this node is, and `clusters` are those that are trusted, as they are at the time.
        """
        self._options = options
        self._identity = identity
        self._labels = labels
        self._people = people
        self._clusters = clusters
        self._proxies = proxies
        self._audit = audit
        self._recordings = recordings
        self._running = running
        self._clock = clock
        self._addr = options.addr
        self._listener: Listener[UserIdentity] | None = None
        self._connections: set[NodeConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stack = AsyncExitStack()
        self._node: Node
        self.where = "node"

    def presence(self) -> tuple[str, Mapping[str, str]]:
        """Return the address to advertise, and the labels as they are now."""
        return str(self._addr), self._labels()

    async def start(self) -> None:
        """Get the labels' first values, start the spawner, and listen. Raises Unavailable, InvalidInput."""
        await self._labels.first()
        identity = self._identity()
        async with AsyncExitStack() as stack:
            spawner = await Spawner.start()
            stack.push_async_callback(spawner.stop)
            access = NodeAccess(
                cluster=identity.cluster,
                trust=lambda: self._identity().trust,
                known=lambda: self._identity().known,
                people=self._people,
                clusters=self._clusters,
                labels=self._access_labels,
                now=self._clock.now,
                only_login=None if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name,
            )
            self._node = Node(
                cluster=identity.cluster,
                host_id=str(identity.id),
                access=access,
                spawner=spawner,
                audit=self._audit,
                recordings=self._recordings,
                running=self._running,
            )
            self._listener = await listen(
                self._connected,
                address=self._options.listen.host,
                port=self._options.listen.port,
                host_key=identity.key.get_secret_value().encode(),
                host_certificate=identity.host_certificate.encode(),
                validate=access.validate,
                limits=self._options.limits,
                on_refused=self._refused,
                on_denied=self._denied,
                clock=self._clock,
                proxies=self._proxies,
            )
            stack.push_async_callback(self._end_connections)
            bound = self._listener.address
            self._addr = Address(self._addr.host, bound.port)
            self.where = f"node on {Address(bound.host, bound.port)}"
            self._stack = stack.pop_all()

    async def run(self) -> None:
        """Keep the labels current, until cancelled."""
        await self._labels.run()

    async def renewed(self, identity: StoredIdentity) -> None:
        """Show the new host certificate to connections from now on."""
        if self._listener is not None:
            await self._listener.update(
                host_key=identity.key.get_secret_value().encode(), host_certificate=identity.host_certificate.encode()
            )

    async def reload(self) -> None:
        """Run the labels' commands now."""
        await self._labels.first()

    def trust_changed(self) -> None:
        """Cut off the guests whose clusters are not trusted any more; those who may stay notice nothing."""
        for connection in list(self._connections):
            if why := connection.why_over():
                self._start(self._dismiss(connection, why))

    async def stop(self) -> None:
        """Accept no more connections, let sessions finish for a while, tell those that are left, and end."""
        await self._stack.aclose()

    @property
    def sessions(self) -> list[Session]:
        """The sessions that are open."""
        return [session for connection in self._connections for session in connection.sessions]

    async def _dismiss(self, connection: NodeConnection, why: str) -> None:
        sessions = connection.sessions
        connection.dismiss(why)
        # As at a stop: ssh shows why only if it hangs up by itself.
        await _all_gone(sessions, FAREWELL_SECONDS)
        connection.hang_up()
        await asyncio.sleep(FAREWELL_SECONDS)
        connection.cut()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _access_labels(self) -> Mapping[str, str]:
        # What the token imposed overrides what the node says of itself.
        return {**self._labels(), **self._identity().labels}

    def _connected(self, proved: Proved[UserIdentity], connection: Any) -> Handler:
        self._audit.emit(EventType.AUTH, success="true", **events.who(self._node.host_id, proved))
        handler = NodeConnection(self._node, proved, connection, left=self._connections.discard)
        self._connections.add(handler)
        return handler

    def _denied(self, denied: Denied) -> str:
        """Audit a login that was denied, and return what its holder is told: strangers learn nothing."""
        if denied.certificate is None:
            return ""  # a plain key: ssh offers all that it has, before its certificate too
        user, error = self._node.access.holder(denied.certificate), denied.error
        self._audit.emit(
            EventType.AUTH,
            success="false",
            error=events.text(str(error)),
            user=user or "",
            login=events.text(denied.login[:64]),
            **self._addresses(denied.peer, denied.local),
        )
        if user is None:
            return ""
        return f"teleport: access denied: {error.in_full}"

    def _refused(self, peer: Peer, reason: str) -> None:
        self._audit.emit(EventType.SESSION_REJECTED, error=events.text(reason), **self._addresses(peer, None))

    def _addresses(self, peer: Peer, local: Peer | None) -> dict[str, str]:
        where = {"addr.remote": f"{peer.host}:{peer.port}", "server_id": self._node.host_id, "namespace": "default"}
        return where if local is None else {**where, "addr.local": f"{local.host}:{local.port}"}

    async def _end_connections(self) -> None:
        listener = self._listener
        assert listener is not None  # noqa: S101 - it was opened, or this would not be on the stack
        listener.close()
        for session in self.sessions:
            session.warn(f"teleport on this node is being stopped: the session ends in {self._options.grace:g} s")
        await _all_gone(self.sessions, self._options.grace)
        sessions = self.sessions
        for session in sessions:
            session.end("the session ends: teleport on this node is being stopped")
        # ssh shows nothing more of what it has read once it reads a disconnect: it hangs up first, having shown all.
        await _all_gone(sessions, FAREWELL_SECONDS)
        listener.end()
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await listener.wait_closed()
        except TimeoutError:
            listener.abort()
            await listener.wait_closed()
        await asyncio.gather(*(session.over() for session in sessions))


async def _all_gone(sessions: Iterable[Session], seconds: float) -> None:
    """Wait until the channels of all sessions are gone, for so long at most."""
    waiting = [asyncio.create_task(session.gone.wait()) for session in sessions]
    if waiting:
        _, left = await asyncio.wait(waiting, timeout=seconds)
        for task in left:
            task.cancel()
