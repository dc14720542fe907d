"""Members and newcomers at an auth whose keys they do not know: whom they follow there, and whom they do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from runtime.api import methods
from runtime.api.member_messages import Presence
from runtime.api.rotation_messages import RotateRequest
from runtime.api.token_messages import TokenRequest
from runtime.core.callers import CallerKind
from runtime.core.errors import AccessDenied
from runtime.core.rotation import Phase
from runtime.pki.keys import generate_key
from runtime.service.estranged import Estranged, leads_from, look_again
from runtime.service.identity import DataDir, StoredIdentity, signer_of
from runtime.service.joining import obtain
from runtime.service.member import AuthServers, Member
from tests.servers.auth_port import CLOCK, AuthPort, host_of
from tests.servers.sshport import until

NODE = CallerKind.NODE


class Auth(AuthPort):
    """An auth service whose authorities are rotated by hand."""

    @property
    def pin(self) -> str:
        """The fingerprint of the key that signs its host certificate."""
        return self.service.issuer.authorities.host.signer.public.key.fingerprint

    async def go(self, *phases: Phase) -> None:
        """Take these steps, nobody being online, and show certificates as they are due then."""
        admin = self.service.local.client(lambda: (CallerKind.ADMIN, "me"))
        for phase in phases:
            await admin.call(methods.AUTHORITIES_ROTATE, RotateRequest(phase=phase, manual=True, force=True))
            await self._settled(phase)
        await admin.close()
        await self.service.renew(**host_of(self.identity(CallerKind.AUTH)))

    async def _settled(self, phase: Phase) -> None:
        async for authorities in self.service.authorities.follow():
            rotation = authorities.host.rotation, authorities.user.rotation
            if all((each.phase if each else Phase.STANDBY) is phase for each in rotation):
                return

    async def token(self) -> SecretStr:
        """Return a token for a node."""
        admin = self.service.local.client(lambda: (CallerKind.ADMIN, "me"))
        made = await admin.call(methods.TOKENS_CREATE, TokenRequest(roles=("node",)))
        await admin.close()
        return SecretStr(made.entry.token)


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncIterator[Auth]:
    """Yield a running auth service."""
    auth = Auth(tmp_path / "auth")
    await auth.listen()
    yield auth
    await auth.end()


@pytest.fixture
def node(auth: Auth, tmp_path: Path) -> StoredIdentity:
    """Return a node of it, which has it in its data_dir."""
    data_dir = DataDir(tmp_path / "node")
    data_dir.open()
    identity = auth.identity(NODE)
    data_dir.keep(identity)
    return identity


async def start(auth: Auth, tmp_path: Path, token: SecretStr | None = None, pin: str | None = None) -> StoredIdentity:
    """Return what a node is once it has started where auth answers."""
    data_dir = DataDir(tmp_path / "node")
    found = await obtain(
        [NODE],
        data_dir=data_dir,
        servers=AuthServers(data_dir, [auth.address]),
        token=token,
        ca_pin=pin,
        name="db1",
        advertised=[],
        clock=CLOCK,
    )
    return found[NODE]


async def test_the_old_key_leads_to_the_new_one(auth: Auth, node: StoredIdentity, tmp_path: Path) -> None:
    """In the middle, where both are trusted; the identity stays who it is, with both keys on disk."""
    old = auth.pin
    await auth.go(Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS)
    assert auth.pin != old
    found = await start(auth, tmp_path)
    assert (found.id, found.member_certificate) == (node.id, node.member_certificate)
    assert [len(each.keys) for each in found.authorities] == [2, 2]
    assert DataDir(tmp_path / "node").identity(NODE) == found
    assert await leads_from(old, auth.address) == auth.pin


async def test_a_pin_is_good_while_its_key_is_trusted(auth: Auth) -> None:
    """Of the new key as soon as there is one, of the old one until the end; what is gone again leads nowhere."""
    old = auth.pin
    await auth.go(Phase.INIT)
    new = auth.service.issuer.authorities.host.generations[-1].public.fingerprint
    assert auth.pin == old != new
    for phase in (None, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.ROLLBACK):
        if phase is not None:
            await auth.go(phase)
        assert auth.pin == (new if phase is Phase.UPDATE_SERVERS else old)
        for pin in (old, new):
            assert await leads_from(pin, auth.address) == auth.pin, (phase, pin)
        assert await leads_from(generate_key().public.fingerprint, auth.address) is None
    await auth.go(Phase.STANDBY)
    assert await leads_from(new, auth.address) is None


async def test_two_rotations_are_followed_one_after_the_other(auth: Auth, node: StoredIdentity) -> None:
    """Who has missed both is told by an auth that has proved itself that its own certificate is nothing any more."""
    old = auth.pin
    for _ in range(2):
        await auth.go(Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY)
    with pytest.raises(Estranged, match="was replaced while it was away") as caught:
        await look_again(auth.address, node)
    assert caught.value.proved
    assert "tctl nodes add --roles=node" in caught.value.hint
    assert await leads_from(old, auth.address) == auth.pin


async def test_who_runs_and_was_cut_off(
    auth: Auth, node: StoredIdentity, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Back in the middle it follows by itself; back after the end it goes on running, and its log says what to do."""

    async def back() -> Member:
        presence = Presence(id=node.id, kind=NODE, name="localhost", addr="127.0.0.1:3022")
        data_dir = DataDir(tmp_path / "node")
        member = Member(
            node,
            data_dir=data_dir,
            servers=AuthServers(data_dir, [auth.address]),
            presence=lambda: presence,
            advertised=(),
            clock=CLOCK,
        )
        running = asyncio.create_task(member.run())
        await until(lambda: member.heartbeats or member.failures, "a heartbeat, taken or not")
        assert not running.done()
        running.cancel()
        await asyncio.wait([running])
        await member.auth.close()
        return member

    await auth.go(Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS)
    member = await back()
    assert (member.heartbeats, member.failures) == (1, 0)
    assert [len(each.keys) for each in member.identity.authorities] == [2, 2]
    await auth.go(Phase.STANDBY)
    member = await back()
    assert (member.heartbeats, member.failures) == (0, 1)
    assert "no heartbeat: auth does not accept the certificates of node." in caplog.text
    assert "tctl nodes add --roles=node" in caplog.text


async def test_an_emergency_leads_nowhere(auth: Auth, node: StoredIdentity, tmp_path: Path) -> None:
    """The old key may be anybody's: what it says brings nobody to a key, be it the one of auth."""
    old = auth.pin
    admin = auth.service.local.client(lambda: (CallerKind.ADMIN, "me"))
    await admin.call(methods.AUTHORITIES_ROTATE, RotateRequest(grace=timedelta(), force=True))
    await admin.close()
    async for authorities in auth.service.authorities.follow():
        ended = authorities.host.rotation is None and authorities.user.rotation is None
        if ended and authorities.host.signer.public.key.fingerprint != old:
            break
    await auth.go()
    assert auth.pin != old
    assert await leads_from(old, auth.address) is None
    with pytest.raises(Estranged, match="was replaced in an emergency") as caught:
        await look_again(auth.address, node)
    assert not caught.value.proved
    with pytest.raises(AccessDenied, match="it joins no cluster anew by a token alone"):
        await start(auth, tmp_path, await auth.token())
    assert DataDir(tmp_path / "node").identity(NODE) == node
    anew = await start(auth, tmp_path, await auth.token(), auth.pin)
    assert signer_of(anew.member_certificate) == auth.pin
    assert anew.id != node.id


async def test_an_impostor_gets_nobody(auth: Auth, node: StoredIdentity, tmp_path: Path) -> None:
    """Who answers in auth's place, with another CA and tokens that it takes: a member stays who it is, and ends.

    Nor by a pin that is not the impostor's.
    """
    impostor = Auth(tmp_path / "impostor")
    await impostor.listen()
    try:
        with pytest.raises(Estranged, match="none that it knows leads there") as caught:
            await look_again(impostor.address, node)
        assert not caught.value.proved
        token = await impostor.token()
        with pytest.raises(AccessDenied, match="it joins no cluster anew by a token alone"):
            await start(impostor, tmp_path, token)
        with pytest.raises(AccessDenied, match="not the pinned"):
            await start(impostor, tmp_path, token, auth.pin)
    finally:
        await impostor.end()
    assert DataDir(tmp_path / "node").identity(NODE) == node
    assert await start(auth, tmp_path) == node


async def test_an_auth_that_is_away_decides_nothing(auth: Auth, node: StoredIdentity, tmp_path: Path) -> None:
    """A member starts with what it has."""
    await auth.service.stop()
    assert await start(auth, tmp_path) == node
