"""A leaf and a root that catch up over HTTPS, for each way in which the leaf was given its root; and who lies there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from runtime.api import methods
from runtime.api.rotation_messages import RotateRequest
from runtime.api.trust_messages import TrustedPeer
from runtime.auth.authorities import Authorities
from runtime.core.callers import CallerKind
from runtime.core.resources.authority import AuthorityType
from runtime.core.rotation import Phase
from runtime.core.succession import MAX_CHARACTERS, MAX_STATEMENTS
from runtime.pki.keys import generate_key, parse_public_key
from runtime.pki.succession import standing
from runtime.proxy.trust_routes import MAX_REQUEST
from tests.servers.auth_port import host_of
from tests.servers.trust_pair import Pair, exported, trust_pair
from tests.servers.webproxy import WebCluster

PATH = "/webapi/trust/successions"


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Yield both clusters."""
    async with trust_pair(tmp_path) as pair:
        yield pair


async def rotate(cluster: WebCluster) -> None:
    """Give a cluster other authorities, and have nobody see anything of it but its beginning and its end."""
    for phase in (Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.STANDBY):
        await cluster.admin.call(methods.AUTHORITIES_ROTATE, RotateRequest(phase=phase, manual=True, force=True))
    # Its members, auth among them, are none that follow here: they come anew.
    await cluster.auth.renew(**host_of(cluster.identity(CallerKind.AUTH)))
    await cluster.admin.close()
    cluster.admin = cluster.client(CallerKind.ADMIN)
    await cluster.proxy.stop()
    cluster._following.cancel()
    await asyncio.gather(cluster._following, return_exceptions=True)
    await cluster._start_proxy()
    cluster.base = f"https://127.0.0.1:{cluster.port}"


def own(cluster: WebCluster) -> tuple[set[str], set[str]]:
    """Return the keys of a cluster's host CA and of its user CA."""
    authorities: Authorities = cluster.auth.issuer.authorities
    host, user = ({each.public.line for each in ca.generations} for ca in (authorities.host, authorities.user))
    return host, user


def keys_of(peer: TrustedPeer) -> tuple[set[str], set[str]]:
    """Return by which keys another cluster is believed."""
    return set(peer.host_keys), set(peer.user_keys)


async def catch_up(pair: Pair) -> None:
    """Have the leaf's auth look now, whenever it last did."""
    catching = pair.leaf.auth._trust._catching
    catching._roots.clear()
    await catching.look()


async def believed(pair: Pair, cluster: WebCluster, fits: tuple[set[str], set[str]]) -> None:
    """Wait until the other cluster is believed by these keys."""
    await pair.trusted(cluster, lambda peers: [keys_of(each) for each in peers] == [fits])


async def post(cluster: WebCluster, body: Any) -> tuple[int, dict[str, Any]]:
    """Tell a cluster's proxy something, as anybody may; return status and answer."""
    async with cluster.http() as http, http.post(PATH, json=body) as response:
        return response.status, await response.json()


@pytest.mark.parametrize("way", ["token", "pinned"])
async def test_a_leaf_that_has_missed_it_all(pair: Pair, way: str) -> None:
    """However it was given the root's keys, it is led to those of now; the conditions and fingerprints tell."""
    values = {"ca": exported(pair.root)}
    if way == "token":
        values = {"token": (await pair.token()).entry.token, "caPin": pair.pin()}
    await pair.declare(values)
    await pair.standing("Trusted")
    before = own(pair.root)
    await rotate(pair.root)
    await pair.declare(values, force=True)  # where its proxy is now
    assert before[0].isdisjoint(own(pair.root)[0])
    await catch_up(pair)
    await believed(pair, pair.leaf, own(pair.root))
    told = await pair.standing("Trusted")
    due = {parse_public_key(key).fingerprint for keys in own(pair.root) for key in keys}
    while set(told.fingerprints) != due:  # written a moment later; the test's own deadline ends it
        told = await pair.standing("Trusted")


async def test_a_root_that_has_missed_it_all(pair: Pair) -> None:
    """The leaf tells it, once it is there again; of its user CA the root keeps nothing."""
    created = await pair.token()
    await pair.declare({"token": created.entry.token, "caPin": pair.pin()})
    await pair.standing("Trusted")
    await rotate(pair.leaf)
    await catch_up(pair)
    await believed(pair, pair.root, (own(pair.leaf)[0], set()))
    assert set(pair.root.auth._trust.view.given["cluster-b"].host_keys).isdisjoint(own(pair.leaf)[0])


async def test_a_leaf_that_joins_again_after_its_rotation(pair: Pair) -> None:
    """With another token and the keys that the root knows by now it is the same leaf, and no name is taken."""
    created = await pair.token()
    await pair.declare({"token": created.entry.token, "caPin": pair.pin()})
    await pair.standing("Trusted")
    await rotate(pair.leaf)
    await catch_up(pair)
    await believed(pair, pair.root, (own(pair.leaf)[0], set()))
    created = await pair.token()
    await pair.declare({"token": created.entry.token, "caPin": pair.pin()}, force=True)
    await pair.standing("Trusted")
    await believed(pair, pair.root, (own(pair.leaf)[0], set()))


async def test_what_a_stranger_hears_and_says(pair: Pair) -> None:
    """What authorities say is public. Nothing that a stranger says counts, is audited, or is told of."""
    created = await pair.token()
    await pair.declare({"token": created.entry.token, "caPin": pair.pin()})
    await pair.standing("Trusted")
    assert await post(pair.root, {"cluster": "cluster-b", "statements": []}) == (
        200,
        {"cluster": "main", "statements": []},
    )
    evil = generate_key()
    said = standing("cluster-b", AuthorityType.HOST, keys=[evil.public], signers=[evil], serial=9).text
    for cluster in ("cluster-b", "main", "nobody", "../x", "\x1b[2J"):
        status, answer = await post(pair.root, {"cluster": cluster, "statements": [said, "{}", ""]})
        assert (status, answer["statements"]) == (200, [])
    await believed(pair, pair.root, (own(pair.leaf)[0], set()))


NO_QUESTIONS: tuple[Any, ...] = (
    {},
    [],
    {"cluster": "cluster-b"},
    {"cluster": "x" * 129, "statements": []},
    {"cluster": "cluster-b", "statements": "x"},
    {"cluster": "cluster-b", "statements": [7]},
    {"cluster": "cluster-b", "statements": ["x"] * (MAX_STATEMENTS + 1)},
    {"cluster": "cluster-b", "statements": ["x" * (MAX_CHARACTERS + 1)]},
    {"cluster": "cluster-b", "statements": ["x" * MAX_CHARACTERS] * (MAX_REQUEST // MAX_CHARACTERS + 1)},
)


async def test_what_is_no_question(pair: Pair) -> None:
    """Malformed, too many, or a giant: a clear error each."""
    for body in NO_QUESTIONS:
        status, answer = await post(pair.root, body)
        assert status == 400, str(body)[:80]
        assert answer["error"]["message"]
    assert (await post(pair.root, {"cluster": "cluster-b", "statements": []}))[0] == 200


async def test_somebody_else_at_the_roots_address(pair: Pair) -> None:
    """Whose answers are another cluster's, signed by that one: the leaf believes the root as before."""
    await pair.declare({"ca": exported(pair.root)})
    await pair.standing("Trusted")
    before = own(pair.root)
    # The leaf's own proxy stands in the root's place, and tells of the leaf's own rotation.
    await rotate(pair.leaf)
    await pair.declare(
        {"ca": exported(pair.root)},
        force=True,
        proxy={"webAddr": f"127.0.0.1:{pair.leaf.port}", "tunnelAddr": "127.0.0.1:3024"},
    )
    await pair.standing("Trusted")
    await catch_up(pair)
    await believed(pair, pair.leaf, before)
