"""What belongs to a person goes with it, whoever ends it: the operator may touch resources, but no secrets.

Nothing depends on it being done soon: what somebody who is gone has left behind counts for nobody else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import aclosing, suppress

from runtime.api.resource_messages import ResourceDocument
from runtime.auth.credentials import CredentialStore
from runtime.auth.declared import Declared
from runtime.auth.invites import Invites
from runtime.core.errors import CompareFailed, InvalidResource, NotFound, TeleportError
from runtime.core.resources import User, decode

logger = logging.getLogger(__name__)


class Janitor:
    """Deletes the credentials and invites of who is gone, and completes sign-ups that were cut short."""

    def __init__(self, declared: Declared, credentials: CredentialStore, invites: Invites) -> None:
        self._declared = declared
        self._credentials = credentials
        self._invites = invites
        self._ids: dict[str, str | None] = {}
        """Who the users are, as far as it was seen."""

    async def run(self) -> None:
        """Follow users for ever. What happened while no auth service ran is found by the snapshot."""
        async with aclosing(self._declared.follow("User")) as events:
            async for event in events:
                try:
                    if event.deleted is not None:
                        self._ids.pop(event.deleted, None)
                        await self.clean(event.deleted)
                    elif event.put is not None:
                        await self._changed(event.put)
                    elif event.snapshot is not None:
                        await self._all(event.snapshot)
                except TeleportError as error:
                    logger.warning("what somebody left behind stays until the next start: %s", error)

    async def clean(self, user: str) -> None:
        """Delete what was left behind under that name by anybody but the user who has it now.

        What is there is read before looking who the user is: what a new user of the same name makes meanwhile has
        another revision, and stays.
        """
        credentials = await self._credentials.get(user)
        invites = [invite for invite in await self._invites.open() if invite.user == user]
        left_over = [invite for invite in invites if invite.person != credentials.person]
        if not credentials.is_left_over and not left_over:
            return
        if credentials.is_left_over:
            with suppress(CompareFailed):
                await self._credentials.delete(user, revision=credentials.revision)
        for invite in left_over:
            with suppress(NotFound):
                await self._invites.drop(invite)
        logger.info("deleted the credentials of who was user %s", user)

    async def _all(self, documents: Iterable[ResourceDocument]) -> None:
        """Catch up with all users."""
        users = [user for document in documents if (user := _user(document))]
        self._ids = {user.name: user.metadata.id for user in users}
        held = await self._credentials.all()
        for user in users:
            invite, credentials = user.metadata.invite, held.get(user.name)
            if invite and credentials and not invite.consumed and credentials.invite == invite.digest:
                with suppress(NotFound):  # the sign-up itself was quicker
                    await self._invites.declared.use_up(user.name, invite.digest)
        invited = {invite.user for invite in await self._invites.open()}
        for name in sorted(invited | set(held)):
            await self.clean(name)

    async def _changed(self, document: ResourceDocument) -> None:
        user = _user(document)
        if user is None:
            return
        known = self._ids.get(user.name, user.metadata.id)
        self._ids[user.name] = user.metadata.id
        if known != user.metadata.id:
            await self.clean(user.name)


def _user(document: ResourceDocument) -> User | None:
    try:
        return decode(User, document.document.encode())
    except InvalidResource as error:
        logger.warning("a user is not looked after: %s", error)
        return None
