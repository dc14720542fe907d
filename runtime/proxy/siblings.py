"""Into a leaf that has no tunnel to this proxy: through another proxy of the cluster, a sibling, that has one.

This proxy logs in to the sibling's SSH port (3023) as the member that it is, and asks there for what it would ask the
leaf for on a tunnel of its own, with what proves who the person is:

    sibling CLUSTER connect {...}    as `runtime.tunnel.protocol` has them
    sibling CLUSTER nodes {...}

The sibling looks at the person itself, and uses its own tunnels only: nothing goes round in a circle. SSH is between
the person and the node, as ever; neither proxy can read it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from runtime.api.tunnel_messages import ProxyTunnels
from runtime.core.clock import Clock
from runtime.core.defaults import PROXY_SSH_PORT
from runtime.core.errors import InvalidInput, TeleportError, Unavailable
from runtime.pki.claims import MemberRole, service_principal
from runtime.pki.verify import verify_host
from runtime.service.directory import Directory
from runtime.service.identity import StoredIdentity
from runtime.service.logs import one_line
from runtime.service.values import parse_peer, shown
from runtime.transport.client import ClientConnection, connect
from runtime.transport.requests import ask, open_far
from runtime.transport.splice import FarChannel
from runtime.tunnel import protocol

logger = logging.getLogger(__name__)

PREFIX = "sibling "
REACH_SECONDS, LOGIN_SECONDS = 3.0, 10.0
"""How long a sibling may take for TCP, and for all up to the login."""
ANSWER_SECONDS = 15.0
"""How long it may take to answer, or to open a channel: the leaf has ten of these."""
MAX_TRIED = 3
"""Siblings that are tried for one person."""

Asked = protocol.Connect | protocol.Nodes


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another proxy of the cluster, and where its SSH port is (host:port)."""

    id: str
    address: str


def write_asked(cluster: str, request: Asked) -> str:
    """Return the subsystem that asks a sibling for it. Raises InvalidInput."""
    return f"{PREFIX}{cluster} {protocol.write_request(request)}"


def parse_asked(subsystem: str | None) -> tuple[str, Asked]:
    """Return what a sibling asks for: the cluster, and what of it. Raises InvalidInput."""
    if subsystem is None or not subsystem.startswith(PREFIX):
        raise InvalidInput(f"a proxy has no subsystem {shown(subsystem or 'but a shell')} for another proxy")
    cluster, _, rest = subsystem.removeprefix(PREFIX).partition(" ")
    request = protocol.parse_request(rest)
    if isinstance(request, protocol.Hello):
        raise InvalidInput("a sibling needs no hello")
    return cluster, request


class Siblings:
    """The other proxies of the cluster, as they told auth of their tunnels."""

    def __init__(self, identity: Callable[[], StoredIdentity], directory: Directory, clock: Clock) -> None:
        self._identity = identity
        self._directory = directory
        self._clock = clock
        self._holders: dict[str, tuple[str, ...]] = {}
        """The ids of those that have a tunnel, by cluster."""

    def learn(self, told: Iterable[ProxyTunnels]) -> None:
        """Take what all proxies tell of their tunnels."""
        own = str(self._identity().id)
        holders: dict[str, list[str]] = {}
        for proxy in told:
            if str(proxy.proxy_id) != own:
                for cluster in {each.cluster for each in proxy.tunnels if each.side == "root" and each.online}:
                    holders.setdefault(cluster, []).append(str(proxy.proxy_id))
        self._holders = {cluster: tuple(ids) for cluster, ids in holders.items()}

    def has_way(self, cluster: str) -> bool:
        """Tell whether one of them told of a tunnel to a cluster."""
        return cluster in self._holders

    async def ask(self, cluster: str, request: protocol.Nodes) -> bytes:
        """Return the leaf's result as JSON. Raises Unavailable, InvalidInput, and what the leaf refused with."""
        failure: TeleportError = Unavailable(f"no other proxy has a tunnel to cluster {cluster}")
        for sibling in await self._with_tunnel(cluster):
            try:
                answer = await self._answer(sibling, write_asked(cluster, request))
            except (TeleportError, TimeoutError) as error:
                failure = _failed(sibling, error)
            else:
                return protocol.read_result(answer)
        raise failure

    async def open(
        self, cluster: str, request: protocol.Connect, far_channel: Callable[[Sibling], FarChannel]
    ) -> tuple[ClientConnection, FarChannel]:
        """Open a channel to a node of a cluster, on a connection for that alone, which the caller closes.

        Raises Unavailable.
        """
        failure: TeleportError = Unavailable(f"no other proxy has a tunnel to cluster {cluster}")
        for sibling in await self._with_tunnel(cluster):
            try:
                connection = await self._connect(sibling)
            except TeleportError as error:
                failure = _failed(sibling, error)
                continue
            far = far_channel(sibling)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await open_far(connection, write_asked(cluster, request), far)
            except (TeleportError, TimeoutError) as error:
                connection.abort()
                failure = _failed(sibling, error)
            except BaseException:
                connection.abort()
                raise
            else:
                return connection, far
        raise failure

    async def _answer(self, sibling: Sibling, asked: str) -> bytes:
        connection = await self._connect(sibling)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await ask(connection, asked, most=protocol.MAX_ANSWER)
        finally:
            connection.close()

    async def _with_tunnel(self, cluster: str) -> Sequence[Sibling]:
        """Return those that have a tunnel and are there, a few at most. Raises Unavailable."""
        holders = self._holders.get(cluster, ())
        found = [
            Sibling(str(entry.presence.id), entry.presence.addr)
            for entry in await self._directory.members()
            if str(entry.presence.id) in holders
        ]
        return found[:MAX_TRIED]

    async def _connect(self, sibling: Sibling) -> ClientConnection:
        """Log in to one. Raises AccessDenied, Unavailable, InvalidInput."""
        identity, name = self._identity(), service_principal(MemberRole.PROXY)
        target = parse_peer(sibling.address, default_port=PROXY_SSH_PORT)

        def verify(server: str, line: bytes) -> None:
            verify_host(line, server, identity.trust, self._clock.now(), cluster=identity.cluster)

        return await connect(
            target.host,
            target.port,
            name=name,
            login=identity.login,
            key=identity.key.get_secret_value().encode(),
            certificate=identity.member_certificate.encode(),
            verify_host=verify,
            connect_timeout=LOGIN_SECONDS,
            reach_timeout=REACH_SECONDS,
        )


def _failed(sibling: Sibling, error: TeleportError | TimeoutError) -> TeleportError:
    why = f"it does not answer within {ANSWER_SECONDS:g} s" if isinstance(error, TimeoutError) else str(error)
    logger.info("through the proxy %s at %s: %s", sibling.id, sibling.address, one_line(why))
    return Unavailable(f"the proxy at {one_line(sibling.address)}, which has a tunnel to it, cannot be used: {why}")
