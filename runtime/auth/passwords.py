"""Passwords: argon2id in worker threads, so that guessing is slow and the event loop is not."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type

from runtime.core.errors import InvalidInput, Unavailable

T = TypeVar("T")

MIN_LENGTH = 8
"""Characters; NIST SP 800-63B-4 §3.1.1.2 for a password beside a second factor."""
MAX_LENGTH = 512
"""Characters: room for any passphrase, and a bound on what is hashed."""

WORKERS = 2
"""Hashes at once: each takes a core and MEMORY_KIB."""
MAX_WAITING = 64
"""Hashes that may wait for a worker; at some 30 ms each the last waits a second. More are turned away."""

# OWASP Password Storage Cheat Sheet, argon2id: 19 MiB, two passes, one lane.
MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1


class Passwords:
    """Hashes and verifies passwords. A verification takes the same time with and without a hash to verify against."""

    def __init__(self, *, memory_kib: int = MEMORY_KIB) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=memory_kib, parallelism=LANES, type=Type.ID)
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="password")
        self._waiting = 0
        # What the password of an unknown user is verified against: no password is its own.
        self._nobodys = self._hasher.hash(secrets.token_bytes(16))

    async def hash(self, password: str) -> str:
        """Return the hash to store, in PHC string format. Raises InvalidInput, or Unavailable when too many wait."""
        check_password(password)
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Tell whether the password is the stored hash's; False for no hash. Raises Unavailable as `hash` does."""
        return await self._run(lambda: self._verify(stored, password))

    def close(self) -> None:
        """End the worker threads."""
        self._workers.shutdown(wait=False, cancel_futures=True)

    def _verify(self, stored: str | None, password: str) -> bool:
        try:
            self._hasher.verify(stored or self._nobodys, _normal(password[: MAX_LENGTH + 1]))
        except (VerificationError, InvalidHashError):
            return False
        return bool(stored)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= WORKERS + MAX_WAITING:
            raise Unavailable("too many people are logging in at once", hint="Try again in a few seconds.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, work)
        finally:
            self._waiting -= 1


def check_password(password: str) -> None:
    """Raise InvalidInput, saying what to change, unless it can be a password."""
    if len(password) < MIN_LENGTH:
        raise InvalidInput(
            f"the password has fewer than {MIN_LENGTH} characters", hint="Take a longer one: several words do."
        )
    if len(password) > MAX_LENGTH:
        raise InvalidInput(f"the password has more than {MAX_LENGTH} characters")


def _normal(password: str) -> bytes:
    """Return the same bytes however a keyboard composes the same characters (RFC 8265 §4.2, OpaqueString)."""
    return unicodedata.normalize("NFC", password).encode(errors="surrogatepass")
