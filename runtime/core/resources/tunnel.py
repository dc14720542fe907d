"""Tunnel: a leaf cluster's connection that one of the root's proxies holds."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime

from runtime.core.resources.model import Model
from runtime.core.resources.names import Name


class Tunnel(Model):
    """A reverse tunnel that is up, or was at its last heartbeat."""

    kind: Literal["Tunnel"] = "Tunnel"
    cluster: Name
    proxy_id: UUID
    since: AwareDatetime
    last_heartbeat: AwareDatetime

    @property
    def name(self) -> str:
        """`CLUSTER/PROXY_ID`: a cluster has a tunnel to each proxy of the root."""
        return f"{self.cluster}/{self.proxy_id}"
