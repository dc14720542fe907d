"""One tunnel of a leaf: dialled, kept while it stands, and dialled again; and what the root asks for on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from runtime.core.errors import AccessDenied, AlreadyExists, TeleportError, Unavailable
from runtime.pki.claims import MemberRole
from runtime.pki.identity import MemberIdentity
from runtime.pki.verify import verify_member
from runtime.transport.capture import Proved, ServerConnection
from runtime.transport.gateway import GatewayChannel, GatewaySession
from runtime.transport.reverse import dial_reverse
from runtime.transport.server import Handler
from runtime.tunnel import protocol
from runtime.tunnel.backoff import REFUSED_SECONDS, Backoff
from runtime.tunnel.leaf import Carrier, Root
from runtime.tunnel.status import TunnelStatus

if TYPE_CHECKING:
    from runtime.tunnel.agent import Agent

logger = logging.getLogger(__name__)

DIAL_SECONDS = 5.0
"""How long TCP may take to connect; a SYN that was dropped while the network was cut is not waited for."""
LOGIN_SECONDS = 30.0
"""How long the root may take to log in and to say hello: thousands may have come at once."""
ELSEWHERE_SECONDS = 60.0
"""The longest pause before an address is tried again that the root told of and that never worked from here."""
RENEWING_SECONDS = 2.0
"""Within how long a tunnel is renewed whose root has another authority: the old one does as well for so long."""
STEADY_SECONDS = 10.0
"""After a tunnel that has stood for less the pauses grow: a root that takes tunnels and drops them is not chased."""
EXPIRING = timedelta(hours=1)
"""How long before the root's certificate is over a new tunnel is opened, or an eighth of its time if that is less."""
RESTING_SECONDS = 60.0
"""How long a keeper rests whose proxy has a tunnel, if nothing happens before."""


class Line(Handler):
    """One tunnel, from the root's login to its end: the SSH server's part."""

    def __init__(
        self, keeper: Keeper, proved: Proved[MemberIdentity], connection: ServerConnection[MemberIdentity]
    ) -> None:
        self._keeper = keeper
        self.proxy = proved.identity.host_id
        self.connection = connection
        self.end = protocol.LeafEnd(root=proved.identity.cluster, proxy=self.proxy)
        self.greeted = asyncio.Event()
        self.spare = False
        """Whether there is a tunnel to that proxy already: this one is not wanted."""
        self.gone = asyncio.Event()
        self.since: datetime | None = None
        self.proxies: tuple[protocol.Place, ...] = ()
        """Those of the root, as it last told here."""
        self.signer = ""
        """Fingerprint of the authority that has signed what the root's proxy logs in with by now, as it last told."""
        self._proof = proved.identity.proof
        self._authority = self._proof.authority
        self.reason = ""
        """Why we end it."""
        self._serving: set[asyncio.Task[Any]] = set()

    @property
    def expires(self) -> datetime:
        """When the certificate is over by which the root has proved itself."""
        return self._proof.valid_before

    def expires_soon(self, now: datetime) -> bool:
        """Tell whether a new tunnel should come beside this one, with the certificate that the root has by now."""
        lifetime = self._proof.valid_before - self._proof.valid_after
        return self.expires - now < min(EXPIRING, lifetime / 8)

    def hang_up(self, reason: str) -> None:
        """End it."""
        self.reason = self.reason or reason
        self.connection.close()

    @property
    def carried(self) -> int:
        """How many people are on it."""
        return len(self._serving)

    @property
    def is_outdated(self) -> bool:
        """Whether the authority that proved this tunnel has gone, or goes soon: another one signs, which is known."""
        root = self._keeper.root
        if root.trust.find(self._authority.key.blob) != self._authority:
            return True
        return self.signer not in ("", self._authority.key.fingerprint) and root.has_signer(self.signer)

    def session_requested(self) -> GatewaySession:
        """Serve a request, unless the root is not trusted any more. Raises AccessDenied."""
        if self._keeper.root.trust.find(self._authority.key.blob) != self._authority:
            raise AccessDenied(f"the {self._authority} is not trusted here any more")
        return GatewaySession(self._serve)

    def closed(self) -> None:
        """Tell the keeper that the tunnel is gone."""
        self.gone.set()

    async def _serve(self, subsystem: str | None, channel: GatewayChannel) -> int:
        try:
            request = self.end.receive(subsystem)
        except TeleportError as error:
            # Nobody honest asks so: the tunnel ends, and the log says why.
            self._keeper.broken(self, error)
            channel.write(protocol.write_error(error))
            self.connection.close()
            return 1
        match request:
            case protocol.Hello():
                if not self._keeper.wants(self):
                    self.spare = True
                    channel.write(protocol.write_error(AlreadyExists("there is a tunnel to this proxy already")))
                    return 1
                self.since = self.since or self._keeper.agent.clock.now()
                self.proxies = request.proxies
                self.signer = request.signer
                self._keeper.told(self)
                channel.write(protocol.write_result(self._keeper.agent.welcome()))
                self.greeted.set()
                if request.successions:
                    self._keeper.agent.heard(self.end.root, request.successions)
                self._keeper.reconsider()
                return 0
            case protocol.Nodes():
                return await self._answer(self._keeper.agent.serve_nodes(self._keeper.carrier(self), request), channel)
            case protocol.Connect():
                task = asyncio.current_task()
                if task is not None:
                    self._serving.add(task)
                    task.add_done_callback(self._served)
                return await self._keeper.agent.serve_connect(self._keeper.carrier(self), request, channel)

    def _served(self, task: asyncio.Task[Any]) -> None:
        self._serving.discard(task)
        if not self._serving:
            self._keeper.idle(self)

    async def _answer(self, answering: Awaitable[bytes], channel: GatewayChannel) -> int:
        try:
            channel.write(protocol.write_json_result(await answering))
        except TeleportError as error:
            channel.write(protocol.write_error(error))
            return 1
        return 0


class Keeper:
    """Keeps a tunnel to one proxy of a root, or to whichever is at the address of its document."""

    def __init__(self, agent: Agent, root: Root, address: str, proxy: str) -> None:
        """`proxy` is the id of one that the root told of, whose word alone then speaks for the address."""
        self.agent = agent
        self.root = root
        self.address = address
        self.proxy = proxy
        self.told_of = bool(proxy)
        self.line: Line | None = None
        self.coming: Line | None = None
        """One that was greeted, a moment before it is `line`."""
        self.error = ""
        self._worked = False
        self._renewed_for: str | None = None
        """What a tunnel was last renewed for: who goes on to say what is not so is not obeyed again and again."""
        self._backoff = Backoff(agent.rng)
        self._old: set[Line] = set()
        """Those that a new one has taken the place of, with somebody still on them."""
        self._renewed_at: datetime | None = None
        """The end of the root's certificate for which a tunnel was last renewed: the next may have the same."""
        self.renewing = asyncio.Event()
        self.wake = asyncio.Event()
        """Set where it is worth a look again before the pause is over."""

    async def run(self) -> None:
        """Dial, and dial again, until cancelled."""
        try:
            while True:
                if self.agent.has_tunnel(self):
                    self.error = ""
                    self._backoff.reset()
                    await self._rest(RESTING_SECONDS)
                else:
                    longest = await self._once()
                    await self._rest(self._backoff.pause(longest=longest))
        finally:
            for line in (self.line, *self._old):
                if line is not None:
                    line.connection.close()

    def reconsider(self) -> None:
        """Have a new tunnel soon beside one that is outdated: not all leaves in the same moment."""
        line = self.line
        if line is not None and line.is_outdated and self._renewed_for != line.signer:
            asyncio.get_running_loop().call_later(self.agent.rng.uniform(0, RENEWING_SECONDS), self._renew, line)

    def _renew(self, line: Line) -> None:
        if line is self.line:
            self._renewed_for = line.signer
            self.renewing.set()

    async def _rest(self, seconds: float) -> None:
        """Wait for so long, or until it is worth a look again."""
        self.wake.clear()
        # Not `wait_for`, which in Python 3.11 loses a cancellation that comes together with the event.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.wake.wait()

    async def _once(self) -> float | None:
        """Keep one tunnel from its beginning to its end; return how long the pause may be at most."""
        try:
            line = await self._connect()
        except AccessDenied as error:
            self._failed(error)
            return REFUSED_SECONDS
        except TeleportError as error:
            self._failed(error)
            return ELSEWHERE_SECONDS if self.told_of and not self._worked else None
        if line is None:
            return None
        self.line, self.coming, self.error, self._worked = line, None, "", True
        began = asyncio.get_running_loop().time()
        self.agent.happened(self, line.proxy, up=True)
        self.told(line)
        self.reconsider()
        await self._while_up(line)
        if asyncio.get_running_loop().time() - began >= STEADY_SECONDS:
            self._backoff.reset()
        return None

    async def _while_up(self, line: Line) -> None:
        """Wait until the tunnel is gone; one whose certificate was renewed is left to a new one, and then let go."""
        self.renewing.clear()
        waiting = [asyncio.ensure_future(each.wait()) for each in (line.gone, self.renewing)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        self.line = None
        if line.gone.is_set():
            self.agent.happened(self, line.proxy, up=False, reason=line.reason)
            return
        # The root closes it once the new one is up and nobody is on it.
        self._old.add(line)
        self.wake.set()

    async def _connect(self) -> Line | None:
        """Return a tunnel on which the root has said hello; None where it led to a proxy that has one.

        Raises AccessDenied, Unavailable, InvalidInput.
        """
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                sock = await self.agent.dial(self.address, self.told_of)
        except TimeoutError:
            raise Unavailable(f"{self.address} does not answer within {DIAL_SECONDS:g} s") from None
        except TeleportError as error:
            text = str(error)
            raise type(error)(text if self.address in text else f"{self.address}: {text}", hint=error.hint) from error
        credentials = self.agent.credentials()
        lines: list[Line] = []

        def made(proved: Proved[MemberIdentity], connection: Any) -> Handler:
            lines.append(Line(self, proved, connection))
            return lines[-1]

        connection = None
        try:
            async with asyncio.timeout(LOGIN_SECONDS):
                connection = await dial_reverse(
                    sock,
                    made,
                    host_key=credentials.host_key,
                    host_certificate=credentials.host_certificate,
                    validate=self._validate,
                    limits=self.agent.limits,
                )
                await _first(lines[0].greeted, lines[0].gone)
        except BaseException as error:
            self.coming = None
            if connection is not None:
                connection.abort()
            if isinstance(error, TimeoutError):
                raise Unavailable(
                    f"{self.address} does not log in within {LOGIN_SECONDS:g} s: is it a proxy's port for tunnels?",
                    hint="That is 3024 (tunnel_listen_addr); an SSH server, such as sshd or port 3023, waits for us to "
                    "log in.",
                ) from error
            if isinstance(error, TeleportError):
                raise type(error)(f"{self.address}: {error}", hint=error.hint) from error
            raise
        line = lines[0]
        if line.spare:
            return None
        if not line.greeted.is_set():
            raise AccessDenied(
                f"{self.address}: the root hung up without a hello",
                hint=f"Does cluster {self.root.cluster} trust this one? Its proxy's log says why it hung up.",
            )
        return line

    def end_expired(self, now: datetime) -> None:
        """End what rests on a certificate that is over, and renew what soon will, once for each certificate."""
        for line in (self.line, *self._old):
            if line is not None and now >= line.expires and not line.gone.is_set():
                line.hang_up("the certificate of the root's proxy has expired")
        line = self.line
        if line is not None and now < line.expires != self._renewed_at and line.expires_soon(now):
            self._renewed_at = line.expires
            self.renewing.set()

    def _validate(self, login: str, certificate: bytes, peer: object) -> MemberIdentity:
        """Return who logs in, if it is a proxy of the root. Raises AccessDenied."""
        if not self.root.keys:
            raise AccessDenied(
                f"the host CA of cluster {self.root.cluster} has ended, by its own word, and none leads on from it",
                hint=f"Join it anew, with a new token or its new keys: tctl auth ls on {self.root.cluster} shows them.",
            )
        identity = verify_member(certificate, self.root.trust, self.agent.clock.now())
        if identity.role is not MemberRole.PROXY:
            raise AccessDenied(f"it is a member of role {identity.role}; only a proxy takes tunnels")
        if identity.cluster != self.root.cluster:
            raise AccessDenied(f"it is of cluster {identity.cluster}; the tunnel is to {self.root.cluster}")
        if login != f"{identity.role}.{identity.host_id}":
            raise AccessDenied(f"its certificate is not for the login {login[:64]!a}")
        return identity

    def wants(self, line: Line) -> bool:
        """Tell whether a tunnel on which the root says hello is to be, and that it is about to be then."""
        if line.since is not None:
            return True  # the root tells of a change
        if self.agent.other(self, line):
            return False
        self.coming = line
        return True

    def carrier(self, line: Line) -> Carrier:
        """Return who carries on a tunnel."""
        return Carrier(self.root.cluster, line.proxy, self.address)

    def told(self, line: Line) -> None:
        """Learn where the root's proxies are, once the tunnel on which it is told counts."""
        if line is self.line:
            self.agent.learned(self.root.cluster)

    def idle(self, line: Line) -> None:
        """Let a tunnel go that another one has taken the place of, now that nobody is on it."""
        if line in self._old:
            self._old.discard(line)
            line.connection.close()

    def broken(self, line: Line, error: TeleportError) -> None:
        """Learn that the root has said what no honest one says."""
        self.error = str(error)
        logger.warning("tunnel to %s at %s: %s", self.root.cluster, self.address, error)
        self.agent.happened(self, line.proxy, up=False, error=str(error))

    def _failed(self, error: TeleportError) -> None:
        text = str(error)
        self.agent.failures[self.root.cluster] += 1
        if text != self.error:
            # Once, and not each time that it is tried.
            logger.warning("no tunnel to cluster %s: %s. %s", self.root.cluster, text, error.hint)
            if isinstance(error, AccessDenied):
                self.agent.happened(self, "", up=False, error=text)
        self.error = text

    @property
    def carried(self) -> int:
        """How many people are on its tunnels."""
        return sum(line.carried for line in (self.line, *self._old) if line is not None)

    def status(self) -> TunnelStatus:
        """Tell how it is."""
        line, now = self.line, self.agent.clock.now()
        if line is None or line.since is None:
            return TunnelStatus(cluster=self.root.cluster, online=False, addr=self.address, error=self.error)
        return TunnelStatus(
            cluster=self.root.cluster,
            online=True,
            peer=line.proxy,
            addr=self.address,
            since=line.since,
            last_heartbeat=max(line.since, now - timedelta(seconds=line.connection.silence())),
        )


async def _first(*events: asyncio.Event) -> None:
    """Wait until one of them is set."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
