"""What belongs to a user goes with the user, whoever deletes it: the operator may touch resources, but no secrets."""

from __future__ import annotations

import logging
from contextlib import aclosing, suppress

from runtime.auth.credentials import CredentialStore
from runtime.auth.declared import Declared
from runtime.auth.invites import Invites
from runtime.core.errors import CompareFailed, NotFound, TeleportError
from runtime.core.resources import User

logger = logging.getLogger(__name__)


class Janitor:
    """Deletes the credentials and invites of users that are gone, so that a new one of the name starts without them."""

    def __init__(self, declared: Declared, credentials: CredentialStore, invites: Invites) -> None:
        self._declared = declared
        self._credentials = credentials
        self._invites = invites

    async def run(self) -> None:
        """Follow users for ever. What was deleted while no auth service ran is found by the snapshot."""
        async with aclosing(self._declared.follow("User")) as events:
            async for event in events:
                try:
                    if event.deleted is not None:
                        await self.clean(event.deleted)
                    elif event.snapshot is not None:
                        invited = {invite.user for invite in await self._invites.open()}
                        for user in sorted(await self._credentials.users() | invited):
                            await self.clean(user)
                except TeleportError as error:
                    logger.warning("what a deleted user left behind stays until the next start: %s", error)

    async def clean(self, user: str) -> None:
        """Delete what a user left behind, if the user is gone.

        What is there is read before looking whether the user is: what a new user of the same name makes meanwhile has
        another revision, and stays.
        """
        credentials = await self._credentials.get(user)
        invites = [invite for invite in await self._invites.open() if invite.user == user]
        if not credentials.revision and not invites:
            return
        try:
            await self._declared.get(User, user)
        except NotFound:
            with suppress(CompareFailed):
                await self._credentials.delete(user, revision=credentials.revision)
            for invite in invites:
                with suppress(NotFound, CompareFailed):
                    await self._invites.revoke(invite.token)
            logger.info("deleted the credentials of user %s, who was deleted", user)
