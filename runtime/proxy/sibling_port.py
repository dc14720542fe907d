"""What another proxy of the cluster, a sibling, may do at our SSH port: go through our tunnels for a person.

It is known by its member certificate. The person's certificate, which that person has proved to it, is looked at here
as if the person had come by itself; so a proxy that was taken over gets nobody in whom the cluster would not.
"""

from __future__ import annotations

from collections.abc import Callable

from runtime.audit.events import EventType
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, InvalidInput, TeleportError
from runtime.core.resources.authority import AuthorityType
from runtime.pki.certificate import read_certificate
from runtime.pki.claims import MemberRole
from runtime.pki.identity import MemberIdentity, UserIdentity
from runtime.pki.verify import verify_member
from runtime.proxy.cluster import Carried, ClusterView
from runtime.proxy.gate import Gate
from runtime.proxy.siblings import parse_asked
from runtime.proxy.words import ENDED, OK, told
from runtime.service.logs import one_line
from runtime.service.values import Address, parse_peer
from runtime.transport.capture import Proved
from runtime.transport.gateway import GatewayChannel, GatewaySession
from runtime.transport.guards import Peer
from runtime.transport.server import Handler
from runtime.tunnel import protocol


def is_members(certificate: bytes, view: ClusterView) -> bool:
    """Tell whether a certificate is of our host authority, and so a member's. Raises AccessDenied for what is none."""
    authority = view.trust().find(read_certificate(certificate).signature.ca_key)
    return authority is not None and authority.type is AuthorityType.HOST


def verify_sibling(login: str, certificate: bytes, view: ClusterView, clock: Clock) -> MemberIdentity:
    """Return which proxy of ours logs in. Raises AccessDenied for any other member."""
    identity = verify_member(certificate, view.trust(), clock.now())
    if identity.role is not MemberRole.PROXY or identity.cluster != view.name:
        raise AccessDenied(f"a member of role {identity.role} of cluster {identity.cluster} has nothing to do here")
    if login != f"{identity.role}.{identity.host_id}":
        raise AccessDenied(f"its certificate is not for the login {login[:64]!a}")
    return identity


class SiblingConnection(Handler):
    """One connection of another proxy."""

    def __init__(
        self, proved: Proved[MemberIdentity], view: ClusterView, gate: Gate, enter: Callable[[], None]
    ) -> None:
        """`enter` is called as somebody begins to be served, and raises Unavailable when the proxy stops."""
        self._enter = enter
        self._proved = proved
        self._view = view
        self._gate = gate

    def session_requested(self) -> GatewaySession:
        """Serve what is asked for on behalf of somebody."""
        return GatewaySession(self._serve)

    async def _serve(self, subsystem: str | None, channel: GatewayChannel) -> int:
        request: object = None
        try:
            self._enter()
            cluster, request = parse_asked(subsystem)
            if isinstance(request, protocol.Nodes):
                # Who asks has signed it, which the leaf looks at.
                channel.write(protocol.write_json_result(await self._view.others.nodes_here(cluster, request)))
                return OK
            return await self._view.others.carry_here(cluster, request, self._carried(request), channel)
        except TeleportError as error:
            if isinstance(request, protocol.Nodes):
                channel.write(protocol.write_error(error))
            else:
                self._view.audit.emit(
                    EventType.PROXY_REJECTED,
                    subsystem=(subsystem or "")[:256],
                    error=str(error)[:1024],
                    **self._from(),
                )
                channel.write_error(told(error))
            return ENDED

    def _carried(self, request: protocol.Connect) -> Carried:
        """Return whom it is for, if that person may come in. Raises AccessDenied."""
        visitor = request.visitor
        try:
            source = parse_peer(visitor.address, default_port=0)
        except InvalidInput:
            raise AccessDenied(f"{one_line(visitor.address)[:64]!a} is no address that a person came from") from None
        identity: UserIdentity = self._gate.validate(
            visitor.login, visitor.certificate.encode(), Peer(source.host, source.port)
        )
        return {
            "user": identity.user,
            "login": visitor.login,
            "addr.client": visitor.address[:128],
            **self._from(),
        }

    def _from(self) -> dict[str, str]:
        return {"proxy": self._proved.identity.host_id, "addr.remote": str(Address(*self._proved.peer))}
