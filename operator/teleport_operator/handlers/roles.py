"""Roles: the document is all there is to them."""

from __future__ import annotations

from typing import Any

import kopf

from runtime.core.resources import GROUP, VERSION
from teleport_operator.handlers import edge


@kopf.on.resume(GROUP, VERSION, "roles")
@kopf.on.create(GROUP, VERSION, "roles")
@kopf.on.update(GROUP, VERSION, "roles")
async def role_declared(**kwargs: Any) -> None:
    """Bring the backend to what the document says."""
    await edge.declared("Role", **kwargs)


@kopf.on.delete(GROUP, VERSION, "roles")
async def role_deleted(**kwargs: Any) -> None:
    """Make the backend forget what the document said."""
    await edge.deleted("Role", **kwargs)
