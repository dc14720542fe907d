"""What a person proves itself with, as the backend keeps it: one record a user, replaced as a whole.

It belongs to a person (`runtime.auth.persons`): to a later user of the same name it is as if there were none.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from runtime.auth.otp import OneTimePassword
from runtime.auth.persons import person_of
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
    person: str = ""
    """Whose they are; empty for a user of an earlier version, who has no id."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Credentials at a revision, which is 0 where there are none.

    `credentials` is None, at a revision, where those that are there belong to another person.
    """

    credentials: Credentials | None
    revision: int
    person: str | None = ""
    """Who the user of that name is; None if there is no such user."""

    @property
    def is_left_over(self) -> bool:
        """Whether what is there belongs to somebody who is gone."""
        return self.revision != 0 and self.credentials is None


class CredentialStore:
    """Reads and replaces credentials."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def get(self, user: str) -> Stored:
        """Return the user's credentials, or a Stored of None: also for what can be nobody's name, however typed."""
        try:
            item = await self._backend.get(_PREFIX + user)
        except (NotFound, InvalidKey):
            item = None
        # After the credentials: those that a new person of that name gets meanwhile have another revision.
        person = await person_of(self._backend, user)
        if item is None:
            return Stored(None, 0, person)
        credentials = Credentials.model_validate_json(item.value)
        return Stored(credentials if credentials.person == person else None, item.revision, person)

    async def replace(self, user: str, old: Stored, new: Credentials) -> Stored:
        """Write new credentials of the same person in place of those that were read.

        Raises CompareFailed when somebody was quicker, or the user is gone.
        """
        if old.person is None:
            raise CompareFailed(f"there is no user {user}", hint="Somebody has just deleted it.")
        new = new.model_copy(update={"person": old.person})
        value = new.model_dump_json().encode()
        if old.revision:
            item = await self._backend.compare_and_swap(_PREFIX + user, value, revision=old.revision)
            return Stored(new, item.revision, old.person)
        try:
            item = await self._backend.create(_PREFIX + user, value)
        except AlreadyExists as error:
            raise CompareFailed(str(error)) from error
        return Stored(new, item.revision, old.person)

    async def delete(self, user: str, *, revision: int | None = None) -> None:
        """Delete the user's credentials, if any; with `revision` only those. Raises CompareFailed for others."""
        if revision == 0:
            return
        with suppress(NotFound):
            await self._backend.delete(_PREFIX + user, revision=revision)

    async def all(self) -> dict[str, Credentials]:
        """Return all credentials by the name of the user, those of persons who are gone among them."""
        return {
            item.key.removeprefix(_PREFIX): Credentials.model_validate_json(item.value)
            for item in (await self._backend.range(_PREFIX)).items
        }
