"""A cluster as a proxy sees it, with authorities to sign for it; its clock stands still."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from runtime.api.client import AuthClient
from runtime.api.member_messages import Presence
from runtime.api.proving import Claim
from runtime.api.signed import signed_headers
from runtime.audit.events import EventType
from runtime.audit.log import Field
from runtime.core.callers import CallerKind
from runtime.core.clock import ManualClock
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import UserClaims
from runtime.pki.keys import PrivateKey, generate_key
from runtime.pki.signing import random_serial, sign_user
from runtime.pki.trust import Signer, Trust
from runtime.proxy.app import make_app
from runtime.proxy.cluster import ClusterView
from runtime.proxy.limits import InFlight, WebLimits
from runtime.proxy.lists import ClusterLists
from runtime.proxy.recordings import RecordingRoutes
from runtime.proxy.running import RunningRoutes
from runtime.proxy.signed import SignedRequests
from tests.servers.declared_people import People

NOW = datetime(2026, 11, 22, 20, 15, tzinfo=UTC)


class Recorder:
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, event: EventType, **fields: Field) -> None:
        """Keep one."""
        self.events.append({"event": str(event), **fields})

    async def durable(self) -> None:
        """Nothing is written anywhere."""


class World:
    """The cluster `main`: authorities, people, nodes; and its view."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.users = Signer(AuthorityType.USER, "main", generate_key())
        self.hosts = Signer(AuthorityType.HOST, "main", generate_key())
        self.trusted = [self.users.public, self.hosts.public]
        self.people = People()
        self.nodes: list[Presence] = []
        self.audit = Recorder()
        self.view = ClusterView("main", lambda: Trust(self.trusted), self.people, self._nodes, self.audit)

    def app(self, auth: AuthClient) -> web.Application:
        """Return the proxy's application for this cluster."""
        signed = SignedRequests(self.view, self.clock)
        return make_app(
            auth=auth,
            lists=ClusterLists(self.view, signed),
            recordings=RecordingRoutes(auth, signed),
            running=RunningRoutes(auth, signed),
            address="proxy.example:3080",
            ssh_port=3023,
            limits=WebLimits(),
            in_flight=InFlight(),
            hsts=False,
        )

    def declare_user(self, name: str, *logins: str, roles: tuple[str, ...] = ()) -> None:
        """Create or replace a user."""
        self.people.declare(name, *logins, roles=roles)

    def declare_role(self, name: str, *logins: str, **labels: str) -> None:
        """Create or replace a role that allows logins on nodes with these labels."""
        self.people.role(name, allow={"logins": logins, "nodeLabels": {key: [value] for key, value in labels.items()}})

    def add_node(self, name: str, addr: str = "10.0.0.1:3022", **labels: str) -> Presence:
        """Have one more node; its id starts with its number, and has no letters in it."""
        node_id = uuid.UUID(f"{len(self.nodes):08}-1111-4111-8111-111111111111")
        node = Presence(id=node_id, kind=CallerKind.NODE, name=name, addr=addr, labels=labels, version="1.0")
        self.nodes.append(node)
        return node

    def login(
        self, name: str = "joe", *, signer: Signer | None = None, age: timedelta = timedelta(), **claims: Any
    ) -> Login:
        """Return what a login gave, `age` ago: an hour for the login root, unless `claims` say otherwise."""
        signer = signer or self.users
        said = {"logins": ("root",), "roles": (f"user:{name}",), "ttl": timedelta(hours=1), **claims}
        key = generate_key()
        made = UserClaims(user=name, cluster=signer.cluster, **said)
        at = self.clock.now() - age
        return Login(self, key, sign_user(made, key.public, signer=signer, now=at, serial=random_serial()).line)

    async def _nodes(self) -> tuple[Presence, ...]:
        return tuple(self.nodes)


@dataclass
class Login:
    """A key and the line of its certificate."""

    world: World
    key: PrivateKey
    certificate: bytes

    def headers(self, target: str, method: str = "GET", cluster: str = "main", **shift: float) -> Mapping[str, str]:
        """Return the headers of a request; `shift` is how far the clock of this person is ahead."""
        return signed_headers(
            method,
            target,
            cluster=cluster,
            key=self.key,
            certificate=self.certificate.decode(),
            now=self.world.clock.now() + timedelta(**shift),
        )

    def claim(self, target: str, method: str = "GET", cluster: str = "main", **shift: float) -> Claim:
        """Return what a request says."""
        headers = self.headers(target, method, cluster, **shift)
        return Claim(
            certificate=base64.b64decode(headers["X-Teleport-Certificate"]),
            signature=base64.b64decode(headers["Authorization"].removeprefix("SSHSIG ")),
            time=headers["X-Teleport-Time"],
        )
