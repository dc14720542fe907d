"""Lock-out: after five wrong answers in a row a user, or a source address, is refused for half an hour.

An attempt as a user is counted before it is judged, so that a hundred guesses at once are not a hundred guesses before
the first is counted. The right answer forgives; while locked it is refused too. A source address may be a whole office:
only its failures count, not what is under way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from pydantic import BaseModel, ConfigDict

from runtime.backend.base import Backend
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, AlreadyExists, CompareFailed, NotFound, Unavailable
from runtime.core.keys import SECRETS

MAX_FAILURES = 5
MAX_JOIN_FAILURES = 100
"""Refused joins of one address. Tokens that are made here cannot be guessed, a static one of a few letters can; and one
machine that keeps starting with an old token must not shut out all that share its address."""
LOCKED_FOR = timedelta(minutes=30)
_PREFIX = f"{SECRETS}/attempts/"
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


class _Count(BaseModel):
    """Failures in a row, attempts that are under way, and when the last of either was."""

    model_config = ConfigDict(frozen=True)

    failed: int = 0
    pending: int = 0
    last: datetime


class Attempts:
    """Counts the failures of a subject: a user (`user/joe`) or a source (`source/192.0.2.7`)."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock

    async def check(self, subject: str, *, most: int = MAX_FAILURES) -> None:
        """Raise LockedOut if the subject has failed `most` times."""
        count = await self._count(subject)
        if count.failed >= most:
            raise LockedOut(count.last + LOCKED_FOR)

    async def begin(self, subject: str) -> None:
        """Count an attempt that is about to be judged; `fail`, `forgive` or `withdraw` must follow.

        Raises LockedOut, and Unavailable while as many are under way as could lock.
        """

        def begun(count: _Count) -> _Count:
            if count.failed >= MAX_FAILURES:
                raise LockedOut(count.last + LOCKED_FOR)
            if count.failed + count.pending >= MAX_FAILURES:
                raise Unavailable("too many attempts are under way at once", hint="Try again in a few seconds.")
            return count.model_copy(update={"pending": count.pending + 1})

        await self._change(subject, begun)

    async def fail(self, subject: str) -> bool:
        """Count a failure, the end of an attempt if one was begun; return whether it is the one that locks."""
        changed = await self._change(
            subject,
            lambda count: count.model_copy(
                update={"failed": count.failed + 1, "pending": max(0, count.pending - 1), "last": self._clock.now()}
            ),
        )
        return changed.failed == MAX_FAILURES

    async def withdraw(self, subject: str) -> None:
        """End an attempt that nobody judged after all: it was neither right nor wrong."""
        await self._change(subject, lambda count: count.model_copy(update={"pending": max(0, count.pending - 1)}))

    async def forgive(self, subject: str) -> None:
        """Forget the subject's failures: the attempt was right, or an administrator says so."""
        with suppress(NotFound):
            await self._backend.delete(_key(subject))

    async def locked(self, subjects: Iterable[str]) -> frozenset[str]:
        """Return those of the subjects whose next attempt would be refused; one read, however many they are."""
        items = (await self._backend.range(_PREFIX)).items
        locked = {item.key for item in items if _Count.model_validate_json(item.value).failed >= MAX_FAILURES}
        return frozenset(subject for subject in subjects if _key(subject) in locked)

    async def _count(self, subject: str) -> _Count:
        try:
            return _Count.model_validate_json((await self._backend.get(_key(subject))).value)
        except NotFound:
            return _Count(last=self._clock.now())

    async def _change(self, subject: str, change: Callable[[_Count], _Count]) -> _Count:
        key = _key(subject)
        for _ in range(_TRIES):
            revision, count = 0, _Count(last=self._clock.now())
            with suppress(NotFound):
                item = await self._backend.get(key)
                revision, count = item.revision, _Count.model_validate_json(item.value)
            changed = change(count)
            value, expires = changed.model_dump_json().encode(), changed.last + LOCKED_FOR
            with suppress(CompareFailed, AlreadyExists):
                if revision:
                    await self._backend.compare_and_swap(key, value, revision=revision, expires=expires)
                else:
                    await self._backend.create(key, value, expires=expires)
                return changed
        raise Unavailable("too many attempts at once", hint="Try again in a few seconds.")


def source(address: str) -> str:
    """Return what a TCP peer's address counts as: IPv6 by /64, which one machine has to itself (RFC 6177 §2)."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return f"source/{address}"
    if ip.version == 6 and ip.ipv4_mapped is None:
        return f"source/{ip_network((ip, 64), strict=False)}"
    return f"source/{(ip.ipv4_mapped if ip.version == 6 else None) or ip}"


def _key(subject: str) -> str:
    """Return the key of a subject. Hashed: it is what somebody typed, of any length and alphabet."""
    return f"{_PREFIX}{hashlib.sha256(subject.encode(errors='surrogatepass')).hexdigest()}"
