"""Lock-out: after five wrong answers in a row a user, or a source address, is refused for half an hour.

An attempt is counted before it is judged and forgiven when it was right, so that a hundred guesses at once are not
a hundred guesses before the first is counted. The right answer is refused too while locked.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from runtime.backend.base import Backend
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, AlreadyExists, CompareFailed, NotFound, Unavailable
from runtime.core.keys import SECRETS

MAX_FAILURES = 5
LOCKED_FOR = timedelta(minutes=30)
_TRIES = 50
"""Compare-and-swaps that may be lost in a row before the store counts as too busy."""


class LockedOut(AccessDenied):
    """Too many wrong answers; `until` says when the next is looked at."""

    def __init__(self, until: datetime) -> None:
        super().__init__(
            f"locked after {MAX_FAILURES} failed attempts until {until:%H:%M} UTC",
            hint="Wait, or ask an administrator to reset the account: tctl users reset NAME.",
        )
        self.until = until


class _Failures(BaseModel):
    """How many attempts in a row were not right, and when the last one was made."""

    model_config = ConfigDict(frozen=True)

    count: int
    last: datetime


class Attempts:
    """Counts failures of a subject: a user (`user/joe`) or a source (`source/192.0.2.7`)."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock

    async def begin(self, subject: str) -> bool:
        """Count an attempt. Returns whether it is the one that locks unless forgiven. Raises LockedOut."""
        key = _key(subject)
        for _ in range(_TRIES):
            now = self._clock.now()
            revision, failures = 0, _Failures(count=0, last=now)
            try:
                item = await self._backend.get(key)
                revision, failures = item.revision, _Failures.model_validate_json(item.value)
            except NotFound:
                pass
            if failures.count >= MAX_FAILURES:
                raise LockedOut(failures.last + LOCKED_FOR)
            value = _Failures(count=failures.count + 1, last=now).model_dump_json().encode()
            try:
                if revision:
                    await self._backend.compare_and_swap(key, value, revision=revision, expires=now + LOCKED_FOR)
                else:
                    await self._backend.create(key, value, expires=now + LOCKED_FOR)
            except (CompareFailed, AlreadyExists):
                continue
            return failures.count + 1 >= MAX_FAILURES
        raise Unavailable("too many attempts at once", hint="Try again in a few seconds.")

    async def forgive(self, subject: str) -> None:
        """Forget the subject's failures: the attempt was right, or an administrator says so."""
        with suppress(NotFound):
            await self._backend.delete(_key(subject))

    async def locked(self, subject: str) -> bool:
        """Tell whether the next attempt would be refused."""
        try:
            item = await self._backend.get(_key(subject))
        except NotFound:
            return False
        return _Failures.model_validate_json(item.value).count >= MAX_FAILURES


def _key(subject: str) -> str:
    """Return the key of a subject. Hashed: it is what somebody typed, of any length and alphabet."""
    return f"{SECRETS}/attempts/{hashlib.sha256(subject.encode(errors='surrogatepass')).hexdigest()}"
