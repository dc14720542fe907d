"""Tells of the tunnels to roots where the operator may read it: what proxies report, summed up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from runtime.api.tunnel_messages import ProxyTunnels, TunnelEntry
from runtime.auth.trusted import TrustedView
from runtime.auth.tunnels import TunnelStore
from runtime.backend.base import Backend
from runtime.core.errors import InvalidResource, NotFound, TeleportError
from runtime.core.resources import decode, encode
from runtime.core.tunnel_status import PREFIX, TunnelStatus

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""Between two looks at what proxies report, which they do at each change."""
HEARTBEATS = timedelta(seconds=60)
"""How old a heartbeat may become that is told: each one would be a write for nothing."""


class TunnelTeller:
    """Keeps `public/tunnels/NAME` current, beside other auth servers that do the same."""

    def __init__(self, backend: Backend, view: TrustedView, tunnels: TunnelStore) -> None:
        self._backend = backend
        self._view = view
        self._tunnels = tunnels

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        await self._view.ready.wait()
        while True:
            try:
                await self.look()
            except TeleportError as error:
                logger.info("what there is of tunnels cannot be told: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Tell what is news. Raises what the storage raises."""
        wanted = {name for name, document in self._view.documents.items() if document.spec.enabled}
        told = {item.key.removeprefix(PREFIX): item.value for item in (await self._backend.range(PREFIX)).items}
        for name in told.keys() - wanted:
            with suppress(NotFound):
                await self._backend.delete(PREFIX + name)
        if not wanted:
            return
        reported = await self._tunnels.list()
        for name in wanted:
            now = summed_up(name, reported)
            if is_news(told.get(name), now):
                await self._backend.put(PREFIX + name, encode(now))


def summed_up(cluster: str, reported: Iterable[ProxyTunnels]) -> TunnelStatus:
    """Return what all proxies' reports say of the tunnels to one root. Pure."""
    entries = [
        entry for proxy in reported for entry in proxy.tunnels if entry.cluster == cluster and entry.side == "leaf"
    ]
    online = [entry for entry in entries if entry.online]
    heard = max((entry.last_heartbeat for entry in entries if entry.last_heartbeat), default=None)
    if online:
        count = "one tunnel" if len(online) == 1 else f"{len(online)} tunnels"
        return TunnelStatus(connected=True, message=f"{count} to proxies of {cluster}", last_heartbeat=heard)
    return TunnelStatus(connected=False, message=_why_none(entries), last_heartbeat=heard)


def _why_none(entries: Iterable[TunnelEntry]) -> str:
    reasons = dict.fromkeys(entry.error for entry in entries if entry.error)
    return "; ".join(reasons) or "no proxy of this cluster has told of a tunnel yet"


def is_news(told: bytes | None, now: TunnelStatus) -> bool:
    """Tell whether what was told has to be told anew. Pure."""
    if told is None:
        return True
    try:
        before = decode(TunnelStatus, told)
    except InvalidResource:
        return True
    if (before.connected, before.message) != (now.connected, now.message):
        return True
    if before.last_heartbeat is None or now.last_heartbeat is None:
        return before.last_heartbeat is not now.last_heartbeat
    return now.last_heartbeat - before.last_heartbeat >= HEARTBEATS
