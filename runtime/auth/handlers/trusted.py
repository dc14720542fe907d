"""The methods on other clusters: who is trusted, and a leaf that wants to be."""

from __future__ import annotations

from contextlib import aclosing

from runtime.api import messages as m
from runtime.api import methods
from runtime.api.trust_messages import ClusterName, LeafRequest, RootReply, TrustedClusters, TrustStatuses
from runtime.auth.dispatch import Dispatcher, EmitPiece
from runtime.auth.handlers.parts import Parts
from runtime.core.callers import Caller


class TrustedHandlers:
    """Trusted clusters, as members and administrators ask for them, and the root's side of an exchange."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on_stream(methods.TRUSTED_WATCH, self.watch)
        dispatcher.on(methods.TRUSTED_LIST, self.list_trusted)
        dispatcher.on(methods.TRUSTED_STATUS, self.status)
        dispatcher.on(methods.TRUSTED_ACCEPT, self.accept)
        dispatcher.on(methods.TRUSTED_FORGET, self.forget)

    async def watch(self, caller: Caller, params: m.Nothing, emit: EmitPiece) -> m.Nothing:
        """Send all other clusters, and again after each change, until the caller gives up."""
        async with aclosing(self._parts.trust.view.follow()) as changes:
            async for clusters in changes:
                await emit(clusters)
        return m.Nothing()

    async def list_trusted(self, caller: Caller, params: m.Nothing) -> TrustedClusters:
        """Return all other clusters."""
        await self._parts.trust.view.ready.wait()
        return self._parts.trust.view.clusters

    async def status(self, caller: Caller, params: m.Nothing) -> TrustStatuses:
        """Return how it stands with each TrustedCluster."""
        return TrustStatuses(clusters=await self._parts.trust.statuses())

    async def accept(self, caller: Caller, params: LeafRequest) -> RootReply:
        """Take a leaf in that shows a token. Raises AccessDenied, AlreadyExists, InvalidInput."""
        return await self._parts.trust.leaves.accept(params)

    async def forget(self, caller: Caller, params: ClusterName) -> m.Nothing:
        """Trust a leaf no more. Raises NotFound, InvalidInput."""
        await self._parts.trust.leaves.forget(params.name, caller)
        return m.Nothing()
