"""The proxy's SSH port (3023): connects people to nodes, whose SSH it carries and cannot read.

    proxy:host:port[@cluster]    bytes to and from that node, which the client's own SSH encrypts
    proxysites                   the clusters behind this proxy, as JSON

Another proxy of the cluster goes through our tunnels here for its people (`runtime.proxy.siblings`).
There is nothing else: no shell, command, file, terminal or forwarding.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import cast

from runtime.audit.events import EventType
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied, InvalidInput, TeleportError, Unavailable
from runtime.core.joining import JOIN_LOGIN
from runtime.pki.identity import MemberIdentity, UserIdentity
from runtime.pki.standing import holder
from runtime.proxy.cluster import ClusterView
from runtime.proxy.connecting import Connector, Visible, visible_to
from runtime.proxy.dialling import Dialler
from runtime.proxy.gate import Gate
from runtime.proxy.routing import Wish, check_cluster, parse_wish
from runtime.proxy.sibling_port import SiblingConnection, is_members, verify_sibling
from runtime.proxy.targets import Targets
from runtime.proxy.words import ENDED, OK, addresses, told, who
from runtime.service.logs import one_line
from runtime.service.values import Address, shown
from runtime.transport.capture import Denied, Proved
from runtime.transport.gateway import GatewayChannel, GatewaySession
from runtime.transport.guards import Peer
from runtime.transport.limits import Limits
from runtime.transport.server import Handler, Listener, listen

logger = logging.getLogger(__name__)

PROXY, SITES = "proxy:", "proxysites"
"""The subsystems: what the first one's name goes on with is a `routing.Wish`."""

FAREWELL_SECONDS = 2.0
"""How long a client may take to read the end of its connection when the service stops."""

HANGING_UP_SECONDS = 0.5
"""How long a client may take to hang up by itself, once its last channel has ended."""


@dataclass(frozen=True, slots=True)
class SSHOptions:
    """What the port needs of teleport.yaml."""

    address: Address
    """Where to listen; port 0 picks a free one."""
    limits: Limits
    own: tuple[Address, ...] = ()
    """What else this process listens on: nobody is connected there."""


class SSHPort:
    """Serves the port. It keeps nothing: of several proxies of a cluster each does the same."""

    def __init__(self, options: SSHOptions, *, view: ClusterView, targets: Targets, clock: Clock) -> None:
        self._options = options
        self._view = view
        self._targets = targets
        self._clock = clock
        self._gate = Gate(view, clock.now)
        self._listener: Listener[UserIdentity | MemberIdentity] | None = None
        self._connector: Connector
        self._serving: set[asyncio.Task[object]] = set()
        self._stopping = False

    async def start(self, *, host_key: bytes, host_certificate: bytes) -> Address:
        """Listen, and return the address that was bound. Raises Unavailable when it cannot be had."""
        self._listener = await listen(
            self._connected,
            address=self._options.address.host,
            port=self._options.address.port,
            host_key=host_key,
            host_certificate=host_certificate,
            validate=self._validate,
            on_denied=self._denied,
            limits=self._options.limits,
            clock=self._clock,
        )
        bound = Address(*self._listener.address)
        # Who reaches a proxy on loopback is on this machine, whose loopback holds nothing new for them.
        dialler = Dialler((bound, *self._options.own), loopback=ip_address(bound.host).is_loopback)
        self._connector = Connector(self._targets, dialler, self._view.name, self._clock)
        return bound

    @property
    def connector(self) -> Connector:
        """What connects to nodes, once it listens: visitors come the same way (`visits`)."""
        return self._connector

    async def renew(self, *, host_key: bytes, host_certificate: bytes) -> None:
        """Show a new host certificate to connections from now on."""
        if self._listener is not None:
            await self._listener.update(host_key=host_key, host_certificate=host_certificate)

    async def stop(self, *, grace: float) -> None:
        """Listen no more, let relays go on for `grace` seconds, and end what is left."""
        self._stopping = True
        if self._listener is None:
            return
        self._listener.close()
        if self._serving:
            logger.info("%d sessions go on for %g s at most", len(self._serving), grace)
            await asyncio.wait(self._serving, timeout=grace)
        # Who was just told how it ended hangs up by itself: ended by us, ssh would take that for a failure.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._listener.wait_closed(), min(grace, HANGING_UP_SECONDS))
        self._listener.end()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._listener.wait_closed(), FAREWELL_SECONDS)
        self._listener.abort()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._listener.wait_closed()

    # --- logins ---------------------------------------------------------------------------------------------------

    def _validate(self, login: str, certificate: bytes, peer: Peer) -> UserIdentity | MemberIdentity:
        """Return who logs in: a person, or another proxy of ours. Raises AccessDenied."""
        if is_members(certificate, self._view):
            return verify_sibling(login, certificate, self._view, self._clock)
        return self._gate.validate(login, certificate, peer)

    def _connected(self, proved: Proved[UserIdentity | MemberIdentity], _: object) -> Handler:
        if isinstance(proved.identity, MemberIdentity):
            return SiblingConnection(cast("Proved[MemberIdentity]", proved), self._view, self._gate, self._enter)
        person = cast("Proved[UserIdentity]", proved)
        self._view.audit.emit(EventType.AUTH, success="true", **who(person))
        return _Connection(self, person)

    def _denied(self, denied: Denied) -> str:
        known = self._view.known or self._view.trust
        user = holder(denied.certificate, known()) if denied.certificate is not None else None
        if user is None:
            return ""
        self._view.audit.emit(
            EventType.AUTH,
            success="false",
            error=str(denied.error),
            user=user,
            login=denied.login[:64],
            **addresses(denied.peer, denied.local),
        )
        return told(denied.error)

    # --- channels -------------------------------------------------------------------------------------------------

    async def serve(self, proved: Proved[UserIdentity], name: str | None, channel: GatewayChannel) -> int:
        """Serve a subsystem, and return the exit status."""
        try:
            self._enter()
            return await self._serve(proved, name, channel)
        except TeleportError as error:
            self.rejected(proved, name, error)
            channel.write_error(told(error))
            return ENDED

    def _enter(self) -> None:
        """Have a stop wait for the task that runs: it serves somebody. Raises Unavailable once one has begun."""
        if self._stopping:
            raise Unavailable("this proxy is stopping", hint="Try another one, or this one when it is back.")
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)

    def rejected(self, proved: Proved[UserIdentity], asked: str | None, error: TeleportError) -> None:
        """Log that somebody did not get what was asked for."""
        logger.info("%s of user %s: %s", shown(asked or "a shell"), proved.identity.user, one_line(str(error)))
        self._view.audit.emit(
            EventType.PROXY_REJECTED, subsystem=(asked or "")[:256], error=str(error)[:1024], **who(proved)
        )

    async def _serve(self, proved: Proved[UserIdentity], name: str | None, channel: GatewayChannel) -> int:
        if name is None:
            raise AccessDenied(
                f"this is the Teleport proxy of cluster {self._view.name}: it has no shell and runs no commands",
                hint="Log in to a node: tsh ssh LOGIN@NODE, or plain ssh as `tsh config` sets it up.",
            )
        if name.startswith(PROXY):
            return await self._connect(proved, name.removeprefix(PROXY), channel)
        if name == SITES:
            self._gate.authorise(proved.identity)
            channel.write(self._sites())
            return OK
        raise InvalidInput(
            f"a proxy has no subsystem {shown(name)}, it has {PROXY}HOST:PORT[@CLUSTER] and {SITES}",
            hint="Files are copied to and from nodes: tsh scp, or scp and sftp as `tsh config` sets them up.",
        )

    async def _connect(self, proved: Proved[UserIdentity], text: str, channel: GatewayChannel) -> int:
        wish = parse_wish(text)
        others = self._view.others
        check_cluster(wish, [self._view.name, *others.names()])
        if wish.cluster is not None and wish.cluster != self._view.name:
            self._gate.authorise(proved.identity)
            return await others.carry(wish.cluster, wish, proved, channel)
        reached = await self._connector.connect(wish, partial(self._visible, proved, wish))
        self._view.audit.emit(
            EventType.PROXY_CONNECT,
            node_id=str(reached.route.node.id),
            node=reached.route.node.name,
            **{"addr.node": str(reached.route.address)},
            **who(proved),
        )
        ended = await channel.relay(reached.sock)
        if ended.error is not None and ended.by_far:
            channel.write_error(
                told(Unavailable(f"the connection to {reached.label} broke: {ended.error.strerror or ended.error}"))
            )
        return ENDED if ended.by_far else OK

    def _visible(self, proved: Proved[UserIdentity], wish: Wish) -> Visible:
        """Return what tells which nodes there are for somebody who still may come in. Raises AccessDenied."""
        user = self._gate.authorise(proved.identity)
        return visible_to(user, self._view.people.roles, wish, joins=proved.login == JOIN_LOGIN)

    def _sites(self) -> bytes:
        others, now = self._view.others, self._clock.now()
        sites = [{"name": self._view.name, "status": "online", "lastConnected": f"{now:%Y-%m-%dT%H:%M:%SZ}"}]
        for name in others.names():
            last = others.last_connected(name)
            status = "online" if others.is_online(name) else "offline"
            connected = f"{last:%Y-%m-%dT%H:%M:%SZ}" if last is not None else ""
            sites.append({"name": name, "status": status, "lastConnected": connected})
        return json.dumps(sites).encode() + b"\n"


class _Connection(Handler):
    """One connection of one person."""

    def __init__(self, port: SSHPort, proved: Proved[UserIdentity]) -> None:
        self._port = port
        self._proved = proved

    def session_requested(self) -> GatewaySession:
        """Serve the subsystems, and nothing else that a session could be."""
        return GatewaySession(partial(self._port.serve, self._proved))

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        """Refuse what `ssh -J` and `ssh -W` ask for, and say what to do."""
        error = AccessDenied(
            "a Teleport proxy forwards no ports, so that it is no jump host for ssh -J",
            hint="Use tsh ssh, or the ProxyCommand that `tsh config` prints",
        )
        self._port.rejected(self._proved, f"direct-tcpip {dest_host[:128]}:{dest_port}", error)
        raise error
