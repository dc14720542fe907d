"""Connections on which who dials is the SSH server, and who is dialled its client: a tunnel out of a closed network.

    dial_reverse      dials, serves SSH on that connection, and lets one client log in to it
    listen_reverse    takes such connections, and logs in to each

Each end is known by a certificate as everywhere: the one that dials shows a host certificate, the other a member's. As
on every port of ours it is the caller that says whom to believe; here both may.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import asyncssh
from asyncssh.constants import DISC_TOO_MANY_CONNECTIONS

from runtime.core.clock import Clock, SystemClock
from runtime.core.errors import AccessDenied, TeleportError, Unavailable
from runtime.transport.admission import Admission, Visit
from runtime.transport.capture import IdentityT, Proved, ServerConnection, Validate
from runtime.transport.client import ClientConnection, ClientOwner
from runtime.transport.door import Door
from runtime.transport.guards import Guards, OnRefused, Peer
from runtime.transport.limits import Limits
from runtime.transport.options import client_options, server_options
from runtime.transport.server import CertificateOwner, Handler, construct

logger = logging.getLogger(__name__)

DialledT = TypeVar("DialledT")


# --- who dials, and serves ---------------------------------------------------------------------------------------


class _DialledOwner(CertificateOwner[IdentityT]):
    """asyncssh's callbacks of the connection that we dialled; sessions are all that its client may open."""

    def __init__(
        self,
        made: Callable[[Proved[IdentityT], asyncssh.SSHServerConnection], Handler],
        ready: asyncio.Future[Proved[IdentityT]],
    ) -> None:
        super().__init__()
        self._made = made
        self._ready = ready

    def logged_in(self, proved: Proved[IdentityT]) -> Handler | None:
        handler = self._made(proved, self._connection)
        if not self._ready.done():
            self._ready.set_result(proved)
        return handler

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ready.done():
            self._ready.set_exception(exc or ConnectionResetError("the other side hung up"))
        super().connection_lost(exc)


async def dial_reverse(
    sock: socket.socket,
    made: Callable[[Proved[IdentityT], asyncssh.SSHServerConnection], Handler],
    *,
    host_key: bytes,
    host_certificate: bytes,
    validate: Validate[IdentityT],
    limits: Limits,
) -> ServerConnection[IdentityT]:
    """Serve SSH on a connected socket, which is the connection's from now on; return it once its client has logged in.

    `made` makes the handler of the client that `validate` has let in. Raises InvalidInput for a key or certificate that
    cannot be used, AccessDenied when the client was refused or refuses us, and Unavailable when it is none, or is gone.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[Proved[IdentityT]] = loop.create_future()
    denied: list[AccessDenied] = []
    connection: ServerConnection[IdentityT] | None = None

    def checked(login: str, certificate: bytes, peer: Peer) -> IdentityT:
        try:
            return validate(login, certificate, peer)
        except AccessDenied as error:
            denied.append(error)
            raise

    try:
        options = server_options(limits, host_key=host_key, host_certificate=host_certificate)
        settings = await construct(options)
        connection = ServerConnection[IdentityT](loop, settings)
        connection._protocol_factory = lambda: _DialledOwner(made, ready)
        connection.guard(limits, None)
        connection.accept_with(checked, None)
        made_connection = connection
        await loop.create_connection(lambda: made_connection, sock=sock)
        await ready
    except BaseException as error:
        if connection is None or connection._transport is None:
            sock.close()
        else:
            connection.abort()
        if ready.done() and not ready.cancelled():
            ready.exception()  # it was told, or nobody waits any more
        if denied and not isinstance(error, asyncio.CancelledError | TeleportError):
            raise denied[-1] from error
        if isinstance(error, asyncssh.DisconnectError):
            raise _told(error) from error
        if isinstance(error, OSError | asyncssh.Error):
            raise Unavailable(str(error) or "the other side hung up") from error
        raise
    return connection


def _told(error: asyncssh.DisconnectError) -> TeleportError:
    """Return what a client said that hung up, or what was wrong with it."""
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        return AccessDenied(f"it does not believe us: {error.reason}")
    if isinstance(error, asyncssh.ConnectionLost):
        return Unavailable(error.reason)
    if isinstance(error, asyncssh.ProtocolError | asyncssh.ProtocolNotSupported | asyncssh.KeyExchangeFailed):
        return Unavailable(f"it is no port for tunnels: {error.reason}")
    return AccessDenied(f"it hung up: {error.reason}")


# --- who is dialled, and logs in -----------------------------------------------------------------------------------


VerifyServer = Callable[[bytes], DialledT]
"""Says who it is that has dialled and shows that host certificate (its line). Raises AccessDenied; must not block."""

OnLogin = Callable[["ReverseConnection", DialledT], None]
"""Told of each connection that has logged in, which is open then."""


class ReverseConnection(ClientConnection):
    """A client's connection to somebody who dialled us."""

    visit: Visit
    complained = False
    """Whether a reason was told why it ends."""

    def refused(self, reason: str) -> None:
        """Log one refusal, and report it."""
        self.complained = True
        super().refused(reason)


class _CalledOwner(ClientOwner, Generic[DialledT]):
    """Also tells the listener of its connection's beginning and end."""

    def __init__(self, listener: ReverseListener[DialledT]) -> None:
        self._listener = listener
        self._logged_in = False
        self._connection: ReverseConnection

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self._connection = cast("ReverseConnection", conn)

    def auth_completed(self) -> None:
        self._logged_in = self._listener.logged_in(self._connection)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.left(self._connection, exc, logged_in=self._logged_in)


class ReverseListener(Door, Generic[DialledT]):
    """One port; made by `listen_reverse`, closed at the end of an `async with`."""

    def __init__(
        self,
        verify: VerifyServer[DialledT],
        *,
        on_login: OnLogin[DialledT],
        on_left: Callable[[ReverseConnection], None],
        name: str,
        limits: Limits,
        admission: Admission,
        on_refused: OnRefused | None,
    ) -> None:
        super().__init__(limits=limits, admission=admission, on_refused=on_refused)
        self._verify = verify
        self._on_login = on_login
        self._on_left = on_left
        self._name = name
        self._settings: asyncssh.SSHClientConnectionOptions

    async def prove_with(self, *, login: str, key: bytes, certificate: bytes) -> None:
        """Log in with that at connections that come from now on. Raises InvalidInput."""
        options = client_options(self._limits, login=login, name=self._name, key=key, certificate=certificate)
        self._settings = await asyncssh.SSHClientConnectionOptions.construct(
            **options, host="", port=0, tunnel=None, proxy_command=None
        )

    def begins(self, visit: Visit, transport: asyncio.Transport) -> None:
        """Log in."""
        connection = ReverseConnection(asyncio.get_running_loop(), self._settings)
        connection.visit = visit
        connection._protocol_factory = lambda: _CalledOwner(self)
        connection.guard(self._limits, self._on_refused)

        def verify(name: str, line: bytes) -> None:
            self._verify(line)

        connection.verify_with(self._name, verify)
        self.hand_over(connection, visit, transport)

    def logged_in(self, connection: ReverseConnection) -> bool:
        """Count a login, and tell of it; return whether it stays."""
        shown = connection.host_certificate
        if shown is None:
            connection.abort()
            return False
        try:
            who = self._verify(shown.line)
            self.admission.login(connection.visit, str(who))
            self._on_login(connection, who)
        except AccessDenied as error:
            connection.refused(str(error))
            connection.disconnect(DISC_TOO_MANY_CONNECTIONS, str(error))
            return False
        return True

    def left(self, connection: ReverseConnection, exc: Exception | None, *, logged_in: bool) -> None:
        """Count the connection no longer, and penalise its source for what it did."""
        self._connections.pop(cast("Guards", connection), None)
        penalties = self._limits.penalties
        if connection.broke_protocol:
            self.admission.punish(connection.visit, penalties.protocol_error)
        elif connection.visit.user is None:
            if not connection.complained and (reason := connection.denied or exc) is not None:
                self.refused(connection.peer, f"no tunnel: {reason}")
            attempted = connection.denied is not None
            self.admission.punish(
                connection.visit, penalties.authentication_failed if attempted else penalties.no_attempt
            )
        self.admission.leave(connection.visit)
        if logged_in:
            self._on_left(connection)


async def listen_reverse(
    verify: VerifyServer[DialledT],
    *,
    on_login: OnLogin[DialledT],
    on_left: Callable[[ReverseConnection], None],
    address: str,
    port: int,
    name: str,
    login: str,
    key: bytes,
    certificate: bytes,
    limits: Limits,
    on_refused: OnRefused | None = None,
    clock: Clock | None = None,
) -> ReverseListener[DialledT]:
    """Take connections of servers that are certified as `name`, log in to each as `login`, and tell `on_login`.

    Raises InvalidInput for a key or certificate that cannot be used, Unavailable when the address cannot be had.
    """
    listener = ReverseListener(
        verify,
        on_login=on_login,
        on_left=on_left,
        name=name,
        limits=limits,
        admission=Admission(limits, clock=clock or SystemClock()),
        on_refused=on_refused,
    )
    await listener.prove_with(login=login, key=key, certificate=certificate)
    await listener.open(address, port)
    return listener
