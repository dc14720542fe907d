"""The node role of `teleport start`: the node service with its settings, and what it follows of auth."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from runtime.cli.start_audit import open_queue
from runtime.cli.surroundings import Surroundings
from runtime.core.callers import CallerKind
from runtime.core.errors import TeleportError
from runtime.node.journal import Journal
from runtime.node.labels import NodeLabels
from runtime.node.recording import Recordings
from runtime.node.registry import Registry, Running
from runtime.node.service import NodeOptions, NodeService
from runtime.node.spool import Spool
from runtime.node.uploader import Uploader
from runtime.service.directory import Directory
from runtime.service.following import Following
from runtime.service.identity import StoredIdentity
from runtime.service.member import Member
from runtime.service.remote_audit import RemoteAudit
from runtime.service.settings import Settings
from runtime.service.trusting import Trusting
from runtime.service.values import Address
from runtime.transport.limits import Limits

logger = logging.getLogger(__name__)

IPAddress = IPv4Address | IPv6Address

PROXIES_SECONDS = 15.0
"""Between two looks at which proxies there are, in seconds."""
TRUSTED_FILE = "node.trusted.json"
"""In data_dir: the clusters that are trusted as the node last heard of them."""
FOLLOWED_FILE = "node.people.json"
"""In data_dir: users and roles as the node last heard of them."""
PATIENCE_SECONDS = 5.0
"""How long a start waits for users and roles; then those of the last time have to do."""
FLUSH_SECONDS = 3.0
"""How long a stop waits for auth to take the last audit events, and the last recordings."""
GOOD_BYE_SECONDS = 10.0
"""How much of the time that a stop may take is for good-byes and for what auth does not have yet."""
SPOOL_FOLDER = "spool"
"""In data_dir: recordings that auth does not have yet."""
RUNNING_FOLDER = "running"
"""In data_dir: the sessions that run."""


class NodeRole:
    """The node, and what goes on around it."""

    def __init__(self, settings: Settings, member: Member, surroundings: Surroundings, *, addr: Address) -> None:
        self._following = Following(member.auth, surroundings.data_dir, FOLLOWED_FILE)
        self._trusting = Trusting(
            member.auth,
            surroundings.data_dir,
            TRUSTED_FILE,
            own=member.identity.cluster,
            changed=lambda: self._service.trust_changed(),
        )
        self._audit = RemoteAudit(member.auth, surroundings.clock, open_queue(settings, CallerKind.NODE))
        ssh = settings.ssh_service
        spool = Spool(surroundings.data_dir.path / SPOOL_FOLDER, limit=ssh.spool_limit * 1024**2)
        self._uploader = Uploader(spool, member.auth)
        self._proxies = ProxyAddresses(Directory(member.auth, CallerKind.PROXY))
        self._journal = Journal(surroundings.data_dir.path / RUNNING_FOLDER)
        running = Running(surroundings.clock.now, self._journal)
        self._registry = Registry(running, member.auth, self._audit)
        self._service = NodeService(
            node_options(settings, addr),
            identity=lambda: member.identity,
            labels=NodeLabels(ssh.labels, ssh.commands),
            people=self._following,
            clusters=lambda: self._trusting.peers,
            proxies=self._proxies,
            audit=self._audit,
            recordings=Recordings(spool, ssh.recording),
            running=running,
            clock=surroundings.clock,
        )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def where(self) -> str:
        """What it serves, and where."""
        return self._service.where

    def presence(self) -> tuple[str, Mapping[str, str]]:
        """Return the address to advertise, and the labels as they are now."""
        return self._service.presence()

    async def start(self) -> None:
        """Know who may come in, and listen. Raises TeleportError."""
        self._journal.tell(self._audit.emit, told=self._audit.ends())
        self._tasks = [
            asyncio.create_task(work)
            for work in (
                self._following.run(),
                self._trusting.run(),
                self._audit.run(),
                self._proxies.run(),
                self._uploader.run(),
                self._registry.run(),
            )
        ]
        await self._following.ready(PATIENCE_SECONDS)
        await self._service.start()

    async def run(self) -> None:
        """Serve, until cancelled, or until something fails."""
        # Shielded: when this is cancelled there are still sessions to finish, and events to bring to auth.
        await asyncio.gather(self._service.run(), *map(asyncio.shield, self._tasks))

    async def reload(self) -> None:
        """Let the service read again what it may."""
        await self._service.reload()

    async def renewed(self, identity: StoredIdentity) -> None:
        """Take the new host certificate."""
        await self._service.renewed(identity)

    async def stop(self) -> None:
        """Finish sessions, bring what happened to auth, and stop."""
        await self._service.stop()
        await self._audit.flush(FLUSH_SECONDS)
        with suppress(TeleportError, TimeoutError):  # what is left, the next start brings to auth
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._uploader.step()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._audit.close()


class ProxyAddresses:
    """Where the proxies of the cluster are, as IP addresses; while auth is away those last heard of."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._addresses: frozenset[IPAddress] = frozenset()

    def __call__(self) -> frozenset[IPAddress]:
        """Return the addresses as last heard."""
        return self._addresses

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                proxies = await self._directory.nodes()
            except TeleportError as error:
                logger.info("the proxies are not known: %s", error)
            else:
                found = [await _addresses_of(proxy.addr.rpartition(":")[0].strip("[]")) for proxy in proxies]
                self._addresses = frozenset(address for addresses in found for address in addresses)
            await asyncio.sleep(PROXIES_SECONDS)


async def _addresses_of(host: str) -> set[IPAddress]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    return {ip_address(str(address[0]).partition("%")[0]) for *_, address in found}


def node_options(settings: Settings, addr: Address) -> NodeOptions:
    """Return what the service needs of teleport.yaml; others reach it at `addr`."""
    written = settings.teleport.connection_limits
    limits = Limits(max_connections=written.max_connections, max_users=written.max_users)
    # How many sessions a connection may have, each person's roles say (maxSessions).
    limits = replace(limits, sessions=limits.channels)
    grace = settings.teleport.drain_timeout.total_seconds() - GOOD_BYE_SECONDS
    return NodeOptions(listen=settings.ssh_service.listen_addr, addr=addr, limits=limits, grace=max(1.0, grace))
