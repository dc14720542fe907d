"""Sign-up invites: a token of 128 random bits that lets a person choose a password, once, within an hour.

secrets/invite/DIGEST    an invite that auth minted, with its token; of a declared one only the seed that its page
shows, made at the first look: what else there is to it stands in the user's record
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from runtime.auth.declared_invites import DeclaredInvites, invite_of
from runtime.auth.otp import OneTimePassword, new_seed
from runtime.auth.persons import person_of
from runtime.backend.base import Backend
from runtime.core.clock import Clock
from runtime.core.defaults import MAX_CERTIFICATE_TTL, MIN_CERTIFICATE_TTL
from runtime.core.durations import format_duration
from runtime.core.errors import AccessDenied, AlreadyExists, InvalidInput, NotFound
from runtime.core.keys import SECRETS
from runtime.core.resources import User
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

    token: str = ""
    """Empty for a declared one, whose token is in a Secret and nowhere else."""
    digest: str = ""
    """Of the token, for a declared one."""
    user: str
    person: str = ""
    """Who that user is (`runtime.auth.persons`)."""
    otp: OneTimePassword
    expires: datetime

    @property
    def id(self) -> str:
        """The name under which it is stored."""
        return self.digest or token_id(self.token)

    def __repr__(self) -> str:
        """Return it without the token."""
        return f"Invite(user={self.user!r}, expires={self.expires:%Y-%m-%dT%H:%M:%SZ})"

    __str__ = __repr__


def no_such_invite() -> AccessDenied:
    """Return the error of a link that is not good, in the same words whatever it was."""
    return AccessDenied(
        "this sign-up link has expired, was used, or never was",
        hint="Ask an administrator for a new one: tctl users reset NAME, or in Kubernetes a new value of the annotation"
        " teleport.internal/renew-invite.",
    )


class Invites:
    """Mints, finds and revokes invites. A user has at most one: a new one replaces the old."""

    def __init__(self, backend: Backend, clock: Clock, *, token: Callable[[], str] = new_token) -> None:
        self._backend = backend
        self._clock = clock
        self._new_token = token
        self.declared = DeclaredInvites(backend, clock)

    async def mint(self, user: str, ttl: timedelta, otp: Literal["totp", "hotp"] = "totp") -> Invite:
        """Return a new invite for the user; older ones of the same user no longer work. Raises InvalidInput."""
        check_invite_ttl(ttl)
        await self.revoke_of(user)
        expires = self._clock.now() + ttl
        generator = OneTimePassword(type=otp, seed=new_seed())
        person = await person_of(self._backend, user) or ""
        invite = Invite(token=self._new_token(), user=user, person=person, otp=generator, expires=expires)
        await self._backend.create(_PREFIX + invite.id, invite.model_dump_json().encode(), expires=expires)
        return invite

    async def find(self, token: str) -> Invite:
        """Return the open invite of this token. Raises AccessDenied."""
        digest = token_id(token)
        stored = await self._stored(digest)
        if stored is not None and stored.token:
            return stored
        # Of a declared one the record decides, each time.
        user = await (self.declared.of(stored.user, digest) if stored else self.declared.find(digest))
        if user is None:
            raise no_such_invite()
        return stored or await self._first_look(user)

    async def open(self) -> list[Invite]:
        """Return all invites that auth has minted, and the declared ones whose page was looked at, by expiry."""
        items = (await self._backend.range(_PREFIX)).items
        return sorted((Invite.model_validate_json(item.value) for item in items), key=lambda invite: invite.expires)

    async def use_up(self, invite: Invite) -> None:
        """End an invite with which its user has signed up. Raises NotFound, CompareFailed if it is good no more."""
        key = _PREFIX + invite.id
        item = await self._backend.get(key)
        if invite.token:
            await self._backend.delete(key, revision=item.revision)
            return
        await self.declared.use_up(invite.user, invite.id)
        with suppress(NotFound):
            await self._backend.delete(key)

    async def revoke(self, token: str) -> str:
        """End the invite of this token and return its user's name. Raises NotFound."""
        digest = token_id(token)
        stored = await self._stored(digest)
        if stored is not None and stored.token:
            await self.drop(stored)
            return stored.user
        if user := await self.declared.find(digest):
            await self.revoke_of(user.name)
            return user.name
        raise NotFound("there is no such invite")

    async def drop(self, invite: Invite) -> None:
        """Delete what is stored of an invite. Raises NotFound."""
        await self._backend.delete(_PREFIX + invite.id)

    async def revoke_of(self, user: str) -> None:
        """End all invites of a user."""
        await self.declared.withdraw(user)
        for invite in await self.open():
            if invite.user == user:
                with suppress(NotFound):
                    await self.drop(invite)

    async def _stored(self, digest: str) -> Invite | None:
        try:
            return Invite.model_validate_json((await self._backend.get(_PREFIX + digest)).value)
        except NotFound:
            return None

    async def _first_look(self, user: User) -> Invite:
        """Return the invite of a declared user with a seed, which stays: two pages of one link show the same."""
        known = invite_of(user)
        invite = Invite(
            digest=known.digest,
            user=user.name,
            person=user.metadata.id or "",
            otp=OneTimePassword(type="totp", seed=new_seed()),
            expires=known.expires,
        )
        try:
            await self._backend.create(_PREFIX + invite.id, invite.model_dump_json().encode(), expires=invite.expires)
        except AlreadyExists:
            return await self._stored(invite.id) or invite
        return invite
