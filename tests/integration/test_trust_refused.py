"""What a person at the leaf reads where trust does not come about: tokens that are no good, addresses of no root."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.auth import trusted_exchange
from runtime.auth.server import AuthOptions
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.errors import TeleportError
from runtime.service.member import auth_client
from tests.servers.strangers import Serve, silence, sshd, stranger, web
from tests.servers.trust_pair import PATIENCE, Pair, trust_pair
from tests.servers.webproxy import web_cluster

CLOCK = SystemClock()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Yield both clusters."""
    async with trust_pair(tmp_path) as pair:
        yield pair


async def test_an_expired_token(pair: Pair) -> None:
    """The condition says that the token is no good and where a new one is made; the root's log has who asked."""
    created = await pair.token()
    (item,) = (await pair.root.backend.range("secrets/token/")).items
    await pair.root.backend.put(item.key, item.value, expires=CLOCK.now() + timedelta(milliseconds=50))
    async with asyncio.timeout(PATIENCE):
        while (await pair.root.admin.call(methods.TOKENS_LIST, Nothing())).tokens:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)
    await pair.declare({"token": created.entry.token, "caPin": created.ca_pin})
    standing = await pair.standing("TokenRefused")
    assert "cluster main refused: the token is not valid" in standing.message
    assert "tctl tokens add --type=trusted_cluster" in standing.message
    assert '"event":"trust.refused"' in pair.root.events()
    assert '"event":"trust.refused"' in pair.leaf.events()


async def test_a_token_that_another_leaf_has_used(pair: Pair, tmp_path: Path) -> None:
    """It is good once: the second leaf is refused and told what to do, and the first stays."""
    created = await pair.token()
    values = {"token": created.entry.token, "caPin": created.ca_pin}
    await pair.declare(values)
    await pair.standing("Trusted")
    (tmp_path / "second").mkdir()
    options = AuthOptions(address="127.0.0.1", port=0, cluster_name="cluster-c")
    async with web_cluster(tmp_path / "second", auth=options) as second:
        other = Pair(pair.root, second)
        await other.declare(values)
        standing = await other.standing("TokenRefused")
        assert "the token is not valid" in standing.message
        assert "put it into the Secret" in standing.message
        assert not (await second.admin.call(methods.TRUSTED_LIST, Nothing())).clusters
    assert '"cluster":"cluster-c"' in pair.root.events()
    (leaf,) = (await pair.root.admin.call(methods.TRUSTED_LIST, Nothing())).clusters
    assert leaf.cluster == "cluster-b"


@pytest.mark.parametrize(
    ("serve", "why"),
    [(web, "does not speak HTTPS"), (sshd, "does not speak HTTPS"), (silence, "did not answer within 1 s")],
)
async def test_an_address_that_is_no_proxys(
    pair: Pair, serve: Serve, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web server without TLS, an SSH server, one that says nothing: the address is named, and what it should be."""
    monkeypatch.setattr(trusted_exchange, "TIMEOUT_SECONDS", 1.0)
    async with stranger(serve) as address:
        proxy = {"webAddr": address, "tunnelAddr": "127.0.0.1:3024"}
        await pair.declare({"token": "f" * 32, "caPin": pair.pin()}, proxy=proxy)
        standing = await pair.standing("Unreachable")
        assert f"the proxy at {address} cannot be reached: it {why}" in standing.message
        assert "Is proxy.webAddr the HTTPS address of the root's proxy (port 3080)?" in standing.message


@pytest.mark.parametrize("role", [CallerKind.PROXY, CallerKind.NODE, CallerKind.AUTH, CallerKind.ADMIN])
async def test_a_member_of_a_leaf_is_nobody_at_the_roots_auth(pair: Pair, role: CallerKind) -> None:
    """What the leaf's host CA has signed opens no conversation there, though the leaf is known."""
    created = await pair.token()
    await pair.declare({"token": created.entry.token, "caPin": created.ca_pin})
    await pair.standing("Trusted")
    own, theirs = pair.root.identity(role), pair.leaf.identity(role)
    # It believes the root, so that it is the root that refuses.
    mixed = theirs.model_copy(update={"authorities": own.authorities})
    for identity, gets_in in ((own, True), (mixed, False)):
        client = auth_client(lambda: identity, lambda: (pair.root.auth_address,), CLOCK)  # noqa: B023 - within the loop
        try:
            if gets_in:
                assert (await client.call(methods.PING, Nothing())).cluster == "main"
            else:
                with pytest.raises(TeleportError, match="auth does not accept the certificates of"):
                    await client.call(methods.PING, Nothing())
        finally:
            await client.close()
