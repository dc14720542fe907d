"""What proxies tell auth of their tunnels to other clusters, and what auth tells of all proxies' tunnels."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field

from runtime.api.messages import Message, Text

MAX_TUNNELS = 4096
"""Of one proxy."""

Side = Literal["root", "leaf"]


class TunnelEntry(Message):
    """One tunnel as a proxy sees it. `side` says what the proxy's own cluster is on it."""

    cluster: Text
    """The other cluster."""
    side: Side
    online: bool
    peer: Text = ""
    """The other end's proxy: its id, once it is known."""
    addr: Text = ""
    """The other end's address: where we dial as a leaf, from where it comes as a root."""
    since: AwareDatetime | None = None
    last_heartbeat: AwareDatetime | None = None
    error: Text = ""
    """Why there is none, in words for a person; where it is online, nothing."""


class TunnelReport(Message):
    """All tunnels of one proxy, in place of those that it told of before."""

    tunnels: Annotated[tuple[TunnelEntry, ...], Field(max_length=MAX_TUNNELS)]


class ProxyTunnels(Message):
    """The tunnels of one proxy, as it last told."""

    proxy_id: UUID
    tunnels: tuple[TunnelEntry, ...]


class TunnelList(Message):
    """The tunnels of all proxies that were heard within a minute."""

    proxies: tuple[ProxyTunnels, ...]
