"""The tunnels to other clusters as proxies tell of them: kept as long as the proxies go on telling."""

from __future__ import annotations

import logging
from datetime import timedelta
from uuid import UUID

from pydantic import ValidationError

from runtime.api.tunnel_messages import ProxyTunnels, TunnelEntry, TunnelReport
from runtime.backend.base import Backend
from runtime.core.callers import Caller
from runtime.core.clock import Clock
from runtime.core.keys import PRESENCE

logger = logging.getLogger(__name__)

TTL = timedelta(seconds=60)
"""How long a proxy's word holds: as long as its heartbeat (`runtime.service.member.PRESENCE_TTL`)."""

_PREFIX = f"{PRESENCE}/tunnel/"


class TunnelStore:
    """One record for each proxy, which it alone can write."""

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock

    async def report(self, caller: Caller, tunnels: tuple[TunnelEntry, ...]) -> None:
        """Keep what a proxy tells, in place of what it told before. Raises Unavailable."""
        value = TunnelReport(tunnels=tunnels).model_dump_json().encode()
        await self._backend.put(f"{_PREFIX}{caller.name}", value, expires=self._clock.now() + TTL)

    async def list(self) -> tuple[ProxyTunnels, ...]:
        """Return what proxies told within the last minute, by their ids. Raises Unavailable."""
        found = []
        for item in (await self._backend.range(_PREFIX)).items:
            try:
                told = TunnelReport.model_validate_json(item.value)
                found.append(ProxyTunnels(proxy_id=UUID(item.key.removeprefix(_PREFIX)), tunnels=told.tunnels))
            except (ValidationError, ValueError):
                # Of another release: it is told anew within seconds.
                logger.warning("the record %s of a proxy's tunnels cannot be read", item.key)
        return tuple(found)
