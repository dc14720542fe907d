"""Passwords: what is stored, what is verified, and that neither time nor the event loop tells or suffers."""

from __future__ import annotations

import asyncio
import threading
import unicodedata
from collections.abc import Iterator

import argon2
import pytest

from runtime.auth.passwords import (
    MAX_LENGTH,
    MAX_WAITING,
    MEMORY_KIB,
    MIN_LENGTH,
    PASSES,
    WORKERS,
    Passwords,
    check_password,
)
from runtime.core.errors import InvalidInput, Unavailable

GOOD = "correct horse battery"


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    """Yield passwords that are quick to hash."""
    passwords = Passwords(memory_kib=64)
    yield passwords
    passwords.close()


async def test_a_password_and_its_hash(passwords: Passwords) -> None:
    """The right password is right, others are not, and two hashes of one password differ."""
    stored = await passwords.hash(GOOD)
    assert await passwords.verify(stored, GOOD)
    for wrong in ("", GOOD[:-1], GOOD + " ", GOOD.upper(), GOOD + "\x00"):
        assert not await passwords.verify(stored, wrong)
    assert stored != await passwords.hash(GOOD)


def test_the_parameters_are_owasps() -> None:
    """Argon2id with 19 MiB and two passes, whatever a later argon2-cffi takes for its defaults."""
    passwords = Passwords()
    parameters = argon2.extract_parameters(asyncio.run(passwords.hash(GOOD)))
    passwords.close()
    assert (parameters.type, parameters.memory_cost, parameters.time_cost) == (
        argon2.Type.ID,
        MEMORY_KIB,
        PASSES,
    )
    assert MEMORY_KIB >= 19 * 1024


async def test_composed_and_decomposed_are_one_password(passwords: Passwords) -> None:
    """What a phone types as one character and a laptop as two is the same password (RFC 8265)."""
    composed = unicodedata.normalize("NFC", "pässwörd für alle")
    decomposed = unicodedata.normalize("NFD", composed)
    assert composed != decomposed
    assert await passwords.verify(await passwords.hash(composed), decomposed)
    assert await passwords.verify(await passwords.hash(decomposed), composed)


@pytest.mark.parametrize("password", ["", "x" * (MIN_LENGTH - 1), "x" * (MAX_LENGTH + 1)])
async def test_a_password_that_cannot_be(passwords: Passwords, password: str) -> None:
    """Too short and too long are refused before anything is hashed, without the password in the error."""
    with pytest.raises(InvalidInput, match="characters") as caught:
        await passwords.hash(password)
    assert not password or password not in str(caught.value)


@pytest.mark.parametrize("length", [MIN_LENGTH, MAX_LENGTH])
async def test_the_limits_belong_to_the_range(passwords: Passwords, length: int) -> None:
    """A password of the least and of the greatest length works; more behind the greatest is another password."""
    check_password("x" * length)
    stored = await passwords.hash("x" * length)
    assert await passwords.verify(stored, "x" * length)
    assert not await passwords.verify(stored, "x" * (length + 1))
    assert not await passwords.verify(stored, "x" * 1_000_000)


@pytest.mark.parametrize("stored", [None, "", "not a hash", "$argon2id$v=19$m=64,t=2,p=1$AAAA$AAAA"])
@pytest.mark.parametrize("password", ["", GOOD, "\udcff"])
async def test_no_hash_is_nobodys(passwords: Passwords, stored: str | None, password: str) -> None:
    """Without a hash, or with one that cannot be read, no password is right: not even the empty one."""
    assert not await passwords.verify(stored, password)


class Spy:
    """Notes each verification of a hash, and the thread it ran in."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.hashes: list[str] = []
        self.threads: set[str] = set()
        verify = argon2.PasswordHasher.verify

        def noted(hasher: argon2.PasswordHasher, stored: str, password: str | bytes) -> bool:
            self.hashes.append(stored)
            self.threads.add(threading.current_thread().name)
            return verify(hasher, stored, password)

        patch.setattr(argon2.PasswordHasher, "verify", noted)


async def test_unknown_and_known_take_the_same_path(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without a stored hash there is one verification, of equal cost, in a worker thread."""
    stored = await passwords.hash(GOOD)
    spy = Spy(monkeypatch)
    for known in (stored, None):
        await passwords.verify(known, "wrong")
    assert len(spy.hashes) == 2
    first, second = map(argon2.extract_parameters, spy.hashes)
    assert first == second
    assert all(name.startswith("password") for name in spy.threads)


async def test_a_crowd_is_turned_away(passwords: Passwords) -> None:
    """Two are hashed at once, some wait, and the rest is told to come again; afterwards all is as before."""
    stored = await passwords.hash(GOOD)
    results = await asyncio.gather(
        *(passwords.verify(stored, GOOD) for _ in range(WORKERS + MAX_WAITING + 5)), return_exceptions=True
    )
    assert results.count(True) == WORKERS + MAX_WAITING
    assert sum(isinstance(result, Unavailable) for result in results) == 5
    assert await passwords.verify(stored, GOOD)


async def test_who_gives_up_makes_room(passwords: Passwords) -> None:
    """A login whose connection is gone does not count as waiting for ever."""
    stored = await passwords.hash(GOOD)
    for _ in range(2):
        waiting = [asyncio.create_task(passwords.verify(stored, GOOD)) for _ in range(WORKERS + MAX_WAITING)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    assert await passwords.verify(stored, GOOD)
