"""Invites of users that Kubernetes declares: in the user's record is the digest of a token that only a Secret holds.

The operator, which may write records and nothing else, mints them; here they are found, used up and withdrawn. As with
declared tokens the record is all there is to know: no copy has to follow it.
"""

from __future__ import annotations

from contextlib import suppress

from runtime.backend.base import Backend
from runtime.core import keys
from runtime.core.clock import Clock
from runtime.core.errors import CompareFailed, InvalidResource, NotFound, Unavailable
from runtime.core.resources import SignupInvite, User, decode, encode

_PREFIX = keys.resource_prefix("User")
_TRIES = 100


class DeclaredInvites:
    """The invites in the records of users."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock

    async def good(self) -> list[User]:
        """Return the users who can sign up now with an invite of theirs, by name."""
        return await self._good(b'"invite":')

    async def find(self, digest: str) -> User | None:
        """Return the user who can sign up now with the token of that digest."""
        for user in await self._good(digest.encode()):
            if _digest(user) == digest:
                return user
        return None

    async def of(self, name: str, digest: str) -> User | None:
        """Return the user of that name if it can sign up now with the token of that digest."""
        try:
            user = decode(User, (await self._backend.get(keys.resource("User", name))).value)
        except NotFound:
            return None
        return user if _digest(user) == digest and self._is_good(user) else None

    async def use_up(self, name: str, digest: str) -> None:
        """Note that the user has signed up with that token. Raises NotFound if it is not the user's, or was used."""
        for _ in range(_TRIES):
            item = await self._backend.get(keys.resource("User", name))
            user = decode(User, item.value)
            invite = user.metadata.invite
            if invite is None or invite.digest != digest or invite.consumed is not None:
                raise NotFound(f"user {name} has another invite now, or none")
            consumed = invite.model_copy(update={"consumed": self._clock.now().replace(microsecond=0)})
            with suppress(CompareFailed):
                await self._backend.compare_and_swap(
                    item.key, encode(user.with_invite(consumed)), revision=item.revision
                )
                return
        raise _busy(name)

    async def withdraw(self, name: str) -> None:
        """Take the user's invite back unless it was used; there is nothing to do for who has none, or is gone."""
        for _ in range(_TRIES):
            try:
                item = await self._backend.get(keys.resource("User", name))
                user = decode(User, item.value)
            except (NotFound, InvalidResource):
                return
            if user.metadata.invite is None or user.metadata.invite.consumed is not None:
                return
            with suppress(CompareFailed):
                await self._backend.compare_and_swap(item.key, encode(user.with_invite(None)), revision=item.revision)
                return
        raise _busy(name)

    async def _good(self, holds: bytes) -> list[User]:
        """Return those with an invite whose record has these bytes; of thousands only they are read."""
        users = []
        for item in (await self._backend.range(_PREFIX)).items:
            if holds in item.value:
                with suppress(InvalidResource):  # a newer version's: nobody signs up with what cannot be judged
                    users.append(decode(User, item.value))
        return [user for user in users if self._is_good(user)]

    def _is_good(self, user: User) -> bool:
        invite = user.metadata.invite
        return invite is not None and invite.is_good(self._clock.now())


def invite_of(user: User) -> SignupInvite:
    """Return the invite of a user who has one."""
    assert user.metadata.invite is not None  # noqa: S101 - who asks has looked
    return user.metadata.invite


def _digest(user: User) -> str:
    return user.metadata.invite.digest if user.metadata.invite else ""


def _busy(name: str) -> Unavailable:
    return Unavailable(f"user {name} is changed all the time", hint="Try again in a few seconds.")
