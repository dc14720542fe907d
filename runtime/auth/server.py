"""The auth service put together: backend and settings in, an SSH port that serves the API out."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from runtime.api.client import AuthClient
from runtime.api.cluster_messages import SecondFactor
from runtime.api.rotation_messages import RotationStatus
from runtime.api.trust_messages import TrustedPeer
from runtime.audit.events import EventType
from runtime.audit.log import Audit
from runtime.auth.attempts import Attempts
from runtime.auth.authorities import LiveAuthorities, LocalAuthorities, ensure_authorities
from runtime.auth.chronicle import Chronicle
from runtime.auth.configuration import Configuration
from runtime.auth.conversations import Conversations
from runtime.auth.credentials import CredentialStore
from runtime.auth.declared import Declared
from runtime.auth.dispatch import Dispatcher
from runtime.auth.events import EventView
from runtime.auth.filing import Filing
from runtime.auth.gate import Gate
from runtime.auth.handlers import Parts, register
from runtime.auth.invites import Invites
from runtime.auth.issuing import Issuer
from runtime.auth.janitor import Janitor
from runtime.auth.local import LocalCallers
from runtime.auth.membership import Members, ca_pins
from runtime.auth.passwords import Passwords
from runtime.auth.peers import Peers
from runtime.auth.people import People
from runtime.auth.presence import PresenceStore
from runtime.auth.pruning import Pruner
from runtime.auth.publishing import Publisher
from runtime.auth.recordings import Recordings
from runtime.auth.rotating import Rotations
from runtime.auth.rotation_status import status_of
from runtime.auth.sessions import RunningSessions
from runtime.auth.tokens import JoinToken, JoinTokens
from runtime.auth.trusted_service import TrustService
from runtime.auth.tunnels import TunnelStore
from runtime.auth.unsealing import Unsealing
from runtime.backend.base import Backend
from runtime.backend.objects import ObjectStore
from runtime.core import keys
from runtime.core.callers import Caller
from runtime.core.clock import Clock
from runtime.core.errors import AlreadyExists, NotFound
from runtime.pki.keys import KeyAlgorithm
from runtime.transport.limits import Limits
from runtime.transport.server import Listener, listen

logger = logging.getLogger(__name__)

FAREWELL_SECONDS = 2.0
"""How long a peer may take to read the end of a conversation when the service stops, in seconds."""


@dataclass(frozen=True, slots=True)
class AuthOptions:
    """What the service needs of teleport.yaml (`auth_service`)."""

    address: str
    port: int
    cluster_name: str | None = None
    second_factor: SecondFactor = "otp"
    dynamic_config: bool = False
    static_tokens: tuple[JoinToken, ...] = ()
    trusted_clusters: tuple[TrustedPeer, ...] = ()
    """Those of teleport.yaml."""
    key_algorithm: KeyAlgorithm = KeyAlgorithm.ED25519
    recordings: Path | None = None
    """The folder for recordings; None: none are kept."""
    recordings_retention: timedelta | None = None
    """How old recordings become; None: as old as they like."""
    recordings_limit: int | None = None
    """How many bytes they may take; None: as many as they like."""


async def open_authorities(
    backend: Backend, options: AuthOptions, clock: Clock, *, new_name: Callable[[], str] = lambda: str(uuid.uuid4())
) -> LocalAuthorities:
    """Return the cluster's authorities, made if they are missing.

    Without a name in the settings the cluster keeps the one that it has, or gets a GUID (manual, "Cluster Name"); of
    several services that start at once without a name, one chooses. Raises InvalidSettings for a name that is not the
    backend's.
    """
    name = options.cluster_name
    if name is None:
        try:
            name = (await backend.get(keys.CLUSTER_NAME)).value.decode()
        except NotFound:
            try:
                name = (await backend.create(keys.CLUSTER_NAME, new_name().encode())).value.decode()
            except AlreadyExists:
                name = (await backend.get(keys.CLUSTER_NAME)).value.decode()
    authorities = await ensure_authorities(backend, name, clock=clock, algorithm=options.key_algorithm)
    await backend.put(keys.CLUSTER_NAME, name.encode())
    return authorities


class AuthService:
    """Serves the API to members, administrators and newcomers. `backend` is closed by who opened it."""

    def __init__(
        self,
        options: AuthOptions,
        *,
        backend: Backend,
        authorities: LocalAuthorities,
        clock: Clock,
        audit: Audit,
        auth_servers: Callable[[], Sequence[str]],
        here: Callable[[], str] = lambda: "",
        limits: Limits | None = None,
        objects: ObjectStore | None = None,
        connect: Callable[[str], AuthClient] | None = None,
    ) -> None:
        """Take what the service works with.

        `here` is the address by which others reach it, `connect` makes clients of other auth servers, and `objects` is
        where recordings go; None: they stay on its disk.
        """
        self._options = options
        self._clock = clock
        self._audit = audit
        limits = limits or Limits()
        # Every member is a caller of its own here; how many *people* come at once, the proxies limit.
        self._limits = replace(limits, max_users=limits.max_connections)
        self._passwords = Passwords()
        self.authorities = live = LiveAuthorities(authorities, backend)
        """Those of the moment."""
        self.issuer = Issuer(live, clock, audit)
        presence = PresenceStore(backend, clock)
        tokens = JoinTokens(backend, clock, options.static_tokens)
        credentials, invites, attempts = CredentialStore(backend), Invites(backend, clock), Attempts(backend, clock)
        self.members = Members(
            backend=backend,
            issuer=self.issuer,
            tokens=tokens,
            presence=presence,
            attempts=attempts,
            audit=audit,
            now=clock.now,
        )
        tunnels = TunnelStore(backend, clock)
        self._rotations = Rotations(backend, live, presence, audit, clock.now, algorithm=options.key_algorithm)
        self._trust = TrustService(
            backend,
            live,
            tokens=tokens,
            attempts=attempts,
            audit=audit,
            now=clock.now,
            tunnels=tunnels,
            file=options.trusted_clusters,
        )
        self._tokens = tokens
        self._people = people = People(
            clock=clock,
            second_factor=options.second_factor,
            passwords=self._passwords,
            credentials=credentials,
            invites=invites,
            attempts=attempts,
            audit=audit,
        )
        declared = Declared(backend)
        self._unsealing = Unsealing(backend, people, audit, clock)
        self._janitor = Janitor(declared, credentials, invites)
        self._publisher = Publisher(
            backend,
            presence,
            cluster=live.cluster,
            ca_pins=lambda: ca_pins(live),
            changes=live.follow,
        )
        self._chronicle = Chronicle(backend, declared, audit, clock.now)
        self._running = RunningSessions(backend, audit, clock.now)
        self._tasks: list[asyncio.Task[None]] = []
        self._dispatcher = Dispatcher(self._refused)
        self._peers = Peers(connect) if connect is not None else None
        recordings = Recordings(
            options.recordings,
            backend,
            auth=here,
            objects=objects,
            elsewhere=self._peers.read_recording if self._peers is not None else None,
        )
        self.filing = Filing(recordings)
        self._pruner = Pruner(
            recordings,
            audit,
            clock.now,
            retention=options.recordings_retention,
            limit=options.recordings_limit,
        )
        parts = Parts(
            now=clock.now,
            dynamic_config=options.dynamic_config,
            declared=declared,
            people=people,
            credentials=credentials,
            invites=invites,
            attempts=attempts,
            tokens=tokens,
            members=self.members,
            presence=presence,
            issuer=self.issuer,
            audit=audit,
            events=EventView(backend, clock.now),
            recordings=recordings,
            sessions=self._running,
            rotations=self._rotations,
            trust=self._trust,
            tunnels=tunnels,
            auth_servers=auth_servers,
        )
        register(self._dispatcher, parts)
        self._gate = Gate(lambda: live.trust, clock.now)
        self.local = LocalCallers(self._dispatcher)
        """The way in for what runs in this process."""
        self._listener: Listener[Caller] | None = None
        self._conversations = Conversations(live, self._dispatcher.serve)

    def configure(self, configuration: Configuration) -> None:
        """Let this configuration hold from now on."""
        self._people.second_factor = configuration.second_factor
        self._tokens.static = configuration.static_tokens
        self._trust.view.file = configuration.trusted_clusters

    async def start(self, *, host_key: bytes, host_certificate: bytes) -> tuple[str, int]:
        """Listen, and return the address and port that was bound. Raises Unavailable when it cannot be had."""
        self._listener = await listen(
            self._conversations.connected,
            address=self._options.address,
            port=self._options.port,
            host_key=host_key,
            host_certificate=host_certificate,
            validate=self._gate.validate,
            limits=self._limits,
            clock=self._clock,
        )
        work = (
            self._janitor.run(),
            self._running.run(),
            self._pruner.run(),
            self.filing.run(),
            self._chronicle.run(),
            self._publisher.run(),
            self.authorities.run(),
            self._conversations.run(),
            self._rotations.run(),
            self._trust.run(),
            self._unsealing.run(),
        )
        self._tasks = [asyncio.create_task(each) for each in work]
        return self._listener.address.host, self._listener.address.port

    def authority_statuses(self) -> tuple[RotationStatus, ...]:
        """Return how it stands with the authorities, without who follows them."""
        return tuple(status_of(each, ()) for each in (self.authorities.user, self.authorities.host))

    async def renew(self, *, host_key: bytes, host_certificate: bytes) -> None:
        """Show a new host certificate to connections from now on."""
        if self._listener is not None:
            await self._listener.update(host_key=host_key, host_certificate=host_certificate)

    async def stop(self, *, grace: float = 0) -> None:
        """Stop listening, answer what was asked within `grace` seconds, end what is open and the worker threads."""
        if self._listener is not None:
            self._listener.close()
            if grace and (answering := self._conversations.answering()):
                await asyncio.wait(answering, timeout=grace)
            self._listener.end()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._listener.wait_closed(), FAREWELL_SECONDS)
            self._listener.abort()
            await self._listener.wait_closed()
        await self.local.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._peers is not None:
            await self._peers.close()
        self._passwords.close()

    async def _refused(self, caller: Caller, method: str) -> None:
        self._audit.emit(
            EventType.CALL_REFUSED,
            method=method,
            caller=f"{caller.kind} {caller.name}",
            **{"addr.remote": caller.address},
        )
