"""Tokens: the value is in a Secret, which is read or made before the backend hears of the token."""

from __future__ import annotations

from typing import Any

import kopf

from runtime.core.resources import GROUP, VERSION
from teleport_operator.handlers import edge

LOOK_SECONDS = 60.0
"""How often a token is looked at: its status tells of uses and of its end."""


@kopf.on.resume(GROUP, VERSION, "tokens")
@kopf.on.create(GROUP, VERSION, "tokens")
@kopf.on.update(GROUP, VERSION, "tokens")
async def token_declared(**kwargs: Any) -> None:
    """Bring Secret and backend to what the document says."""
    await edge.declared("Token", **kwargs)


@kopf.timer(GROUP, VERSION, "tokens", interval=LOOK_SECONDS, initial_delay=LOOK_SECONDS)
async def token_aged(**kwargs: Any) -> None:
    """Say of a token that it is over, once it is."""
    await edge.declared("Token", **kwargs)


@kopf.on.delete(GROUP, VERSION, "tokens")
async def token_deleted(**kwargs: Any) -> None:
    """Make the backend forget the token; its Secret, if it was made for it, Kubernetes deletes."""
    await edge.deleted("Token", **kwargs)
