"""A cluster in this process: auth over a store in memory, the proxy's SSH port before it, and nodes that say they are.

What a node is, a test decides: a real sshd with the node's certificate, a socket, or nothing at all.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.member_messages import Heartbeat, Presence
from runtime.api.messages import Name
from runtime.api.resource_messages import ResourceDocument
from runtime.auth.authorities import read_authorities
from runtime.core.callers import CallerKind
from runtime.pki.claims import UserClaims
from runtime.pki.export import export_authority
from runtime.pki.keys import generate_key
from runtime.pki.signing import random_serial, sign_user
from runtime.proxy.cluster import ClusterView
from runtime.proxy.ssh import SSHOptions, SSHPort
from runtime.proxy.targets import Targets
from runtime.service.directory import Directory
from runtime.service.following import Following
from runtime.service.identity import DataDir, StoredIdentity
from runtime.service.sections.proxy import OpenSSHServer
from runtime.service.values import Address
from runtime.transport.client import ClientConnection, connect
from runtime.transport.limits import Limits, StartupLimits
from tests.servers.auth_port import CLOCK, OPTIONS, AuthPort, host_of
from tests.servers.people import Person
from tests.servers.sshd import LOGIN, Sshd, trusted_user_ca_keys
from tests.servers.sshport import FORGIVING

PATIENT = Limits(penalties=FORGIVING, startups=StartupLimits(start=1000, full=2000, patience=60))
"""Without penalties and drops: all of a test's connections come from one address."""


@dataclass(frozen=True, slots=True)
class Node:
    """A member of kind node, and what it says of itself; `identity` has its key and host certificate."""

    identity: StoredIdentity
    name: str
    client: AuthClient
    directory: Directory
    """The proxy's."""

    @property
    def id(self) -> str:
        """Its host id."""
        return str(self.identity.id)

    async def heartbeat(self, addr: str, ttl: timedelta = timedelta(minutes=5), **labels: str) -> None:
        """Be listed at an address with labels from now on, and known to the proxy."""
        presence = Presence(id=self.identity.id, kind=CallerKind.NODE, name=self.name, addr=addr, labels=labels)
        await self.client.call(methods.HEARTBEAT, Heartbeat(presence=presence, ttl=ttl))
        async with asyncio.timeout(30):
            while not await self._is_known(presence):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.01)

    async def _is_known(self, presence: Presence) -> bool:
        return presence in [entry.presence for entry in await self.directory.members(max_age=0)]


@dataclass(frozen=True, slots=True)
class Done:
    """How an ssh ended: its exit status, and what it printed."""

    code: int
    out: bytes
    err: str


class SSHProxyCluster:
    """The cluster `main`."""

    def __init__(
        self,
        folder: Path,
        *,
        servers: Sequence[OpenSSHServer] = (),
        address: str = "127.0.0.1",
        limits: Limits = PATIENT,
    ) -> None:
        self.folder = folder
        self._auth = AuthPort(folder, replace(OPTIONS, second_factor="off"))
        self.log, self.backend = self._auth.log, self._auth.backend
        self._servers = servers
        self._address = address
        self._limits = limits
        self._tasks: list[asyncio.Task[None]] = []
        self._processes: list[asyncio.subprocess.Process] = []
        self._people = 0

    async def start(self) -> None:
        """Start auth, and the proxy with an identity from it."""
        await self._auth.listen()
        self.auth = self._auth.service
        self.authorities = await read_authorities(self.backend)
        self.admin = self.client(self.identity(CallerKind.ADMIN))
        proxy = self.identity(CallerKind.PROXY, advertised=("127.0.0.1", "::1"))
        auth = self.client(proxy)
        self.following = Following(auth, DataDir(self.folder), "people.json")
        self.directory = Directory(auth)
        self._tasks = [asyncio.create_task(work) for work in (self.following.run(), self.directory.run())]
        await self.following.ready(30)
        targets = Targets(self.directory, self._servers)
        view = ClusterView("main", lambda: proxy.trust, self.following, targets.all, self.log)
        self.proxy = SSHPort(
            SSHOptions(Address(self._address, 0), self._limits), view=view, targets=targets, clock=CLOCK
        )
        self.address = await self.proxy.start(**host_of(proxy))

    async def stop(self) -> None:
        """Stop everything."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()
        await self.proxy.stop(grace=0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._auth.end()

    # --- members --------------------------------------------------------------------------------------------------

    def identity(self, role: CallerKind, name: str = "localhost", advertised: tuple[str, ...] = ()) -> StoredIdentity:
        """Return an identity that auth makes for a role beside it."""
        return self._auth.identity(role, name, advertised)

    def client(self, identity: StoredIdentity) -> AuthClient:
        """Return a client of auth with that identity."""
        return self._auth.client(identity)

    def node(self, name: str) -> Node:
        """Return a node of that name, which nobody has heard of yet."""
        identity = self.identity(CallerKind.NODE, name)
        return Node(identity, name, self.client(identity), self.directory)

    def sshd(self, node: Node) -> Sshd:
        """Run a real sshd with the node's certificate, which lets in whom the user CA has certified."""
        folder = self.folder / f"sshd-{node.id}"
        folder.mkdir()
        return Sshd(
            folder,
            host_key=node.identity.key.get_secret_value(),
            host_certificate=node.identity.host_certificate.encode(),
            trusted_user_ca_keys=trusted_user_ca_keys(self.authorities.user.signer.public),
        )

    # --- people ---------------------------------------------------------------------------------------------------

    async def declare(self, kind: str, name: str, **spec: Any) -> None:
        """Create or replace a resource, and wait until the proxy has heard of it."""
        document = {"apiVersion": "teleport.internal/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        await self.admin.call(methods.RESOURCES_WRITE, ResourceDocument(document=json.dumps(document), overwrite=True))
        known = self.following.users if kind == "User" else self.following.roles
        await self._until(lambda: name in known)

    async def delete_user(self, name: str) -> None:
        """Delete a user, and wait until the proxy has heard of it."""
        await self.admin.call(methods.USERS_DELETE, Name(name=name))
        await self._until(lambda: name not in self.following.users)

    def person(
        self,
        name: str = "joe",
        logins: Sequence[str] = ("joe", LOGIN),
        *,
        ttl: timedelta = timedelta(hours=1),
        age: timedelta = timedelta(),
        **claims: Any,
    ) -> Client:
        """Return somebody with ssh and a certificate that was issued `age` ago."""
        key = generate_key()
        said = UserClaims(
            user=name,
            cluster="main",
            logins=tuple(dict.fromkeys(logins)),
            roles=(f"user:{name}",),
            ttl=ttl,
            **{"permit_port_forwarding": True, "permit_agent_forwarding": True, **claims},
        )
        signer = self.authorities.user.signer
        certificate = sign_user(said, key.public, signer=signer, now=CLOCK.now() - age, serial=random_serial())
        host = self.authorities.host.signer.public
        person = Person(
            name=name,
            cluster="main",
            private=key,
            certificate=certificate.line,
            known_hosts=f"@cert-authority * {host.key.line}\n{export_authority(host)}\n",
            host_authorities=(host.key.line,),
        )
        self._people += 1
        return Client(self, person, self.folder / f"{name}-{self._people}")

    async def joe(self) -> Client:
        """Return somebody who may log in to every node."""
        await self.declare("User", "joe", logins=list(dict.fromkeys(("joe", LOGIN))))
        return self.person()

    # --- what happened --------------------------------------------------------------------------------------------

    def events(self, event: str) -> list[dict[str, Any]]:
        """Return the audit events of a kind so far."""
        return [record for record in self._auth.events() if record["event"] == event]

    async def _until(self, condition: Any) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - what it waits for has no event
                await asyncio.sleep(0.005)

    def started(self, process: asyncio.subprocess.Process) -> None:
        """See that a process ends with the cluster."""
        self._processes.append(process)


class Client:
    """Somebody with the real ssh."""

    def __init__(self, cluster: SSHProxyCluster, person: Person, folder: Path) -> None:
        self._cluster = cluster
        self.person = person
        self.options = person.ssh_options(folder)
        self.login = person.name

    def to_proxy(self, login: str = "") -> list[str]:
        """Return ssh's words up to the proxy's address."""
        address = self._cluster.address
        return ["ssh", *self.options, "-p", str(address.port), f"{login or self.login}@{address.host}"]

    def through(self, wish: str = "%h:%p") -> list[str]:
        """Return ssh's words that make it go through the proxy, as the manual's ProxyCommand does."""
        command = shlex.join(self.to_proxy()).replace("%", "%%") + f" -s proxy:{wish}"
        return ["ssh", *self.options, "-o", f"ProxyCommand={command}"]

    async def ask(self, subsystem: str, *, stdin: bytes = b"", login: str = "") -> Done:
        """Ask the proxy for a subsystem, and return all that comes of it."""
        return await self.run([*self.to_proxy(login), "-s", subsystem], stdin=stdin)

    async def connect(self) -> ClientConnection:
        """Connect to the proxy with what our own programs have, to do what ssh does not."""
        return await connect(
            self._cluster.address.host,
            self._cluster.address.port,
            name="localhost",
            login=self.login,
            key=self.person.private.to_openssh().encode(),
            certificate=self.person.certificate,
            verify_host=lambda name, certificate: None,
        )

    async def run(self, words: Sequence[str], *, stdin: bytes = b"", seconds: float = 60) -> Done:
        """Run a command to its end."""
        process = await self.start(words)
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Done(process.returncode, out, err.decode(errors="replace"))

    async def start(self, words: Sequence[str]) -> asyncio.subprocess.Process:
        """Start a command with pipes to all that it reads and writes; it ends with the cluster at the latest."""
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, stderr=pipe)
        self._cluster.started(process)
        return process


@asynccontextmanager
async def ssh_proxy(folder: Path, **settings: Any) -> AsyncIterator[SSHProxyCluster]:
    """Run the cluster; the settings are SSHProxyCluster's."""
    cluster = SSHProxyCluster(folder, **settings)
    await cluster.start()
    try:
        yield cluster
    finally:
        async with asyncio.timeout(60):
            await cluster.stop()
