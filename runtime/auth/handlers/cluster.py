"""The methods of members, and those that anybody may ask: who is here, and whom to trust."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC

from runtime.api import methods
from runtime.api.cluster_messages import Authorities, Pong
from runtime.api.event_messages import AuditEvent, AuditEvents
from runtime.api.member_messages import Heartbeat, HeartbeatReply, Membership, PresenceList, PresenceQuery, RenewRequest
from runtime.api.messages import Nothing
from runtime.api.proof_messages import KeysProof, KeysQuery
from runtime.audit.chain import PREV
from runtime.audit.events import FROM_MEMBERS, EventType
from runtime.audit.log import Field
from runtime.auth.dispatch import Dispatcher
from runtime.auth.handlers.parts import Parts
from runtime.auth.membership import public_keys
from runtime.auth.succeeding import Told
from runtime.core.callers import Caller, CallerKind
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.core.version import __version__
from runtime.pki.key_proof import prove_keys

_OURS = frozenset({"event", "uid", "time", "server_id", PREV})
"""Fields of an event that its sender cannot set."""


class ClusterHandlers:
    """Membership, presence, and what members tell of."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._succession = Told(parts.issuer.authorities)

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on(methods.PING, self.ping)
        dispatcher.on(methods.AUTHORITIES, self.authorities)
        dispatcher.on(methods.AUTHORITIES_PROVE, self.prove)
        dispatcher.on(methods.JOIN, self._parts.members.join)
        dispatcher.on(methods.RENEW, self.renew)
        dispatcher.on(methods.ADMINS_SIGN, self._parts.members.sign_admin)
        dispatcher.on(methods.HEARTBEAT, self.heartbeat)
        dispatcher.on(methods.LEAVE, self.leave)
        dispatcher.on(methods.PRESENCE, self.list_presence)
        dispatcher.on(methods.AUDIT, self.audit_events)

    async def ping(self, caller: Caller, params: Nothing) -> Pong:
        """Say who answers, and what the time is here."""
        return Pong(
            cluster=self._parts.issuer.cluster,
            version=__version__,
            time=self._parts.now(),
            second_factor=self._parts.people.second_factor,
            dynamic_config=self._parts.dynamic_config,
        )

    async def authorities(self, caller: Caller, params: Nothing) -> Authorities:
        """Return the public keys of the cluster's authorities."""
        return Authorities(authorities=public_keys(self._parts.issuer.authorities), statements=self._succession())

    async def prove(self, caller: Caller, params: KeysQuery) -> KeysProof:
        """Return the host keys, signed by each of them while there are several to choose from.

        Not in an emergency: whoever has stolen the old key would be vouched for by the new one.
        """
        host = self._parts.issuer.authorities.host
        keys = tuple(each.public.line for each in host.generations)
        signers = [each.private for each in host.generations if each.private is not None]
        if host.rotation is None or host.rotation.is_emergency:
            signers = []
        signatures = prove_keys(signers, nonce=params.nonce, cluster=host.cluster, keys=keys)
        return KeysProof(cluster=host.cluster, keys=keys, signatures=signatures)

    async def renew(self, caller: Caller, params: RenewRequest) -> Membership:
        """Return new certificates for the identity that was proved. Raises AccessDenied, InvalidInput."""
        with self._audited(caller, methods.RENEW.name):
            return await self._parts.members.renew(caller, params)

    async def heartbeat(self, caller: Caller, params: Heartbeat) -> HeartbeatReply:
        """Remember a member, and tell it where auth servers are. Raises AccessDenied, InvalidInput."""
        with self._audited(caller, methods.HEARTBEAT.name):
            labels = await self._parts.members.imposed_labels(caller, params.presence.name)
            await self._parts.presence.heartbeat(caller, params.presence, params.ttl, labels, params.followed)
        return HeartbeatReply(auth_servers=tuple(self._parts.auth_servers()))

    @contextmanager
    def _audited(self, caller: Caller, method: str) -> Iterator[None]:
        """Audit that a member who may call the method asked for what it may not have."""
        try:
            yield
        except AccessDenied as error:
            self._parts.audit.emit(
                EventType.CALL_REFUSED,
                method=method,
                caller=f"{caller.kind} {caller.name}",
                error=str(error),
                **{"addr.remote": caller.address},
            )
            raise

    async def leave(self, caller: Caller, params: Nothing) -> Nothing:
        """Forget a member that stops."""
        await self._parts.presence.leave(caller)
        return Nothing()

    async def list_presence(self, caller: Caller, params: PresenceQuery) -> PresenceList:
        """List the members of a kind."""
        return PresenceList(members=tuple(await self._parts.presence.list(params.kind)))

    async def audit_events(self, caller: Caller, params: AuditEvents) -> Nothing:
        """Log what happened at a member; whose it is, auth says. Raises InvalidInput, Unavailable: none is logged."""
        for event in params.events:
            if event.event not in FROM_MEMBERS:
                raise InvalidInput(f"{caller.kind} cannot tell of {event.event[:64]!a}", hint="Is auth the older one?")
        is_node = caller.kind is CallerKind.NODE
        events = params.events
        if is_node:  # first: a start that is logged will have its end, whoever is killed next
            await self._parts.sessions.begin(caller.name, events)
            known = await self._parts.sessions.given_up(caller.name, events)
            events = tuple(event for event in events if event.uid not in known)
        for event in events:
            self._parts.audit.emit(EventType(event.event), **_fields(event, caller))
        await self._parts.audit.durable()  # the member forgets them now
        if is_node:
            await self._parts.sessions.end(caller.name, events)
        return Nothing()


def _fields(event: AuditEvent, caller: Caller) -> dict[str, Field]:
    """Return the fields of a member's event; whose it is, we say."""
    told = {name: value for name, value in event.fields.items() if name not in _OURS}
    return {
        **told,
        "uid": str(event.uid),
        "time": f"{event.time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "server_id": caller.name,
    }
