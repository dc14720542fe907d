"""The token of a TrustedCluster in the leaf's storage: sealed to auth from the first moment, and gone once shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runtime.auth.unsealing import sealing_key
from runtime.core import keys
from runtime.core.resources import Origin, TrustedCluster, decode, encode
from runtime.core.resources.trusted_cluster import TrustMeans, means_of
from runtime.pki.sealed_token import sealed, token_in
from runtime.pki.sealing import SealingKey
from tests.servers.trust_pair import PATIENCE, Pair, trust_pair

RECORD = keys.resource("TrustedCluster", "main")
NOBODY = {"webAddr": "127.0.0.1:1", "tunnelAddr": "127.0.0.1:3024"}


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Yield both clusters."""
    async with trust_pair(tmp_path) as pair:
        yield pair


async def means_at(pair: Pair) -> TrustMeans | None:
    """Return what the leaf's storage holds from the Secret."""
    return decode(TrustedCluster, (await pair.leaf.backend.get(RECORD)).value).metadata.means


async def stored(pair: Pair) -> bytes:
    """Return all that lies in the leaf's `resources/`."""
    return b"".join(item.value for item in (await pair.leaf.backend.range("resources/TrustedCluster/")).items)


async def write(pair: Pair, means: TrustMeans) -> None:
    """Write the document as the operator, or an earlier version of auth, writes it."""
    item = await pair.leaf.backend.get(RECORD)
    document = decode(TrustedCluster, item.value).with_origin(Origin.TCTL)
    assert isinstance(document, TrustedCluster)
    await pair.leaf.backend.put(RECORD, encode(document.with_means(means)))


async def spent(pair: Pair) -> None:
    """Wait until the token is gone from the record."""
    async with asyncio.timeout(PATIENCE):
        while (means := await means_at(pair)) is None or means.has_token:  # noqa: ASYNC110 - in the storage
            await asyncio.sleep(0.02)


async def test_it_is_sealed_while_it_waits(pair: Pair) -> None:
    """With a root that cannot be reached the token lies there for as long as that lasts: auth alone can read it."""
    created = await pair.token()
    token = created.entry.token
    await pair.declare({"token": token, "caPin": created.ca_pin}, proxy=NOBODY)
    await pair.standing("Unreachable")
    assert token.encode() not in await stored(pair)
    means = await means_at(pair)
    assert means is not None
    assert token_in(means, await sealing_key(pair.leaf.backend), cluster="main") == token
    await pair.declare({}, force=True)  # the address is right now; the Secret need not come again
    await pair.standing("Trusted")
    await spent(pair)


async def test_one_that_the_operator_sealed(pair: Pair) -> None:
    """What was sealed with the public half alone is opened, shown to the root, and removed."""
    created = await pair.token()
    await pair.declare({})
    await pair.standing("SecretNotFound")
    public = (await sealing_key(pair.leaf.backend)).public
    means = means_of(f'{{"caPin": "{created.ca_pin}", "token": "{created.entry.token}"}}')
    await write(pair, sealed(means, public, cluster="main"))
    await pair.standing("Trusted")
    await spent(pair)


@pytest.mark.parametrize("address", ["right", "nobody"])
async def test_one_that_an_earlier_version_left_as_it_is(pair: Pair, address: str) -> None:
    """It works once more, and where it has to wait it is sealed at once."""
    created = await pair.token()
    spec: dict[str, Any] = {} if address == "right" else {"proxy": NOBODY}
    await pair.declare({}, **spec)
    await pair.standing("SecretNotFound")
    token = created.entry.token
    await write(pair, means_of(f'{{"caPin": "{created.ca_pin}", "token": "{token}"}}'))
    if address == "right":
        await pair.standing("Trusted")
        await spent(pair)
        return
    await pair.standing("Unreachable")
    async with asyncio.timeout(PATIENCE):
        while token.encode() in await stored(pair):  # noqa: ASYNC110 - in the storage
            await asyncio.sleep(0.02)
    means = await means_at(pair)
    assert means is not None
    assert means.has_token


@pytest.mark.parametrize("wrong", ["another key", "another document"])
async def test_one_that_does_not_open(pair: Pair, wrong: str) -> None:
    """Sealed to a key that is gone, or about another cluster: it is shown to nobody, and the Secret is asked for."""
    created = await pair.token()
    await pair.declare({})
    await pair.standing("SecretNotFound")
    means = means_of(f'{{"caPin": "{created.ca_pin}", "token": "{created.entry.token}"}}')
    if wrong == "another key":
        box = sealed(means, SealingKey.new().public, cluster="main")
    else:
        box = sealed(means, (await sealing_key(pair.leaf.backend)).public, cluster="other")
    await write(pair, box)
    async with asyncio.timeout(PATIENCE):
        while await means_at(pair) is not None:  # noqa: ASYNC110 - in the storage
            await asyncio.sleep(0.02)
    assert "its Secret join was not given; apply it" in (await pair.standing("SecretNotFound")).message
    assert '"event":"trust.begun"' not in pair.root.events()
    await pair.declare({"token": created.entry.token, "caPin": created.ca_pin}, force=True)
    await pair.standing("Trusted")
