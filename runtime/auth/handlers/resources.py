"""The methods on declared resources."""

from __future__ import annotations

from contextlib import aclosing

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.resource_messages import ResourceDocument, ResourceList, ResourceQuery, ResourceRef
from runtime.audit.events import EventType
from runtime.auth.changes import Change, of
from runtime.auth.declared import known_kind
from runtime.auth.declared_tokens import Issue
from runtime.auth.dispatch import Dispatcher, EmitPiece
from runtime.auth.handlers.parts import Parts
from runtime.auth.trusted_means import Means
from runtime.core.callers import Caller, CallerKind
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.core.resources import Origin, TrustedCluster, load_documents


class ResourceHandlers:
    """Documents of kind User, Role, Token, TrustedCluster."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on(methods.RESOURCES_GET, self.get_resource)
        dispatcher.on(methods.RESOURCES_LIST, self.list_resources)
        dispatcher.on(methods.RESOURCES_WRITE, self.write_resource)
        dispatcher.on(methods.RESOURCES_REMOVE, self.remove_resource)
        dispatcher.on_stream(methods.RESOURCES_WATCH, self.watch_resources)

    async def get_resource(self, caller: Caller, params: ResourceRef) -> ResourceDocument:
        """Return one declared resource. Raises NotFound."""
        return await self._parts.declared.document(params.kind, params.name)

    async def list_resources(self, caller: Caller, params: ResourceQuery) -> ResourceList:
        """List the declared resources of a kind."""
        return ResourceList(resources=tuple(await self._parts.declared.documents(params.kind)))

    async def write_resource(self, caller: Caller, params: ResourceDocument) -> ResourceDocument:
        """Write a document from tctl, with what its Secret holds. Raises InvalidInput, AlreadyExists, CompareFailed."""
        (resource, *more) = load_documents(params.document, source="the document")
        if more:
            raise InvalidInput("more than one document", hint="Send them one by one.")
        declared = resource.with_origin(Origin.TCTL)
        value = None if params.value is None else params.value.get_secret_value()
        is_cluster = isinstance(declared, TrustedCluster)
        issue = Issue(None if is_cluster else value, now=self._parts.now())
        public = await self._parts.trust.sealing_public() if is_cluster and value is not None else b""
        means = Means(value if is_cluster else None, own=self._parts.issuer.cluster, public=public)
        change = Change(lambda resource, before: means(issue(resource, before), before))
        written = await self._parts.declared.write(
            declared, revision=params.revision, overwrite=params.overwrite, complete=change
        )
        self._parts.audit.emit(EventType.RESOURCE_WRITTEN, **change.fields, by=str(caller))
        return written.model_copy(update={"value": issue.made})

    async def remove_resource(self, caller: Caller, params: ResourceRef) -> Nothing:
        """Delete a resource that tctl declared. Raises NotFound, CompareFailed."""
        removed = await self._parts.declared.remove(params.kind, params.name, Origin.TCTL, revision=params.revision)
        if params.kind == "User":
            await self._parts.forget_user(params.name)
        self._parts.audit.emit(EventType.RESOURCE_REMOVED, **of(removed, None), by=str(caller))
        return Nothing()

    async def watch_resources(self, caller: Caller, params: ResourceQuery, emit: EmitPiece) -> Nothing:
        """Send a snapshot of a kind and then its changes, until the caller gives up. Raises AccessDenied.

        Members have no use for tokens, and could try at leisure which value a weak one has; of other clusters they are
        told what holds (`trusted.watch`), not what was written.
        """
        if params.kind in ("Token", "TrustedCluster") and caller.kind is not CallerKind.ADMIN:
            raise AccessDenied(f"documents of kind {params.kind} are for administrators only")
        async with aclosing(self._parts.declared.follow(known_kind(params.kind))) as events:
            async for event in events:
                await emit(event)
        return Nothing()
