"""Both ends of reverse tunnels in this process, with certificates of two clusters, and a network that breaks."""

from __future__ import annotations

import asyncio
import random
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

from runtime.core.clock import Clock, SystemClock
from runtime.core.errors import NotFound, Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import HostClaims, MemberClaims, MemberRole
from runtime.pki.keys import PrivateKey, generate_key
from runtime.pki.signing import random_serial, sign_host, sign_member
from runtime.pki.trust import AuthorityKey, Signer, Trust
from runtime.transport.gateway import GatewayChannel
from runtime.transport.limits import Limits
from runtime.tunnel import protocol
from runtime.tunnel.agent import Agent
from runtime.tunnel.leaf import Carrier, Credentials, Happened, Root
from runtime.tunnel.limits import TRANSPORT_LIMITS
from runtime.tunnel.registry import Event, Registry

CLOCK = SystemClock()
DEADLINE = 60.0
"""Seconds a test waits for something that has to happen."""


@dataclass(frozen=True)
class Member:
    """One member of a cluster: its key and both certificates, as the contents of OpenSSH files."""

    id: str
    login: str
    key: bytes
    host_certificate: bytes
    member_certificate: bytes


class Hosts:
    """The host authority of a cluster."""

    def __init__(self, cluster: str, key: PrivateKey | None = None) -> None:
        self.cluster = cluster
        self.signer = Signer(AuthorityType.HOST, cluster, key or generate_key())

    @property
    def key(self) -> AuthorityKey:
        """Its public half."""
        return self.signer.public

    @property
    def trust(self) -> Trust:
        """What believes it, and nobody else."""
        return Trust([self.key])

    def member(
        self,
        role: MemberRole = MemberRole.PROXY,
        *,
        says: str = "",
        host_id: str = "",
        ttl: timedelta = timedelta(hours=1),
    ) -> Member:
        """Return a new member; `says` is the cluster that its certificates claim, if not this one.

        With a `host_id` it is that member with a new key and certificates, good for `ttl`.
        """
        key, host_id, cluster = generate_key(), host_id or str(uuid.uuid4()), says or self.cluster
        signer = Signer(AuthorityType.HOST, cluster, self.signer.key)
        now = CLOCK.now()
        host = HostClaims(host_id=host_id, role=role, name="proxy1", cluster=cluster, ttl=ttl)
        member = MemberClaims(host_id=host_id, role=role, cluster=cluster, ttl=ttl)
        return Member(
            id=host_id,
            login=f"{role}.{host_id}",
            key=key.to_openssh().encode(),
            host_certificate=sign_host(host, key.public, signer=signer, now=now, serial=random_serial()).line,
            member_certificate=sign_member(member, key.public, signer=signer, now=now, serial=random_serial()).line,
        )


async def until(true: Callable[[], object], what: str) -> None:
    """Wait until something is true."""
    try:
        async with asyncio.timeout(DEADLINE):
            while not true():  # noqa: ASYNC110 - no one event tells
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"it did not come to pass: {what}") from None


class RootProxy:
    """One proxy of a root, with port 3024."""

    def __init__(self, hosts: Hosts, *leaves: Hosts, limits: Limits = TRANSPORT_LIMITS, clock: Clock = CLOCK) -> None:
        self.clock = clock
        self.limits = limits
        self.hosts = hosts
        self.member = hosts.member()
        self.events: list[Event] = []
        self.trusted: dict[str, AuthorityKey] = {leaf.cluster: leaf.key for leaf in leaves}
        self.trust: Trust | None = None
        """In place of `trusted`, where there are many."""
        self.proxies: list[protocol.Place] = []
        self.port = 0

    async def start(self, *, max_connections: int = 1000) -> None:
        """Listen, on the same port as before."""
        self.registry = Registry(
            cluster=self.hosts.cluster,
            proxy=self.member.id,
            trust=lambda: self.trust or Trust(self.trusted.values()),
            proxies=lambda: self.proxies,
            told=self.events.append,
            clock=self.clock,
            limits=self.limits,
        )
        bound = await self.registry.start(
            address="127.0.0.1",
            port=self.port,
            login=self.member.login,
            key=self.member.key,
            certificate=self.member.member_certificate,
            max_connections=max_connections,
        )
        self.port = bound.port

    @property
    def address(self) -> str:
        """Where leaves come to."""
        return f"127.0.0.1:{self.port}"

    def place(self, address: str = "") -> protocol.Place:
        """Return what leaves are told of it; `address` is for one by which it is reached through something else."""
        return protocol.Place(proxy=self.member.id, address=address or self.address)

    @property
    def errors(self) -> str:
        """Why somebody was refused, one a line."""
        return "\n".join(event.error for event in self.events if event.error)

    async def online(self, cluster: str, count: int = 1) -> None:
        """Wait until a cluster has that many tunnels here."""
        await until(lambda: len(self.registry.tunnels(cluster)) == count, f"{count} tunnels of {cluster}")


class LeafProxy:
    """One proxy of a leaf, which echoes what comes for the node `echo` and knows no other."""

    def __init__(self, hosts: Hosts, *, seed: int = 7, limits: Limits = TRANSPORT_LIMITS, clock: Clock = CLOCK) -> None:
        self.hosts = hosts
        self.member = hosts.member()
        self.events: list[Happened] = []
        self.dials: list[str] = []
        self.visitors: list[tuple[Carrier, protocol.Connect]] = []
        self.agent = Agent(
            cluster=hosts.cluster,
            proxy=self.member.id,
            name="proxy1",
            credentials=lambda: Credentials(self.member.key, self.member.host_certificate),
            dial=self._dial,
            serve_connect=self._connect,
            serve_nodes=self._nodes,
            told=self.events.append,
            clock=clock,
            rng=random.Random(seed),
            limits=limits,
        )

    def keep(self, *roots: tuple[Hosts, str]) -> None:
        """Have tunnels to these roots at these addresses."""
        self.agent.keep(
            {
                hosts.cluster: Root(hosts.cluster, address, (hosts.key.key.line,), hosts.trust)
                for hosts, address in roots
            }
        )

    @property
    def errors(self) -> str:
        """Why there is no tunnel, one a line."""
        return "\n".join(status.error for status in self.agent.status() if status.error)

    @property
    def online(self) -> list[str]:
        """The ids of the roots' proxies that there are tunnels to."""
        return [status.peer for status in self.agent.status() if status.online]

    async def _dial(self, address: str, told_of: bool) -> socket.socket:
        self.dials.append(address)
        host, _, port = address.rpartition(":")
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):
                raise Unavailable(str(error)) from error
            raise
        return sock

    async def _connect(self, carrier: Carrier, request: protocol.Connect, channel: GatewayChannel) -> int:
        self.visitors.append((carrier, request))
        if request.host != "echo":
            channel.write_error(f"teleport: there is no node {request.host!a}")
            return 1
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=far)

        async def echo() -> None:
            with suppress(OSError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

        echoing = asyncio.create_task(echo())
        try:
            await channel.relay(near)
        finally:
            await echoing
        return 0

    async def _nodes(self, carrier: Carrier, request: protocol.Nodes) -> bytes:
        if request.target == "/none":
            raise NotFound("there is nothing for you", hint="Ask somebody else.")
        return b'[{"asked": "%s"}]' % request.target.encode()


VISITOR = protocol.Visitor(certificate="ssh-ed25519-cert-v01@openssh.com AAAA", login="joe", address="192.0.2.7:4711")


@dataclass
class Wire:
    """A way to a port that can be cut: then it takes connections and carries nothing, as a firewall that drops."""

    target: int
    port: int = 0
    targets: list[int] = field(default_factory=list)
    """In place of `target`, several in turn, as a load balancer does."""
    cut: bool = False
    refuses: bool = False
    taken: int = 0
    _healed: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def sever(self) -> None:
        """Carry nothing from now on, without a word to either side."""
        self.cut = True
        self._healed.clear()

    def heal(self) -> None:
        """Carry again what comes."""
        self.cut = False
        self._healed.set()

    def reset(self) -> None:
        """End all connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        self.taken += 1
        self._writers.add(writer)
        try:
            if self.refuses:
                return
            target = self.targets[self.taken % len(self.targets)] if self.targets else self.target
            try:
                other_reader, other = await asyncio.open_connection("127.0.0.1", target)
            except OSError:
                return
            self._writers.add(other)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pump(reader, other))
                    group.create_task(self._pump(other_reader, writer))
            finally:
                self._writers.discard(other)
                other.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.cut:
                    await self._healed.wait()
                    # What was on its way when the network was cut is lost, and with it the connection.
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
        reader.feed_eof()


@asynccontextmanager
async def wire(target: int) -> AsyncIterator[Wire]:
    """Open a way to a port of this machine."""
    made = Wire(target)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(made.serve(reader, writer))
        made._tasks.add(task)
        task.add_done_callback(made._tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        made.heal()
        made.reset()
        for task in list(made._tasks):
            task.cancel()
        if made._tasks:
            await asyncio.wait(made._tasks)


@asynccontextmanager
async def running(*ends: RootProxy | LeafProxy) -> AsyncIterator[None]:
    """Start the root proxies among these, and stop all of them at the end, the leaves first."""
    try:
        for end in ends:
            if isinstance(end, RootProxy):
                await end.start()
        yield
    finally:
        for end in sorted(ends, key=lambda end: isinstance(end, RootProxy)):
            await (end.registry.stop() if isinstance(end, RootProxy) else end.agent.stop())
