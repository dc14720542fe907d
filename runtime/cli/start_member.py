"""The roles of `teleport start` that are members: joined from elsewhere, or made one by auth in the same process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Protocol

from runtime.api.client import AuthClient
from runtime.api.member_messages import Presence
from runtime.cli.surroundings import Surroundings
from runtime.core.callers import CallerKind
from runtime.core.version import __version__
from runtime.service.authorities import AuthorityFollower
from runtime.service.identity import StoredIdentity
from runtime.service.joining import obtain
from runtime.service.member import AuthServers, Believe, Member, auth_client
from runtime.service.settings import Settings


class Cluster(Protocol):
    """Where a role gets its identity and its way to auth."""

    async def identity(self, role: CallerKind) -> StoredIdentity:
        """Return the identity of a role. Raises TeleportError."""
        ...

    def client(self, identity: Callable[[], StoredIdentity], believe: Believe) -> AuthClient:
        """Return a client that calls auth as whoever `identity` is at the time, as `auth_client` does."""
        ...

    @property
    def servers(self) -> AuthServers | None:
        """Who wants to know which auth servers there are."""
        ...


class JoinPart:
    """Membership of a cluster whose auth runs elsewhere."""

    name = "join"
    where = ""

    def __init__(self, settings: Settings, roles: Sequence[CallerKind], surroundings: Surroundings) -> None:
        self._teleport = settings.teleport
        self._roles = tuple(roles)
        self._surroundings = surroundings
        self._identities: Mapping[CallerKind, StoredIdentity] = {}
        self.servers = AuthServers(surroundings.data_dir, [str(server) for server in settings.teleport.auth_servers])

    async def start(self) -> None:
        """Have an identity for each role, joining if need be; waits while auth is away. Raises TeleportError."""
        self._identities = await obtain(
            self._roles,
            data_dir=self._surroundings.data_dir,
            servers=self.servers,
            token=self._teleport.auth_token,
            ca_pin=self._teleport.ca_pin,
            name=self._surroundings.name,
            advertised=self._surroundings.hosts,
            clock=self._surroundings.clock,
        )

    async def run(self) -> None:
        """Nothing goes on: each member renews itself."""

    async def reload(self) -> None:
        """Nothing is read again."""

    async def stop(self) -> None:
        """Nothing is open."""

    async def identity(self, role: CallerKind) -> StoredIdentity:
        """Return the identity of a role."""
        return self._identities[role]

    def client(self, identity: Callable[[], StoredIdentity], believe: Believe) -> AuthClient:
        """Return a client that calls the auth servers."""
        return auth_client(identity, self.servers, self._surroundings.clock, believe=believe)


class Service(Protocol):
    """What a role does beside being a member."""

    @property
    def where(self) -> str:
        """What it serves, and where, once it has started."""
        ...

    def presence(self) -> tuple[str, Mapping[str, str]]:
        """Return the address to advertise (host:port), and the labels."""
        ...

    async def start(self) -> None:
        """Serve. Raises TeleportError."""
        ...

    async def run(self) -> None:
        """Do what goes on all the time, until cancelled."""
        ...

    async def reload(self) -> None:
        """Read again what may be read again. Raises TeleportError."""
        ...

    async def renewed(self, identity: StoredIdentity) -> None:
        """Take the new certificates of the member that it is."""
        ...

    async def stop(self) -> None:
        """Finish what was accepted, and stop."""
        ...


class MemberPart:
    """One role: a member of the cluster, with its service behind it."""

    def __init__(
        self,
        role: CallerKind,
        cluster: Cluster,
        service: Callable[[Member], Service],
        surroundings: Surroundings,
    ) -> None:
        """Take what makes the service, once the member is there that it is to be."""
        self.name = str(role)
        self._role = role
        self._cluster = cluster
        self._make_service = service
        self._surroundings = surroundings
        self._stack = AsyncExitStack()
        self.member: Member
        self._service: Service

    @property
    def where(self) -> str:
        """What its service serves, and where."""
        return self._service.where

    async def start(self) -> None:
        """Become the member and serve. Raises TeleportError."""
        identity = await self._cluster.identity(self._role)
        async with AsyncExitStack() as stack:
            self.member = Member(
                identity,
                data_dir=self._surroundings.data_dir,
                servers=self._cluster.servers,
                presence=self._presence,
                advertised=self._surroundings.hosts,
                clock=self._surroundings.clock,
                renewed=self._renewed,
                auth=self._cluster.client(
                    lambda: self.member.identity, lambda authorities: self.member.believe(authorities)
                ),
            )
            stack.push_async_callback(self.member.auth.close)
            self._surroundings.metrics.watch(self.member)
            self._service = self._make_service(self.member)
            stack.push_async_callback(self._service.stop)
            await self._service.start()
            # Stopping, it is the first: nobody is sent here any more while the service finishes.
            stack.push_async_callback(self.member.say_goodbye)
            await self.member.say_hello()
            self._stack = stack.pop_all()

    async def run(self) -> None:
        """Send heartbeats, renew, follow the authorities, and let the service work."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.member.run())
            group.create_task(AuthorityFollower(self.member).run())
            group.create_task(self._service.run())

    async def reload(self) -> None:
        """Let the service read again what it may."""
        await self._service.reload()

    async def stop(self) -> None:
        """Leave the cluster's list, finish, and stop."""
        await self._stack.aclose()

    async def _renewed(self, identity: StoredIdentity) -> None:
        await self._service.renewed(identity)

    def _presence(self) -> Presence:
        addr, labels = self._service.presence()
        return Presence(
            id=self.member.identity.id,
            kind=self._role,
            name=self._surroundings.name,
            addr=addr,
            labels=dict(labels),
            version=__version__,
        )
