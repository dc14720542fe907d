"""What auth tells of the tunnels to a root in `public/tunnels/NAME`: is there one, and when it was last heard."""

from __future__ import annotations

from pydantic import AwareDatetime

from runtime.core.keys import PUBLIC
from runtime.core.resources.model import Model

PREFIX = f"{PUBLIC}/tunnels/"


class TunnelStatus(Model):
    """The tunnels of all proxies of this cluster to one root; `message` says how many, or why there is none."""

    connected: bool
    message: str
    last_heartbeat: AwareDatetime | None = None
