"""Sign-up invites: a token of 128 random bits that lets a person choose a password, once, within an hour."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from runtime.auth.otp import OneTimePassword, new_seed
from runtime.backend.base import Backend
from runtime.core.clock import Clock
from runtime.core.defaults import MAX_CERTIFICATE_TTL, MIN_CERTIFICATE_TTL
from runtime.core.durations import format_duration
from runtime.core.errors import AccessDenied, InvalidInput, NotFound
from runtime.core.keys import SECRETS
from runtime.core.resources.token import digest_of

_PREFIX = f"{SECRETS}/invite/"


def new_token() -> str:
    """Return a new random token: 128 bits as 32 hexadecimal digits, as the manual's tokens look."""
    return secrets.token_hex(16)


def check_invite_ttl(ttl: timedelta) -> None:
    """Refuse a lifetime that a User document could not give its invite either."""
    if not MIN_CERTIFICATE_TTL <= ttl <= MAX_CERTIFICATE_TTL:
        raise InvalidInput(
            f"an invite cannot hold for {format_duration(max(timedelta(), ttl))}",
            hint=f"Choose from {format_duration(MIN_CERTIFICATE_TTL)} to {format_duration(MAX_CERTIFICATE_TTL)}.",
        )


def token_id(token: str) -> str:
    """Return the name under which a token is stored: its hash, so that no key path shows the token."""
    return digest_of(token)


class Invite(BaseModel):
    """An open invite as it is stored. The seed is made with it: a page that is loaded twice shows the same QR code."""

    model_config = ConfigDict(frozen=True)

    token: str
    user: str
    otp: OneTimePassword
    expires: datetime

    @property
    def id(self) -> str:
        """The name under which it is stored."""
        return token_id(self.token)

    def __repr__(self) -> str:
        """Return it without the token."""
        return f"Invite(user={self.user!r}, expires={self.expires:%Y-%m-%dT%H:%M:%SZ})"

    __str__ = __repr__


def no_such_invite() -> AccessDenied:
    """Return the error of a link that is not good, in the same words whatever it was."""
    return AccessDenied(
        "this sign-up link has expired, was used, or never was",
        hint="Ask an administrator for a new one: tctl users reset NAME.",
    )


class Invites:
    """Mints, finds and revokes invites. A user has at most one: a new one replaces the old."""

    def __init__(self, backend: Backend, clock: Clock, *, token: Callable[[], str] = new_token) -> None:
        self._backend = backend
        self._clock = clock
        self._new_token = token

    async def mint(self, user: str, ttl: timedelta, otp: Literal["totp", "hotp"] = "totp") -> Invite:
        """Return a new invite for the user; older ones of the same user no longer work. Raises InvalidInput."""
        check_invite_ttl(ttl)
        await self.revoke_of(user)
        expires = self._clock.now() + ttl
        generator = OneTimePassword(type=otp, seed=new_seed())
        invite = Invite(token=self._new_token(), user=user, otp=generator, expires=expires)
        await self._backend.create(_PREFIX + invite.id, invite.model_dump_json().encode(), expires=expires)
        return invite

    async def find(self, token: str) -> Invite:
        """Return the open invite of this token. Raises AccessDenied."""
        try:
            item = await self._backend.get(_PREFIX + token_id(token))
        except NotFound:
            raise no_such_invite() from None
        return Invite.model_validate_json(item.value)

    async def open(self) -> list[Invite]:
        """Return all open invites, by expiry."""
        items = (await self._backend.range(_PREFIX)).items
        return sorted((Invite.model_validate_json(item.value) for item in items), key=lambda invite: invite.expires)

    async def revoke(self, token: str) -> Invite:
        """Delete the invite of this token and return it. Raises NotFound."""
        key = _PREFIX + token_id(token)
        item = await self._backend.get(key)
        await self._backend.delete(key, revision=item.revision)
        return Invite.model_validate_json(item.value)

    async def revoke_of(self, user: str) -> None:
        """Delete all invites of a user."""
        for invite in await self.open():
            if invite.user == user:
                with suppress(NotFound):
                    await self._backend.delete(_PREFIX + invite.id)
