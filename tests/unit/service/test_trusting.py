"""Trusted clusters as a member knows them: followed from auth, and kept for when it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from runtime.api.client import AuthClient
from runtime.api.trust_messages import TrustedClusters, TrustedPeer
from runtime.core.errors import NotFound, Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.pki.keys import generate_key, parse_public_key
from runtime.service.identity import DataDir
from runtime.service.trusting import Trusting, trust_in

FILE = "proxy.trusted.json"
KEYS = [generate_key().public.line for _ in range(4)]


def peer(cluster: str, key: str = KEYS[0], **changes: object) -> TrustedPeer:
    """Return a cluster with that key as its host authority."""
    return TrustedPeer.model_validate({"cluster": cluster, "host_keys": (key,), **changes})


class Auth:
    """Tells what it is given, one piece after the other; an error ends the telling."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[TrustedClusters | Exception] = asyncio.Queue()
        self.asked = 0

    def tell(self, *peers: TrustedPeer) -> None:
        """Tell of these."""
        self.told.put_nowait(TrustedClusters(clusters=peers))

    async def pieces(self, *_: object) -> AsyncIterator[TrustedClusters]:
        """Yield what is told."""
        self.asked += 1
        while True:
            each = await self.told.get()
            if isinstance(each, Exception):
                raise each
            yield each


class Follower:
    """A member that follows."""

    def __init__(self, folder: Path) -> None:
        self.auth = Auth()
        self.changes = 0
        self.changed = asyncio.Event()
        self.trusting = Trusting(
            cast("AuthClient", self.auth), DataDir(folder), FILE, own="leaf", changed=self._changed
        )

    def _changed(self) -> None:
        self.changes += 1
        self.changed.set()

    async def hears(self, *peers: TrustedPeer) -> None:
        """Wait until it has heard of a change."""
        self.changed.clear()
        self.auth.tell(*peers)
        async with asyncio.timeout(30):
            await self.changed.wait()


@pytest.fixture
async def follower(tmp_path: Path) -> AsyncIterator[Follower]:
    """Yield one that is running."""
    made = Follower(tmp_path)
    task = asyncio.create_task(made.trusting.run())
    yield made
    task.cancel()
    await asyncio.wait([task])


async def test_each_telling_replaces_the_last(follower: Follower) -> None:
    """Who is told of no more is trusted no more."""
    await follower.hears(peer("main"), peer("other", KEYS[1]))
    assert set(follower.trusting.peers) == {"main", "other"}
    await follower.hears(peer("main", tunnel_addr="m:3024"))
    assert set(follower.trusting.peers) == {"main"}
    found = follower.trusting.peer("main")
    assert found is not None
    assert found.is_root
    assert follower.trusting.peer("other") is None


async def test_disabled_ones_are_not_trusted(follower: Follower) -> None:
    """Their keys are nobody's while they are disabled."""
    await follower.hears(peer("main"))
    await follower.hears(peer("main", enabled=False))
    assert not follower.trusting.peers


async def test_nobody_has_our_own_name(follower: Follower, caplog: pytest.LogCaptureFixture) -> None:
    """Another cluster of our name would be taken for us; the log says that it is left out."""
    await follower.hears(peer("leaf"), peer("main", KEYS[1]))
    assert set(follower.trusting.peers) == {"main"}
    assert "a cluster of our own name, leaf, is never trusted" in caplog.text


async def test_the_same_again_is_no_change(follower: Follower) -> None:
    """Whoever listens is told of changes only."""
    await follower.hears(peer("main"))
    follower.auth.tell(peer("main"))
    await follower.hears(peer("main"), peer("other", KEYS[1]))
    assert follower.changes == 2


@pytest.mark.parametrize("error", [Unavailable("auth is away"), NotFound("there is no method 'trusted.watch'")])
async def test_it_goes_on_when_auth_is_away(
    follower: Follower, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it knew holds, and it asks again."""
    monkeypatch.setattr("runtime.service.trusting.FIRST_PAUSE_SECONDS", 0.01)
    await follower.hears(peer("main"))
    follower.auth.told.put_nowait(error)
    await follower.hears(peer("main"), peer("other", KEYS[1]))
    assert follower.auth.asked == 2
    assert set(follower.trusting.peers) == {"main", "other"}


async def test_what_was_kept_holds_at_a_start(follower: Follower, tmp_path: Path) -> None:
    """A member that starts while auth is away trusts whom it trusted."""
    await follower.hears(peer("main"))
    async with asyncio.timeout(30):
        while not (tmp_path / FILE).exists():  # noqa: ASYNC110 - written by a thread, and replaced as a whole
            await asyncio.sleep(0.01)
    assert Follower(tmp_path).trusting.peers == follower.trusting.peers


@pytest.mark.parametrize("content", [b"", b"{", b'{"clusters": 7}', b"\xff"])
def test_a_file_that_cannot_be_read_is_as_good_as_none(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and nobody is trusted until auth tells."""
    (tmp_path / FILE).write_bytes(content)
    assert not Follower(tmp_path).trusting.peers
    assert f"{FILE} cannot be used" in caplog.text


def test_one_key_for_two_clusters_trusts_neither() -> None:
    """Whoever got a key in under a second name can speak for neither; others are not touched by it."""
    peers = {name: peer(name, key) for name, key in (("a", KEYS[0]), ("b", KEYS[0]), ("c", KEYS[1]))}
    trust = trust_in(peers, AuthorityType.HOST)
    assert trust.find(parse_public_key(KEYS[0]).blob) is None
    found = trust.find(parse_public_key(KEYS[1]).blob)
    assert found is not None
    assert found.cluster == "c"


def test_a_key_that_is_none_does_not_shut_the_others_out() -> None:
    """The log says whose it is."""
    trust = trust_in({"a": peer("a", "ssh-ed25519 AAAA"), "c": peer("c", KEYS[1])}, AuthorityType.HOST)
    assert trust.find(parse_public_key(KEYS[1]).blob) is not None


def test_user_and_host_authorities_are_kept_apart() -> None:
    """What may sign people vouches for no proxy, and the other way round."""
    both = {"main": TrustedPeer(cluster="main", host_keys=(KEYS[0],), user_keys=(KEYS[1],))}
    hosts, users = trust_in(both, AuthorityType.HOST), trust_in(both, AuthorityType.USER)
    assert (hosts.find(parse_public_key(KEYS[0]).blob) is None, hosts.find(parse_public_key(KEYS[1]).blob) is None) == (
        False,
        True,
    )
    assert (users.find(parse_public_key(KEYS[0]).blob) is None, users.find(parse_public_key(KEYS[1]).blob) is None) == (
        True,
        False,
    )
