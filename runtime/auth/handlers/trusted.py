"""The methods on other clusters: who is trusted, and a leaf that wants to be."""

from __future__ import annotations

from contextlib import aclosing

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.succession_messages import Successions
from runtime.api.trust_messages import ClusterName, LeafRequest, RootReply, TrustedClusters, TrustStatuses
from runtime.auth.dispatch import Dispatcher, EmitPiece
from runtime.auth.handlers.parts import Parts
from runtime.core.callers import Caller, CallerKind


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
        dispatcher.on(methods.TRUSTED_LEARN, self.learn)
        dispatcher.on(methods.TRUSTED_FORGET, self.forget)

    async def watch(self, caller: Caller, params: Nothing, emit: EmitPiece) -> Nothing:
        """Send all other clusters, and again after each change, until the caller gives up."""
        async with aclosing(self._parts.trust.view.follow()) as changes:
            async for clusters in changes:
                proxy = caller.kind is CallerKind.PROXY
                await emit(clusters if proxy else clusters.model_copy(update={"statements": ()}))
        return Nothing()

    async def list_trusted(self, caller: Caller, params: Nothing) -> TrustedClusters:
        """Return all other clusters."""
        await self._parts.trust.view.ready.wait()
        return self._parts.trust.view.clusters

    async def status(self, caller: Caller, params: Nothing) -> TrustStatuses:
        """Return how it stands with each TrustedCluster."""
        return TrustStatuses(clusters=await self._parts.trust.statuses())

    async def accept(self, caller: Caller, params: LeafRequest) -> RootReply:
        """Take a leaf in that shows a token. Raises AccessDenied, AlreadyExists, InvalidInput."""
        return await self._parts.trust.leaves.accept(params)

    async def learn(self, caller: Caller, params: Successions) -> Successions:
        """Take in what another cluster says of its own authorities, and return what ours say. Raises Unavailable."""
        await self._parts.trust.following.learn(params.cluster, params.statements)
        return Successions(cluster=self._parts.issuer.cluster, statements=self._parts.trust.view.clusters.statements)

    async def forget(self, caller: Caller, params: ClusterName) -> Nothing:
        """Trust a leaf no more. Raises NotFound, InvalidInput."""
        await self._parts.trust.leaves.forget(params.name, caller)
        return Nothing()
