"""What a person proves itself with, as the backend keeps it: one record a user, replaced as a whole."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from runtime.auth.otp import OneTimePassword
from runtime.backend.base import Backend
from runtime.core.errors import AlreadyExists, CompareFailed, InvalidKey, NotFound
from runtime.core.keys import SECRETS

_PREFIX = f"{SECRETS}/credentials/"


class Credentials(BaseModel):
    """A password's hash, the one-time-password generator if there is one, and the invite that they came from."""

    model_config = ConfigDict(frozen=True)

    password: str = Field(repr=False)
    otp: OneTimePassword | None = None
    invite: str = ""
    """The invite's id: an invite whose id stands here has been used."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Credentials at a revision; `credentials` None and revision 0 where there are none."""

    credentials: Credentials | None
    revision: int


class CredentialStore:
    """Reads and replaces credentials."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def get(self, user: str) -> Stored:
        """Return the user's credentials, or a Stored of None: also for what can be nobody's name, however typed."""
        try:
            item = await self._backend.get(_PREFIX + user)
        except (NotFound, InvalidKey):
            return Stored(None, 0)
        return Stored(Credentials.model_validate_json(item.value), item.revision)

    async def replace(self, user: str, old: Stored, new: Credentials) -> Stored:
        """Write new credentials in place of those that were read. Raises CompareFailed when somebody was quicker."""
        value = new.model_dump_json().encode()
        if old.revision:
            item = await self._backend.compare_and_swap(_PREFIX + user, value, revision=old.revision)
            return Stored(new, item.revision)
        try:
            return Stored(new, (await self._backend.create(_PREFIX + user, value)).revision)
        except AlreadyExists as error:
            raise CompareFailed(str(error)) from error

    async def delete(self, user: str, *, revision: int | None = None) -> None:
        """Delete the user's credentials, if any; with `revision` only those. Raises CompareFailed for others."""
        if revision == 0:
            return
        with suppress(NotFound):
            await self._backend.delete(_PREFIX + user, revision=revision)

    async def users(self) -> frozenset[str]:
        """Return the names of all users that have credentials."""
        return frozenset(item.key.removeprefix(_PREFIX) for item in (await self._backend.range(_PREFIX)).items)
