"""Brings together what decides about a user's invite: the document, its record, its status, and the Secret."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from runtime.backend.documents import BackendDocuments
from runtime.core.errors import TeleportError
from runtime.core.resources import Origin, User
from runtime.reconcile import Owner
from teleport_operator.context import Context
from teleport_operator.secrets.invites import InviteSecret
from teleport_operator.verdicts.invitations import Invitation
from teleport_operator.verdicts.reconciling import reason_of


async def invite(context: Context, user: User, body: Mapping[str, Any]) -> Invitation:
    """See to the Secret of a user's invite before its record is written.

    Who is new and cannot be invited is not written; of who is there, the rest is. Raises what keeps a new one from it.
    """
    there = await BackendDocuments(context.backend).get("User", user.name)
    before = there.resource if there and isinstance(there.resource, User) else None
    if there is not None and before is None:
        return Invitation()  # what cannot be read stays as it is
    owner = Owner(Origin.KUBERNETES, user.metadata.namespace)
    if before is not None and not owner.owns(before) and not user.metadata.adopt:
        return Invitation()
    secret = InviteSecret(
        context.api,
        user,
        str(body["metadata"]["uid"]),
        context.facts,
        now=context.clock.now(),
        new_token=lambda: secrets.token_hex(16),
    )
    try:
        return await secret.settle(before, consumed="consumed" in told(body))
    except TeleportError as error:
        if before is None:
            raise
        return Invitation(trouble=(reason_of(error), error.in_full))


def told(body: Mapping[str, Any]) -> Mapping[str, object]:
    """Return what the object's status says of the invite."""
    found: Mapping[str, object] = body.get("status", {}).get("invite", {})
    return dict(found)
