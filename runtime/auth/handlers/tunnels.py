"""The methods on tunnels to other clusters: what proxies have, and all of it for who asks."""

from __future__ import annotations

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.tunnel_messages import TunnelList, TunnelReport
from runtime.auth.dispatch import Dispatcher
from runtime.auth.handlers.parts import Parts
from runtime.core.callers import Caller


class TunnelHandlers:
    """Reports, and the list of them."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on(methods.TUNNELS_REPORT, self.report)
        dispatcher.on(methods.TUNNELS_LIST, self.list_tunnels)

    async def report(self, caller: Caller, params: TunnelReport) -> Nothing:
        """Take what a proxy says of its tunnels. Raises Unavailable."""
        await self._parts.tunnels.report(caller, params.tunnels)
        return Nothing()

    async def list_tunnels(self, caller: Caller, params: Nothing) -> TunnelList:
        """Tell of all tunnels. Raises Unavailable."""
        return TunnelList(proxies=await self._parts.tunnels.list())
