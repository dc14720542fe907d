"""The auth role of `teleport start`: backend, authorities and audit log opened, identities beside auth kept current."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing

from runtime.api.client import AuthClient
from runtime.api.member_messages import Presence
from runtime.auth.configuration import Configuration, follow
from runtime.auth.membership import public_keys
from runtime.auth.presence import PresenceStore
from runtime.auth.server import AuthService
from runtime.backend.base import Backend
from runtime.cli.start_audit import open_log, pass_on
from runtime.cli.start_objects import open_objects
from runtime.cli.start_storage import open_storage
from runtime.cli.surroundings import Surroundings
from runtime.core import keys
from runtime.core.callers import MEMBERS, CallerKind
from runtime.core.errors import CorruptState, NotFound, TeleportError
from runtime.core.version import __version__
from runtime.pki.keys import generate_key
from runtime.service.authorities import AuthorityFollower
from runtime.service.identity import StoredIdentity, identities_of
from runtime.service.member import Believe, Member, auth_client
from runtime.service.metrics import CountedAudit
from runtime.service.settings import Settings
from runtime.service.values import Address
from runtime.transport.limits import Limits

logger = logging.getLogger(__name__)

IDENTITIES_SECONDS = 600.0
"""Between two looks at whether admin.identity is due for renewal, in seconds."""
DRAIN_SECONDS = 5.0
"""How long requests that are being answered may take when auth stops, in seconds."""


class AuthPart:
    """Auth, and what else in this process is a member by auth's own word (`identity`, `client`)."""

    name = "auth"
    servers = None  # what else runs here calls auth within the process

    def __init__(self, settings: Settings, surroundings: Surroundings, *, host: str) -> None:
        """Take the settings; `host` is where others reach auth."""
        self._settings = settings
        self._host = host
        self._node_name = surroundings.name
        self._advertised = surroundings.hosts
        self._data_dir = surroundings.data_dir
        self._clock = surroundings.clock
        self._metrics = surroundings.metrics
        self._auth_servers: tuple[str, ...] = ()
        self.where = ""
        self._service: AuthService
        self._backend: Backend
        self.member: Member
        self._configuration: Configuration
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Open the storage, waiting for one that is away, and listen. Raises TeleportError."""
        async with AsyncExitStack() as stack:
            audit = open_log(self._settings, self._clock)
            stack.callback(audit.close)
            storage = await open_storage(self._settings, self._clock, self._metrics)
            stack.push_async_callback(storage.backend.close)
            self._backend, self._configuration = storage.backend, storage.configuration
            objects = await open_objects(self._settings)
            if objects is not None:
                stack.push_async_callback(objects.close)
            limits = self._settings.teleport.connection_limits
            self._service = AuthService(
                storage.options,
                backend=storage.backend,
                authorities=storage.authorities,
                clock=self._clock,
                audit=CountedAudit(audit, self._metrics),
                auth_servers=lambda: self._auth_servers,
                here=lambda: next(iter(self._auth_servers), ""),
                limits=Limits(max_connections=limits.max_connections, max_users=limits.max_users),
                objects=objects,
                connect=lambda server: auth_client(lambda: self.member.identity, lambda: (server,), self._clock),
            )
            stack.push_async_callback(self._service.stop, grace=DRAIN_SECONDS)
            own = await self.identity(CallerKind.AUTH)
            await self.identity(CallerKind.ADMIN)
            host, port = await self._service.start(
                host_key=own.key.get_secret_value().encode(), host_certificate=own.host_certificate.encode()
            )
            # Known only now where the port was left to the system.
            addr = str(Address(self._host, port))
            self._auth_servers = (addr,)
            presence = Presence(id=own.id, kind=CallerKind.AUTH, name=self._node_name, addr=addr, version=__version__)
            self.member = Member(
                own,
                data_dir=self._data_dir,
                servers=None,
                presence=lambda: presence,
                advertised=self._advertised,
                clock=self._clock,
                renewed=self._renewed,
                auth=self.client(lambda: own),
            )
            stack.push_async_callback(self.member.leave)
            self._metrics.watch(self.member)
            self._metrics.watch_recordings(self._service.filing)
            self._metrics.watch_rotations(self._service.authority_statuses)
            await self.member.say_hello()
            logger.info("auth of cluster %s listens on %s", storage.authorities.user.cluster, Address(host, port))
            self.where = f"auth on {Address(host, port)}"
            self._stack = stack.pop_all()

    async def run(self) -> None:
        """Send heartbeats, keep the list of auth servers, the administrator's identity and the shared log current."""
        async with asyncio.TaskGroup() as group:
            server = str(self.member.identity.id)
            group.create_task(pass_on(self._settings, self._backend, self._clock, server=server, host=self._node_name))
            group.create_task(self.member.run())
            group.create_task(AuthorityFollower(self.member).run())
            group.create_task(self._follow_servers())
            group.create_task(self._renew_admin())
            group.create_task(self._follow_for_admin())
            if self._settings.dynamic_config:
                group.create_task(follow(self._backend, self._apply))

    async def reload(self) -> None:
        """Nothing of auth is read again: its own certificate renews itself."""

    async def stop(self) -> None:
        """Leave, finish what was asked, and close the backend."""
        await self._stack.aclose()

    async def check(self) -> str:
        """Return why auth cannot serve now; empty if it can."""
        try:
            await self._backend.get(keys.CLUSTER_NAME)
        except TeleportError as error:
            return f"auth: {error}"
        return ""

    # --- what runs beside auth ------------------------------------------------------------------------------------

    async def identity(self, role: CallerKind) -> StoredIdentity:
        """Return the identity of a role beside auth: the one in data_dir while it is good, else a new one, kept."""
        try:
            identity = self._data_dir.identity(role)
        except NotFound:
            return await self._issue(role)
        except CorruptState as error:
            logger.warning("%s; a new one is made", error)
            return await self._issue(role)
        if self._is_good(identity):
            return identity
        return await self._issue(role, identity)

    def client(self, identity: Callable[[], StoredIdentity], believe: Believe | None = None) -> AuthClient:
        """Return a client that calls auth within this process as whoever `identity` is at the time."""
        return self._service.local.client(lambda: (identity().role, str(identity().id)))

    def _is_good(self, identity: StoredIdentity) -> bool:
        host = self._service.issuer.authorities.host
        return (
            identity.cluster == self._service.issuer.cluster
            and identity.authorities == public_keys(self._service.issuer.authorities)
            and identity.is_signed_by(
                host=host.signer.public.key.fingerprint, member=host.client_signer.public.key.fingerprint
            )
            and not identity.is_due(self._clock.now())
            and (identity.role not in MEMBERS or identity.serves({self._node_name, *self._advertised}))
        )

    async def _issue(self, role: CallerKind, old: StoredIdentity | None = None) -> StoredIdentity:
        """Make an identity and keep it. The id stays, unless the old identity is of another cluster."""
        key = await asyncio.to_thread(generate_key)
        cluster = self._service.issuer.cluster
        same = old if old is not None and old.cluster == cluster else None
        membership = self._service.members.local(
            role, self._node_name, self._advertised, key.public.line, member=str(same.id) if same else None
        )
        identity = identities_of(membership, key.to_openssh(), cluster)[role]
        if same is not None:
            identity = identity.in_place_of(same).believing(identity.authorities)
        self._data_dir.keep(identity)
        return identity

    def _apply(self, configuration: Configuration) -> None:
        if configuration != self._configuration:
            logger.info("the configuration in the storage has changed, and holds")
            self._configuration = configuration
            self._service.configure(configuration)

    async def _renewed(self, identity: StoredIdentity) -> None:
        await self._service.renew(
            host_key=identity.key.get_secret_value().encode(), host_certificate=identity.host_certificate.encode()
        )

    async def _renew_admin(self) -> None:
        while True:
            await asyncio.sleep(IDENTITIES_SECONDS)
            await self._look_at_admin()

    async def _follow_for_admin(self) -> None:
        async with aclosing(self._service.authorities.follow()) as changes:
            async for _ in changes:
                await self._look_at_admin()

    async def _look_at_admin(self) -> None:
        try:
            await self.identity(CallerKind.ADMIN)
        except TeleportError as error:
            logger.error("admin.identity cannot be renewed: %s", error.in_full)  # noqa: TRY400 - no bug of ours

    async def _follow_servers(self) -> None:
        """Know of other auth servers as soon as they are there: members hear of them by us."""
        own = self._auth_servers[0]
        async with aclosing(PresenceStore(self._backend, self._clock).follow(CallerKind.AUTH)) as listed:
            async for entries in listed:
                self._auth_servers = tuple(dict.fromkeys((own, *(entry.presence.addr for entry in entries))))
