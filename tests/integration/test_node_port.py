"""The node's port itself: its host certificate and its renewal, what scanners find, floods, nonsense, and proxies."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from runtime.audit.events import EventType
from runtime.audit.log import Field
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.resources import Role, User
from runtime.node.labels import NodeLabels
from runtime.node.recording import Recordings
from runtime.node.registry import Running
from runtime.node.service import NodeOptions, NodeService
from runtime.node.spool import Spool
from runtime.pki.certificate import read_certificate
from runtime.pki.claims import UserClaims
from runtime.pki.keys import generate_key
from runtime.pki.signing import sign_user
from runtime.service.identity import StoredIdentity
from runtime.service.sections.ssh import Recording
from runtime.service.values import Address
from runtime.transport.admission import Proxies
from runtime.transport.limits import Limits
from tests.servers.auth_thread import AuthThread, auth_thread
from tests.servers.rawssh import plain_packet, raw_client
from tests.servers.sshaudit import CLASSICAL, audit
from tests.servers.sshca import Credential
from tests.servers.sshport import until

ME = pwd.getpwuid(os.geteuid()).pw_name
CLOCK = SystemClock()
JOE = User.model_validate(
    {"apiVersion": "teleport.internal/v1", "kind": "User", "metadata": {"name": "joe"}, "spec": {"logins": [ME]}}
)


class People:
    """Joe, who may log in as us, and no role."""

    roles: Mapping[str, Role] = {}

    def user(self, name: str) -> User:
        """Return joe."""
        assert name == "joe"
        return JOE


class Events:
    """The audit events that a node has emitted."""

    def __init__(self) -> None:
        self.all: list[tuple[EventType, dict[str, Field]]] = []

    def emit(self, event: EventType, **fields: Field) -> None:
        """Take one."""
        self.all.append((event, fields))

    async def durable(self) -> None:
        """They last as long as the test."""

    def errors(self, kind: EventType) -> list[str]:
        """Return what went wrong in the events of a kind."""
        return [str(fields.get("error")) for event, fields in self.all if event is kind]


class Node:
    """A node in this process, with the identity that an auth service gave it."""

    def __init__(self, auth: AuthThread, proxies: Proxies) -> None:
        self.auth = auth
        self.identity = auth.identity(CallerKind.NODE)
        self.events = Events()
        self.service = NodeService(
            NodeOptions(listen=Address("127.0.0.1", 0), addr=Address("localhost", 0), limits=Limits()),
            identity=lambda: self.identity,
            labels=NodeLabels({}, ()),
            people=People(),
            proxies=proxies,
            audit=self.events,
            recordings=Recordings(Spool(auth.folder / "spool", limit=2**20), Recording.OFF),
            running=Running(CLOCK.now),
            clock=CLOCK,
        )

    @property
    def port(self) -> int:
        """The port that it got."""
        return int(self.service.presence()[0].rpartition(":")[2])

    def credential(self, *, good: bool = True) -> Credential:
        """Return a certificate for joe, or for somebody who is not known."""
        key = generate_key()
        claims = UserClaims(
            user="joe", cluster="main", logins=(ME if good else "other",), roles=(), ttl=timedelta(hours=1)
        )
        signer = self.auth.service.issuer.authorities.user.signer
        certificate = sign_user(claims, key.public, signer=signer, now=CLOCK.now(), serial=1)
        return Credential(key.to_openssh().encode(), certificate.line)

    async def scan(self) -> str:
        """Return the serial of the host certificate that it shows."""
        scan = ["ssh-keyscan", "-c", "-t", "ed25519", "-p", str(self.port), "127.0.0.1"]
        done = await asyncio.to_thread(subprocess.run, scan, capture_output=True, timeout=60, check=False)
        (line,) = re.findall(rb"ssh-ed25519-cert-v01@openssh.com \S+", done.stdout)
        return str(read_certificate(line).serial)


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[AuthThread]:
    """Run an auth service."""
    with auth_thread(tmp_path) as made:
        yield made


@asynccontextmanager
async def running(auth: AuthThread, proxies: Proxies = frozenset) -> AsyncIterator[Node]:
    """Run a node."""
    node = Node(auth, proxies)
    await node.service.start()
    try:
        yield node
    finally:
        await node.service.stop()


async def test_ssh_audit_finds_nothing_to_fail(auth: AuthThread) -> None:
    """No `fail`, and no `warn` but that X25519 alone is not safe from a quantum computer."""
    async with running(auth) as node:
        findings = await audit(node.port)
    assert {(kind, name, level) for kind, name, level, _ in findings} == {("kex", name, "warn") for name in CLASSICAL}


async def test_a_renewed_certificate_is_shown_at_once(auth: AuthThread) -> None:
    """To connections from then on; those that are open do not notice."""
    async with running(auth) as node, raw_client(node.port) as client:
        assert await client.log_in(ME, node.credential())
        before = node.identity
        assert await node.scan() == serial_of(before)
        node.identity = auth.identity(CallerKind.NODE)
        await node.service.renewed(node.identity)
        assert await node.scan() == serial_of(node.identity) != serial_of(before)
        assert await client.open_channel() is not None


async def test_a_source_that_guesses_is_refused_for_a_while(auth: AuthThread) -> None:
    """Three connections without a login, and the next is not answered (PerSourcePenalties)."""
    async with running(auth) as node:
        for _ in range(3):
            async with raw_client(node.port) as client:
                assert not await client.log_in(ME, node.credential(good=False))
        # The last of the three may not have been counted yet; one that does not try counts too, but much less.
        assert any([await hangs_up(node.port) for _ in range(5)])
        assert any("penalised" in error for error in node.events.errors(EventType.SESSION_REJECTED))


async def test_a_proxys_address_is_never_refused(auth: AuthThread) -> None:
    """Everybody comes from there: one who guesses does not keep the others out."""
    async with running(auth, lambda: frozenset({ip_address("127.0.0.1")})) as node:
        for _ in range(6):
            async with raw_client(node.port) as client:
                assert not await client.log_in(ME, node.credential(good=False))
        async with raw_client(node.port) as client:
            assert await client.log_in(ME, node.credential())
        assert node.events.errors(EventType.SESSION_REJECTED) == []
        denied = node.events.errors(EventType.AUTH)
        assert sum("is for other, not for" in error for error in denied) == 6


@pytest.mark.parametrize(
    "nonsense",
    [b"\xff\xff\xff\xff" + b"x" * 1000, plain_packet(b"\x14" + b"x" * 30)],
    ids=["a huge packet", "half a key exchange"],
)
async def test_nonsense_before_the_login_is_ended_and_audited(auth: AuthThread, nonsense: bytes) -> None:
    """The connection ends, the audit log says from where, and others are served."""
    async with running(auth) as node:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(b"SSH-2.0-nonsense\r\n" + nonsense)
        await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await until(lambda: node.events.errors(EventType.SESSION_REJECTED), "it is audited")
        _, fields = node.events.all[0]
        assert str(fields["addr.remote"]).startswith("127.0.0.1:")
        assert fields["server_id"] == str(node.identity.id)


async def test_nonsense_after_the_login_is_ended_and_audited(auth: AuthThread) -> None:
    """A packet that no honest client sends ends its own connection and no other."""
    async with running(auth) as node, raw_client(node.port) as other, raw_client(node.port) as client:
        assert await other.log_in(ME, node.credential())
        assert await client.log_in(ME, node.credential())
        client.send_regardless(94, b"\xff\xff\xff\xff\xff\xff\xff\xff")  # data for a channel that there is not
        await client.ended()
        await until(lambda: node.events.errors(EventType.SESSION_REJECTED), "it is audited")
        assert await other.open_channel() is not None


def serial_of(identity: StoredIdentity) -> str:
    """Return the serial of a host certificate."""
    return str(read_certificate(identity.host_certificate.encode()).serial)


async def hangs_up(port: int) -> bool:
    """Tell whether the port closes a new connection without a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return not await asyncio.wait_for(reader.read(4), 20)
    except ConnectionResetError:
        return True
    finally:
        writer.close()
