"""The auth service on a real SSH port: joining, membership, and who may call what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pyotp
import pytest

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.member_messages import Presence, PresenceQuery
from runtime.api.messages import Nothing
from runtime.api.people_messages import LoginRequest, SignupQuery, SignupRequest, UserRequest
from runtime.api.token_messages import TokenRequest
from runtime.core.callers import CallerKind
from runtime.core.errors import AccessDenied, Unavailable
from runtime.pki.keys import generate_key
from runtime.service.identity import DataDir
from runtime.service.member import AuthServers, Member, auth_client, join
from tests.servers.auth_port import CLOCK, AuthPort


class Auth(AuthPort):
    """An auth service, as newcomers are told of it."""

    def servers(self, tmp_path: Path) -> AuthServers:
        """Return the list of auth servers as a newcomer is told it."""
        return AuthServers(DataDir(tmp_path), [self.address])


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncIterator[Auth]:
    """Yield a running auth service."""
    auth = Auth(tmp_path)
    await auth.listen()
    yield auth
    await auth.end()


@pytest.fixture
def admin(auth: Auth) -> AuthClient:
    """Return a client with an administrator's identity."""
    return auth.client(auth.identity(CallerKind.ADMIN))


async def test_a_newcomer_joins_with_token_and_pin_and_is_listed(auth: Auth, admin: AuthClient, tmp_path: Path) -> None:
    """Token in, identities for both roles out; the first heartbeat lists the node with the token's labels."""
    token = await admin.call(
        methods.TOKENS_CREATE, TokenRequest(roles=("node", "proxy"), labels={"env": "prod"}, max_uses=1)
    )
    assert token.auth_servers == (auth.address,)
    servers = AuthServers(DataDir(tmp_path), token.auth_servers)
    identities = await join(
        token=token.entry.token,
        roles=[CallerKind.NODE, CallerKind.PROXY],
        name="db1",
        advertised=[],
        servers=servers,
        ca_pin=token.ca_pin,
        clock=CLOCK,
    )
    assert set(identities) == {CallerKind.NODE, CallerKind.PROXY}
    node = identities[CallerKind.NODE]
    presence = Presence(
        id=node.id, kind=CallerKind.NODE, name="db1", addr="127.0.0.1:3022", labels={"env": "dev", "os": "debian"}
    )
    member = Member(
        node, data_dir=DataDir(tmp_path), servers=servers, presence=lambda: presence, advertised=[], clock=CLOCK
    )
    beating = asyncio.create_task(member.run())
    await asyncio.wait_for(member.heard.wait(), 10)
    listed = await admin.call(methods.PRESENCE, PresenceQuery(kind=CallerKind.NODE))
    assert [entry.presence.labels for entry in listed.members] == [{"env": "prod", "os": "debian"}]
    await member.renew()
    assert member.identity.member_certificate != node.member_certificate
    assert DataDir(tmp_path).identity(CallerKind.NODE) == member.identity
    beating.cancel()
    await member.leave()
    assert (await admin.call(methods.PRESENCE, PresenceQuery(kind=CallerKind.NODE))).members == ()
    with pytest.raises(AccessDenied, match="not valid"):
        await join(
            token=token.entry.token,
            roles=[CallerKind.NODE],
            name="db2",
            advertised=[],
            servers=servers,
            ca_pin=token.ca_pin,
            clock=CLOCK,
        )


async def test_a_wrong_pin_keeps_the_token_at_home(auth: Auth, admin: AuthClient, tmp_path: Path) -> None:
    """A newcomer that finds another authority than the pinned one goes no further: the token is not sent."""
    token = await admin.call(methods.TOKENS_CREATE, TokenRequest(roles=("node",), max_uses=1))
    with pytest.raises(AccessDenied, match="not the pinned"):
        await join(
            token=token.entry.token,
            roles=[CallerKind.NODE],
            name="db1",
            advertised=[],
            servers=auth.servers(tmp_path),
            ca_pin=generate_key().public.fingerprint,
            clock=CLOCK,
        )
    assert token.entry in (await admin.call(methods.TOKENS_LIST, Nothing())).tokens


async def test_a_node_may_not_administer(auth: Auth, tmp_path: Path) -> None:
    """A node's certificate opens the port and none of tctl's methods; the attempt is in the log."""
    identity = auth.identity(CallerKind.NODE)
    client = auth_client(lambda: identity, auth.servers(tmp_path), CLOCK)
    assert (await client.call(methods.PING, Nothing())).cluster == "main"
    with pytest.raises(AccessDenied, match=r"node may not call users\.create"):
        await client.call(methods.USERS_CREATE, UserRequest(name="eve"))
    await client.close()
    (log,) = (tmp_path / "log").iterdir()
    assert '"event":"call.refused"' in log.read_text()


async def test_a_certificate_of_another_cluster_is_refused(auth: Auth, tmp_path: Path) -> None:
    """An administrator of one cluster is nobody in another, in both directions of trust."""
    other = Auth(tmp_path / "other")
    await other.listen()
    identity = other.identity(CallerKind.ADMIN)
    client = auth_client(lambda: identity, auth.servers(tmp_path), CLOCK)
    with pytest.raises(AccessDenied):
        await client.call(methods.PING, Nothing())
    ours = auth.identity(CallerKind.ADMIN)
    forged = identity.model_copy(update={"authorities": ours.authorities, "cluster": "main"})
    client = auth_client(lambda: forged, auth.servers(tmp_path), CLOCK)
    with pytest.raises(AccessDenied, match="does not accept the certificate"):
        await client.call(methods.PING, Nothing())
    await other.end()


async def test_an_auth_server_that_is_away_is_named(auth: Auth, tmp_path: Path) -> None:
    """When nobody answers, the error says where was looked."""
    identity = auth.identity(CallerKind.NODE)
    await auth.service.stop()
    client = auth_client(lambda: identity, auth.servers(tmp_path), CLOCK)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1"):
        await client.call(methods.PING, Nothing())


async def test_people_sign_up_and_log_in_through_a_proxy(auth: Auth, admin: AuthClient, tmp_path: Path) -> None:
    """An administrator invites, a proxy passes on what is typed, and a certificate for the logins comes back."""
    invite = await admin.call(methods.USERS_CREATE, UserRequest(name="joe", logins=("joe", "root")))
    identity = auth.identity(CallerKind.PROXY)
    proxy = auth_client(lambda: identity, auth.servers(tmp_path), CLOCK)
    form = await proxy.call(
        methods.SIGNUP_SHOW, SignupQuery.model_validate({"token": invite.token, "address": "192.0.2.1"})
    )
    assert form.user == "joe"
    totp = pyotp.parse_uri(form.otp_uri)
    assert isinstance(totp, pyotp.TOTP)
    now = CLOCK.now()
    await proxy.call(
        methods.SIGNUP_COMPLETE,
        SignupRequest.model_validate(
            {"token": invite.token, "password": "correct horse", "otp": totp.at(now), "address": "192.0.2.1"}
        ),
    )
    reply = await proxy.call(
        methods.LOGIN,
        LoginRequest.model_validate(
            {
                "user": "joe",
                "password": "correct horse",
                "otp": totp.at(now + timedelta(seconds=30)),
                "public_key": generate_key().public.line,
                "address": "192.0.2.1",
            }
        ),
    )
    assert reply.certificate.startswith("ssh-ed25519-cert-v01@openssh.com ")
    users = (await admin.call(methods.USERS_LIST, Nothing())).users
    assert [(user.name, user.logins, user.status) for user in users] == [("joe", ("joe", "root"), "active")]
    await proxy.close()
