"""Visitors: people of a root cluster whom its proxies carry here through a tunnel.

The root's word is not enough for anything. Who it is, the root's user authority says in a certificate that is checked
here; what this person may see, our mapping of the root says, and by default that is nothing; what there is to
connect to are our registered nodes, as for everybody. The node then asks all of that again, of the person itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from urllib.parse import parse_qs, urlsplit

from runtime.api.proving import Claim, prove
from runtime.api.trust_messages import TrustedPeer
from runtime.audit.events import EventType
from runtime.core.access import sight
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, InvalidInput, TeleportError, Unavailable
from runtime.core.guests import guest, guest_name
from runtime.core.joining import JOIN_LOGIN
from runtime.core.resources import Role, User
from runtime.core.resources.authority import AuthorityType
from runtime.pki.identity import UserIdentity
from runtime.pki.trust import Trust
from runtime.pki.verify import verify_user
from runtime.proxy.cluster import ClusterView
from runtime.proxy.connecting import Connector, Visible, visible_to
from runtime.proxy.lists import nodes_json, read_filter
from runtime.proxy.routing import Wish
from runtime.proxy.words import ENDED, OK, told
from runtime.service.logs import one_line
from runtime.service.trusting import Trusting, trust_in, welcome_of
from runtime.transport.gateway import GatewayChannel
from runtime.tunnel.leaf import Carrier
from runtime.tunnel.protocol import Connect, Nodes

logger = logging.getLogger(__name__)

NODES_PATH = "/webapi/nodes"
"""What a person signs who asks for the nodes of a cluster (`runtime.proxy.lists`)."""


class Visits:
    """Serves what comes through the tunnels of one proxy."""

    def __init__(self, view: ClusterView, trusting: Trusting, connector: Connector, clock: Clock) -> None:
        self._view = view
        self._trusting = trusting
        self._connector = connector
        self._clock = clock
        self._serving: set[asyncio.Task[object]] = set()
        self._stopping = False

    async def connect(self, carrier: Carrier, request: Connect, channel: GatewayChannel) -> int:
        """Connect a visitor to a node, and return the exit status; what goes wrong is said on standard error."""
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        user = ""
        try:
            if self._stopping:
                raise Unavailable("this proxy of the leaf is stopping", hint="Try again: there may be another one.")
            identity = self._identity(carrier, request)
            user = guest_name(identity.user, identity.cluster)
            wish = Wish(request.host, request.port)
            joins = request.visitor.login == JOIN_LOGIN
            reached = await self._connector.connect(wish, partial(self._visible, carrier, identity, wish, joins=joins))
        except TeleportError as error:
            logger.info("%s of %s: %s", request.host[:80], user or carrier.cluster, one_line(str(error)))
            self._view.audit.emit(
                EventType.PROXY_REJECTED,
                user=user,
                node=request.host[:256],
                error=str(error)[:1024],
                **_from(carrier, request),
            )
            channel.write_error(told(error))
            return ENDED
        self._view.audit.emit(
            EventType.PROXY_CONNECT,
            user=user,
            login=request.visitor.login[:64],
            node_id=str(reached.route.node.id),
            node=reached.route.node.name,
            **{"addr.node": str(reached.route.address)},
            **_from(carrier, request),
        )
        ended = await channel.relay(reached.sock)
        if ended.error is not None and ended.by_far:
            error_text = ended.error.strerror or str(ended.error)
            channel.write_error(told(Unavailable(f"the connection to {reached.label} broke: {error_text}")))
        return ENDED if ended.by_far else OK

    async def nodes(self, carrier: Carrier, request: Nodes) -> bytes:
        """Return, as a JSON array, the nodes that somebody sees who has signed for it. Raises TeleportError."""
        identity = prove(
            Claim(certificate=request.certificate, signature=request.signature, time=request.time),
            request.method,
            request.target,
            cluster=carrier.cluster,
            trust=self._user_trust(carrier),
            now=self._clock.now(),
            here=f"the proxy of cluster {self._view.name}",
        )
        target = urlsplit(request.target)
        query = parse_qs(target.query, keep_blank_values=True)
        if (request.method, target.path) != ("GET", NODES_PATH) or query.get("cluster") != [self._view.name]:
            raise AccessDenied(f"user {identity.user} has signed another request than one for nodes of this cluster")
        wanted = read_filter({name: values for name, values in query.items() if name in ("label", "search")})
        user, roles = self._guest(carrier, identity)
        return await nodes_json(sight(user, roles), wanted, await self._view.nodes())

    def stopping(self) -> None:
        """Take no more visitors; those that are there go on."""
        self._stopping = True

    async def wait_gone(self, seconds: float) -> None:
        """Wait until the last visitor has gone, for so long at most."""
        if self._serving:
            await asyncio.wait(self._serving, timeout=seconds)

    # --- who it is, and what is visible ---------------------------------------------------------------------------

    def _identity(self, carrier: Carrier, request: Connect) -> UserIdentity:
        identity = verify_user(request.visitor.certificate.encode(), self._user_trust(carrier), self._clock.now())
        login = request.visitor.login
        if login not in identity.logins and not (login == JOIN_LOGIN and identity.join_sessions):
            raise AccessDenied(f"the certificate of user {identity.user} is not for {login[:64]!a}")
        if identity.force_command is not None:
            raise AccessDenied("the certificate is for one command, and a proxy runs none")
        if not request.host.strip() or not request.host.isprintable():
            raise InvalidInput("the name of the node is empty, or has control characters in it")
        return identity

    def _visible(self, carrier: Carrier, identity: UserIdentity, wish: Wish, *, joins: bool) -> Visible:
        user, roles = self._guest(carrier, identity)
        return visible_to(user, roles, wish, joins=joins)

    def _guest(self, carrier: Carrier, identity: UserIdentity) -> tuple[User, Mapping[str, Role]]:
        """Return the visitor as this cluster's mapping has it at the moment. Raises AccessDenied."""
        return guest(identity.user, identity.roles, welcome_of(self._peer(carrier)), self._view.people.roles)

    def _user_trust(self, carrier: Carrier) -> Trust:
        """Return what proves people of the root, and nobody else."""
        return trust_in({carrier.cluster: self._peer(carrier)}, AuthorityType.USER)

    def _peer(self, carrier: Carrier) -> TrustedPeer:
        peer = self._trusting.peer(carrier.cluster)
        if peer is None or not peer.is_root:
            raise AccessDenied(f"cluster {carrier.cluster} is not trusted here any more")
        return peer


def _from(carrier: Carrier, request: Connect) -> dict[str, str]:
    """Return the fields that say where a visitor comes from: who carries is proved, `addr.client` is its word."""
    return {
        "cluster": carrier.cluster,
        "proxy": carrier.proxy,
        "addr.remote": carrier.address,
        "addr.client": request.visitor.address[:128],
    }
