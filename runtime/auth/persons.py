"""Which person a user is: what somebody proves itself with counts for one person, not for a name.

A user that is deleted and declared anew, or invited anew, is another person. No auth server has to see it happen: the
record of the user says who it is, and passwords, one-time passwords and invites say whose they are.
"""

from __future__ import annotations

import secrets

from runtime.backend.base import Backend
from runtime.core import keys
from runtime.core.errors import InvalidKey, NotFound
from runtime.core.resources import Resource, User, decode


async def person_of(backend: Backend, user: str) -> str | None:
    """Return which person the user of that name is; None if there is no such user, however the name was typed."""
    try:
        item = await backend.get(keys.resource("User", user))
    except (NotFound, InvalidKey):
        return None
    return decode(User, item.value).metadata.id or ""


def identified(resource: Resource, before: Resource | None) -> Resource:
    """Return a user with what the cluster keeps of it, as a new person if there was none; others as they are."""
    if not isinstance(resource, User):
        return resource
    if isinstance(before, User):
        return resource.as_kept(before)
    return resource.with_id(secrets.token_hex(16))
