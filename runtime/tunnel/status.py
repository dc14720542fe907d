"""What there is to tell of a tunnel, at either end of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TunnelStatus:
    """One tunnel to `cluster`, or one that there should be. Times are aware and in UTC."""

    cluster: str
    online: bool
    peer: str = ""
    """The id of the other end's proxy."""
    addr: str = ""
    """host:port of the other end."""
    since: datetime | None = None
    last_heartbeat: datetime | None = None
    """When something was last heard from it."""
    error: str = ""
    """Why there is none."""
