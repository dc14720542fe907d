"""The part of auth that the first thread needs: it follows the users in the backend and issues certificates to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta

from runtime.auth.authorities import LocalAuthorities
from runtime.backend.base import Backend, Delete, Event, Put, Snapshot
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied
from runtime.core.keys import RESOURCES, resource
from runtime.core.resources import User, decode
from runtime.pki.certificate import Certificate
from runtime.pki.claims import UserClaims
from runtime.pki.keys import PublicKey
from runtime.pki.signing import random_serial, sign_user

PREFIX = f"{RESOURCES}/User/"
SECONDS = 20.0
"""How long a change may take from kubectl to here."""


class Follower:
    """Knows the users that the backend holds, live."""

    def __init__(self, backend: Backend, authorities: LocalAuthorities, *, clock: Clock) -> None:
        self._backend = backend
        self._authorities = authorities
        self._clock = clock
        self._users: dict[str, User] = {}
        self._changed = asyncio.Condition()

    async def follow(self) -> None:
        """Follow the backend until cancelled."""
        async with aclosing(self._backend.watch(PREFIX)) as events:
            async for event in events:
                async with self._changed:
                    self._take(event)
                    self._changed.notify_all()

    async def until(self, holds: Callable[[dict[str, User]], bool]) -> None:
        """Wait until it knows users of whom that is true. Raises TimeoutError."""
        async with asyncio.timeout(SECONDS), self._changed:
            await self._changed.wait_for(lambda: holds(self._users))

    def issue(self, name: str, key: PublicKey, *, ttl: timedelta) -> Certificate:
        """Return a certificate of the user, for the logins declared and no others. Raises AccessDenied."""
        user = self._users.get(resource("User", name))
        if user is None:
            raise AccessDenied(f"there is no user {name}")
        claims = UserClaims(user=name, cluster=self._authorities.cluster, logins=user.spec.logins, roles=(), ttl=ttl)
        signer = self._authorities.user.signer
        return sign_user(claims, key, signer=signer, now=self._clock.now(), serial=random_serial())

    def _take(self, event: Event) -> None:
        match event:
            case Snapshot():
                self._users = {item.key: decode(User, item.value) for item in event.items}
            case Put():
                self._users[event.item.key] = decode(User, event.item.value)
            case Delete():
                self._users.pop(event.key, None)
