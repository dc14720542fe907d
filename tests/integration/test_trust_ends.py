"""The end of trust ends what goes on by it at a leaf's nodes: real ssh, a node in this process, trust that changes."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.api.trust_messages import TrustedPeer
from runtime.audit.events import EventType
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.resources.authority import AuthorityType
from runtime.node.labels import NodeLabels
from runtime.node.recording import Recordings
from runtime.node.registry import Running
from runtime.node.service import NodeOptions, NodeService
from runtime.node.spool import Spool
from runtime.pki.claims import UserClaims
from runtime.pki.keys import generate_key
from runtime.pki.signing import random_serial, sign_user
from runtime.pki.trust import Signer
from runtime.service.sections.ssh import Recording
from runtime.service.values import Address
from runtime.transport.limits import Limits
from tests.integration.test_node_port import Events, People
from tests.servers.auth_thread import auth_thread

ME = pwd.getpwuid(os.geteuid()).pw_name
CLOCK = SystemClock()
PATIENCE = 60.0


@dataclass
class Ssh:
    """One real ssh that runs `cat`."""

    process: asyncio.subprocess.Process

    async def echoes(self) -> bool:
        """Tell whether a line that goes in comes out."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"hello\n")
        async with asyncio.timeout(PATIENCE):
            return await self.process.stdout.readline() == b"hello\n"

    async def ended(self) -> str:
        """Wait until it has ended, and return what it said."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            said = await self.process.stderr.read()
            await self.process.wait()
        return said.decode()


class Leaf:
    """A node of the cluster `main`, which trusts the cluster `root` at first."""

    def __init__(self, folder: Path, service: NodeService, events: Events) -> None:
        self.folder = folder
        self.service = service
        self.events = events
        self.users = Signer(AuthorityType.USER, "root", generate_key())
        self.local: Signer
        self.clusters: dict[str, TrustedPeer] = {"root": self.peer()}
        self._people = 0

    def peer(self, **changes: object) -> TrustedPeer:
        """Return what it is to trust the root."""
        keys = {"user_keys": (self.users.public.key.line,), "host_keys": (generate_key().public.line,)}
        return TrustedPeer.model_validate(
            {"cluster": "root", "tunnel_addr": "127.0.0.1:1", "allow_logins": (ME,), "base": "one", **keys, **changes}
        )

    def now(self, peer: TrustedPeer | None) -> None:
        """Have trust be so, as if auth had told."""
        self.clusters = {} if peer is None else {"root": peer}
        self.service.trust_changed()

    def dismissed(self) -> list[dict[str, object]]:
        """Return whom the audit log says were cut off."""
        return [dict(fields) for event, fields in self.events.all if event is EventType.GUEST_DISMISSED]

    @asynccontextmanager
    async def ssh(self, *options: str, guest: bool = True) -> AsyncIterator[Ssh]:
        """Run `cat` on the node as a person of the root, or of this cluster."""
        self._people += 1
        files, key = self.folder / f"person{self._people}", generate_key()
        files.mkdir()
        signer, user = (self.users, "john") if guest else (self.local, "joe")
        claims = UserClaims(user=user, cluster=signer.cluster, logins=(ME,), roles=(), ttl=timedelta(hours=1))
        certificate = sign_user(claims, key.public, signer=signer, now=CLOCK.now(), serial=random_serial())
        (files / "key").touch(mode=0o600)
        (files / "key").write_text(key.to_openssh())
        (files / "key-cert.pub").write_bytes(certificate.line)
        port = self.service.presence()[0].rpartition(":")[2]
        command = ["ssh", "-F", "none", "-p", port, "-i", str(files / "key"), "-o", "IdentitiesOnly=yes"]
        command += ["-o", "IdentityAgent=none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        pipe = asyncio.subprocess.PIPE
        command += [*options, f"{ME}@127.0.0.1", "cat"]
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            yield Ssh(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@pytest.fixture
async def leaf(tmp_path: Path) -> AsyncIterator[Leaf]:
    """Run the node."""
    with auth_thread(tmp_path) as auth:
        identity, events = auth.identity(CallerKind.NODE), Events()
        made: Leaf
        service = NodeService(
            NodeOptions(listen=Address("127.0.0.1", 0), addr=Address("localhost", 0), limits=Limits(), grace=1),
            identity=lambda: identity,
            labels=NodeLabels({}, ()),
            people=People(),
            clusters=lambda: made.clusters,
            proxies=frozenset,
            audit=events,
            recordings=Recordings(Spool(tmp_path / "spool", limit=2**20), Recording.OFF),
            running=Running(CLOCK.now),
            clock=CLOCK,
        )
        made = Leaf(tmp_path, service, events)
        made.local = auth.service.issuer.authorities.user.signer
        await service.start()
        try:
            yield made
        finally:
            await service.stop()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("ended", "cluster root is not trusted here any more"),
        ("other keys", "cluster root is trusted by other keys than those of this certificate"),
    ],
)
async def test_guests_are_cut_off_and_told_why(leaf: Leaf, change: str, why: str) -> None:
    """The session ends with the reason, on the person's terminal and in the audit log; who is of this cluster stays."""
    async with leaf.ssh() as guest, leaf.ssh(guest=False) as local:
        assert await guest.echoes()
        assert await local.echoes()
        leaf.now(None if change == "ended" else leaf.peer(user_keys=(generate_key().public.line,), base="two"))
        assert why in await guest.ended()
        assert await local.echoes()
    (told,) = leaf.dismissed()
    assert (told["user"], told["cluster"], told["reason"], told["sessions"]) == ("john@root", "root", why, 1)


async def test_a_connection_without_a_session_is_hung_up(leaf: Leaf) -> None:
    """Who holds a connection open for later, or forwards ports by it, loses that too."""
    async with leaf.ssh("-N") as guest:
        async with asyncio.timeout(PATIENCE):
            while EventType.AUTH not in [event for event, _ in leaf.events.all]:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.02)
        leaf.now(None)
        await guest.ended()
        assert guest.process.returncode == 255
    (told,) = leaf.dismissed()
    assert told["sessions"] == 0


async def test_narrower_rights_and_rotations_cut_nobody(leaf: Leaf) -> None:
    """What is open goes on: rights are for what is opened from now on, and a CA that is succeeded is no other's."""
    async with leaf.ssh() as guest:
        assert await guest.echoes()
        leaf.now(leaf.peer(allow_logins=()))
        assert await guest.echoes()
        async with leaf.ssh() as refused:
            assert "nothing here is for john@root" in await refused.ended()
        leaf.now(leaf.peer(user_keys=(generate_key().public.line,)))
        assert await guest.echoes()
    assert leaf.dismissed() == []
