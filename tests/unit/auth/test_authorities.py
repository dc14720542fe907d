"""The two authorities are made once, agreed on by all, never overwritten and never shown."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from datetime import UTC, datetime

import pytest

from runtime.auth.authorities import ensure_authorities, read_authorities
from runtime.auth.authority_record import decode_authority, encode_authority, new_authority
from runtime.backend.base import Item
from runtime.backend.memory import MemoryBackend
from runtime.core import keys
from runtime.core.clock import ManualClock
from runtime.core.errors import CorruptState, InvalidInput, InvalidSettings, NotFound, TeleportError, Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.pki.keys import KeyAlgorithm, generate_key

CLOCK = ManualClock(datetime(2027, 3, 4, 5, 6, 7, tzinfo=UTC))
USER_KEY = keys.local_authority("user")
HOST_KEY = keys.local_authority("host")


@pytest.fixture
def backend() -> MemoryBackend:
    """Return an empty backend."""
    return MemoryBackend(clock=CLOCK)


async def test_created_once(backend: MemoryBackend) -> None:
    """The first start makes both, Ed25519; the second finds the very same, without a write."""
    first = await ensure_authorities(backend, "main", clock=CLOCK)
    before = await backend.range("authority/")
    second = await ensure_authorities(backend, "main", clock=CLOCK, algorithm=KeyAlgorithm.ECDSA_P256)
    assert await backend.range("authority/") == before
    assert (first.user.public, first.host.public) == (second.user.public, second.host.public)
    assert first.user.signer.key.public != first.host.signer.key.public
    assert {first.user.signer.key.public.type, first.host.signer.key.public.type} == {"ssh-ed25519"}
    assert first.cluster == (await read_authorities(backend)).cluster == "main"


async def test_created_by_setting(backend: MemoryBackend) -> None:
    """The algorithm of new authorities is the one that was set."""
    made = await ensure_authorities(backend, "main", clock=CLOCK, algorithm=KeyAlgorithm.ECDSA_P384)
    assert made.user.signer.key.public.type == made.host.signer.key.public.type == "ecdsa-sha2-nistp384"


class MeetingBackend(MemoryBackend):
    """A backend whose first readers all find nothing before any of them writes: the race at its worst."""

    def __init__(self, parties: int) -> None:
        super().__init__(clock=CLOCK)
        self._parties = {USER_KEY: parties, HOST_KEY: parties}
        self._met = {USER_KEY: asyncio.Event(), HOST_KEY: asyncio.Event()}

    async def create(self, key: str, value: bytes, *, expires: datetime | None = None) -> Item:
        """Wait for all parties, then create."""
        self._parties[key] -= 1
        if not self._parties[key]:
            self._met[key].set()
        await asyncio.wait_for(self._met[key].wait(), timeout=30)
        return await super().create(key, value, expires=expires)


async def test_those_that_start_at_once_agree() -> None:
    """Ten auth services that all found nothing end with the same two authorities."""
    backend = MeetingBackend(10)
    made = await asyncio.gather(*(ensure_authorities(backend, "main", clock=CLOCK) for _ in range(10)))
    assert len({each.user.public for each in made}) == 1
    assert len({each.host.public for each in made}) == 1
    assert made[0].user.public == (await read_authorities(backend)).user.public


async def test_two_names_at_once(backend: MemoryBackend) -> None:
    """Of two clusters that start on one backend one has it whole, and the other has written nothing."""
    results = await asyncio.gather(
        *(ensure_authorities(backend, name, clock=CLOCK) for name in ("main", "leaf")), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["InvalidSettings", "LocalAuthorities"]
    stored = await read_authorities(backend)
    assert stored.user.cluster == stored.host.cluster


async def test_renamed_cluster(backend: MemoryBackend) -> None:
    """Another cluster name than the stored one is refused with both names, and nothing is changed."""
    await ensure_authorities(backend, "main", clock=CLOCK)
    before = await backend.range("authority/")
    with pytest.raises(InvalidSettings, match="holds the user CA of cluster main, but cluster_name is leaf") as caught:
        await ensure_authorities(backend, "leaf", clock=CLOCK)
    assert "cluster_name: main" in caught.value.hint
    assert await backend.range("authority/") == before


class SilentBackend(MemoryBackend):
    """A backend that does not answer reads."""

    async def get(self, key: str) -> Item:
        """Raise Unavailable."""
        raise Unavailable("the backend did not answer")


async def test_a_read_error_makes_no_authority() -> None:
    """When it is not known whether there is an authority, none is made."""
    backend = SilentBackend(clock=CLOCK)
    with pytest.raises(Unavailable):
        await ensure_authorities(backend, "main", clock=CLOCK)
    assert (await backend.range("authority/")).items == ()


async def test_read_without_any(backend: MemoryBackend) -> None:
    """Reading makes nothing."""
    with pytest.raises(NotFound):
        await read_authorities(backend)


async def test_half_made(backend: MemoryBackend) -> None:
    """An auth service that died between the two is made good by the next one."""
    user = new_authority(AuthorityType.USER, "main", generate_key(), created=CLOCK.now())
    await backend.create(USER_KEY, encode_authority(user))
    made = await ensure_authorities(backend, "main", clock=CLOCK)
    assert made.user.public == user.public


GOOD = encode_authority(new_authority(AuthorityType.USER, "main", generate_key(), created=CLOCK.now()))
SECRET = json.loads(GOOD)["generations"][0]["private_key"].splitlines()[3]


def edited(**changes: object) -> bytes:
    """Return the good record with other values in it; names of a generation's fields reach into the first one."""
    record = json.loads(GOOD)
    for name, value in changes.items():
        (record if name in record else record["generations"][0])[name] = value
    return json.dumps(record).encode()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "malformed at the document"),
        (GOOD[:-40], "malformed at the document"),
        (b"{}", "malformed at .*cluster"),
        (edited(version=2), "written by another version"),
        (edited(type="host"), "it is a host CA"),
        (edited(cluster=""), "cluster"),
        (edited(active=2), "generation 2, the active one, is missing"),
        (edited(private_key=None), "generation 1, the active one, .* no private key"),
        (edited(private_key=f"-----BEGIN {SECRET}"), "private key cannot be read"),
        (edited(public_key=generate_key().public.line), "do not belong together"),
        (edited(public_key="ssh-dss AAAAB3NzaC1kc3M="), "DSA"),
        (edited(number=0), "malformed at generations.0.number"),
        (edited(created="2027-01-01T00:00:00"), "malformed at generations.0.created"),
        (edited(generations=json.loads(GOOD)["generations"] * 2), "same number"),
        (edited(generations=[]), "is missing"),
        (GOOD.replace(b'"number"', b'"nummer"'), "malformed"),
    ],
)
async def test_corrupt_record(backend: MemoryBackend, value: bytes, reason: str) -> None:
    """A record that is not whole is refused with what to do, never overwritten, and no word of its key is shown."""
    await backend.put(USER_KEY, value)
    for attempt in (ensure_authorities(backend, "main", clock=CLOCK), read_authorities(backend)):
        with pytest.raises(CorruptState, match=reason) as caught:
            await attempt
        assert USER_KEY in str(caught.value)
        assert "Restore" in caught.value.hint
        assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert (await backend.get(USER_KEY)).value == value


async def test_two_clusters_in_one_backend(backend: MemoryBackend) -> None:
    """Authorities of two clusters, or with one key, under one roof are refused."""
    key = generate_key()
    user = new_authority(AuthorityType.USER, "main", key, created=CLOCK.now())
    await backend.put(USER_KEY, encode_authority(user))
    for host, reason in (
        (new_authority(AuthorityType.HOST, "leaf", generate_key(), created=CLOCK.now()), "two clusters"),
        (new_authority(AuthorityType.HOST, "main", key, created=CLOCK.now()), "the same key"),
    ):
        await backend.put(HOST_KEY, encode_authority(host))
        with pytest.raises(CorruptState, match=reason):
            await read_authorities(backend)


def test_generations_survive() -> None:
    """A record in the middle of a rotation (an old key that is only trusted, a new one that signs) is read as it is."""
    record, old = json.loads(GOOD), generate_key().public
    first = record["generations"][0]
    record["generations"] = [first | {"number": 3, "public_key": old.line, "private_key": None}, first | {"number": 4}]
    record["active"] = 4
    authority = decode_authority(json.dumps(record).encode(), AuthorityType.USER)
    assert authority.signer.key.public.line == first["public_key"]
    assert [each.public_key for each in authority.public.generations] == [old.line, first["public_key"]]
    assert decode_authority(encode_authority(authority), AuthorityType.USER).public == authority.public


async def test_no_key_is_shown(backend: MemoryBackend, caplog: pytest.LogCaptureFixture) -> None:
    """Neither log, repr, nor the public form of an authority holds a private key; the log has its fingerprint."""
    with caplog.at_level(logging.DEBUG):
        made = await ensure_authorities(backend, "main", clock=CLOCK)
    secret = made.user.signer.key.to_openssh().splitlines()[3]
    assert made.user.signer.key.public.fingerprint in caplog.text
    for shown in (caplog.text, repr(made), str(made), made.user.public.model_dump_json()):
        assert secret not in shown
        assert "PRIVATE" not in shown
    with pytest.raises(TypeError):
        json.dumps(made.user)


def test_errors_are_of_the_tree() -> None:
    """A corrupt record is an error of ours, and not one that its reader could have written better."""
    assert issubclass(CorruptState, TeleportError)
    assert not issubclass(CorruptState, InvalidInput)
