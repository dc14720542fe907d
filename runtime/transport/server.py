"""One way to start an SSH port: `listen`.

asyncssh does the protocol: key exchange, ciphers, signatures, channels. We add, in this order as a connection meets it,
    who may connect (`admission`), limits on what it sends (`guards`), the proof of one certificate for one login
    (`capture`), whom that is (the service's `validate`), and then the service's `Handler`, which refuses what it does
    not override.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, cast

import asyncssh
from asyncssh.constants import DISC_TOO_MANY_CONNECTIONS, OPEN_ADMINISTRATIVELY_PROHIBITED

from runtime.core.clock import Clock, SystemClock
from runtime.core.errors import AccessDenied
from runtime.transport.admission import Admission, Proxies, Visit
from runtime.transport.capture import IdentityT, OnDenied, Proved, ServerConnection, Validate
from runtime.transport.door import Door
from runtime.transport.guards import OnRefused
from runtime.transport.limits import Limits
from runtime.transport.options import key_pairs, server_options

logger = logging.getLogger(__name__)


class Handler:
    """What one logged-in connection may do; a service overrides what it offers, everything else is refused.

    The methods are asyncssh.SSHServer's of the same names, where their results are described. The first three may raise
    AccessDenied: the channel is refused, and the client told why.
    """

    def session_requested(self) -> Any:
        """Return an asyncssh.SSHServerSession for a shell, command or subsystem; False refuses."""
        return False

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
        """Return an asyncssh.SSHTCPSession for a direct-tcpip channel; False refuses."""
        return False

    def unix_connection_requested(self, dest_path: str) -> Any:
        """Return an asyncssh.SSHUNIXSession for a direct-streamlocal channel; False refuses."""
        return False

    def server_requested(self, listen_host: str, listen_port: int) -> Any:
        """Return an asyncssh.SSHListener for tcpip-forward; False refuses."""
        return False

    def unix_server_requested(self, listen_path: str) -> Any:
        """Return an asyncssh.SSHListener for streamlocal-forward; False refuses."""
        return False

    def closed(self) -> None:
        """Learn that the connection has ended."""


HandlerFactory = Callable[[Proved[IdentityT], asyncssh.SSHServerConnection], Handler]
"""Makes the handler of one connection, once it has logged in."""


class CertificateOwner(asyncssh.SSHServer, Generic[IdentityT]):
    """asyncssh's callbacks of a connection that we serve; of its ways to log in, only an approved authority is left.

    Of what it may open there are sessions; a subclass adds to them.
    """

    _connection: ServerConnection[IdentityT]

    def __init__(self) -> None:
        self._handler = Handler()

    def logged_in(self, proved: Proved[IdentityT]) -> Handler | None:
        """Return the handler of who has logged in; None if the connection was ended instead."""
        raise NotImplementedError

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Keep the connection, which knows what was proved."""
        self._connection = cast("ServerConnection[IdentityT]", conn)

    def begin_auth(self, username: str) -> bool:
        """Let nobody in without a login."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Offer keys, of which certificates are a kind, and nothing else."""
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Accept no plain key."""
        return False

    def validate_ca_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Accept the authority of the certificate that our own check approved."""
        return self._connection.approves_authority()

    def auth_completed(self) -> None:
        """Make the handler of who has logged in."""
        proved = self._connection.proved
        # A1: nothing but what was proved counts, and it must be what asyncssh believes.
        if proved is None or proved.login != self._connection.get_extra_info("username"):
            self._connection.refused("the login that was approved is not the one that asyncssh recorded")
            self._connection.abort()
            return
        self._handler = self.logged_in(proved) or self._handler

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the handler."""
        try:
            self._handler.closed()
        except Exception:  # asyncssh drops it unseen
            logger.exception("the handler of a connection failed to close")

    def session_requested(self) -> Any:
        """Ask the handler."""
        with _channel_refusal():
            return self._handler.session_requested()


class _Owner(CertificateOwner[IdentityT]):
    """asyncssh's callbacks of one connection of a port."""

    def __init__(self, listener: Listener[IdentityT], visit: Visit) -> None:
        super().__init__()
        self._listener = listener
        self._visit = visit

    def logged_in(self, proved: Proved[IdentityT]) -> Handler | None:
        try:
            self._listener.admission.login(self._visit, proved.parsed.key_id.decode("utf-8", "replace"))
        except AccessDenied as error:
            # Disconnecting logs and reports it.
            self._connection.disconnect(DISC_TOO_MANY_CONNECTIONS, str(error))
            return None
        return self._listener.handler_factory(proved, self._connection)

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.left(self._connection, self._visit)
        super().connection_lost(exc)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> Any:
        with _channel_refusal():
            return self._handler.connection_requested(dest_host, dest_port, orig_host, orig_port)

    def unix_connection_requested(self, dest_path: str) -> Any:
        with _channel_refusal():
            return self._handler.unix_connection_requested(dest_path)

    def server_requested(self, listen_host: str, listen_port: int) -> Any:
        return self._handler.server_requested(listen_host, listen_port)

    def unix_server_requested(self, listen_path: str) -> Any:
        return self._handler.unix_server_requested(listen_path)


@contextmanager
def _channel_refusal() -> Iterator[None]:
    """Turn AccessDenied into the failure of a channel to open, as the client shows it."""
    try:
        yield
    except AccessDenied as error:
        raise asyncssh.ChannelOpenError(OPEN_ADMINISTRATIVELY_PROHIBITED, error.in_full) from error


class Listener(Door, Generic[IdentityT]):
    """One SSH port; made by `listen`, closed at the end of an `async with`."""

    def __init__(
        self,
        handler_factory: HandlerFactory[IdentityT],
        *,
        validate: Validate[IdentityT],
        limits: Limits,
        admission: Admission,
        on_refused: OnRefused | None,
        on_denied: OnDenied | None,
        options: dict[str, Any],
    ) -> None:
        super().__init__(limits=limits, admission=admission, on_refused=on_refused)
        self.handler_factory = handler_factory
        self._validate = validate
        self._on_denied = on_denied
        self._options = options
        self._settings: asyncssh.SSHServerConnectionOptions

    async def open(self, address: str, port: int) -> None:
        """Start to listen. Raises Unavailable when the address cannot be had."""
        self._settings = await construct(self._options)
        await super().open(address, port)

    async def update(self, *, host_key: bytes, host_certificate: bytes) -> None:
        """Show another host certificate to connections that come from now on. Raises InvalidInput."""
        self._options = {**self._options, "server_host_keys": key_pairs(host_key, host_certificate)}
        self._settings = await construct(self._options)

    def begins(self, visit: Visit, transport: asyncio.Transport) -> None:
        """Let a connection log in."""
        connection = ServerConnection[IdentityT](asyncio.get_running_loop(), self._settings)
        connection._protocol_factory = lambda: _Owner(self, visit)
        connection.guard(self._limits, self._on_refused)
        connection.accept_with(self._validate, self._on_denied)
        self.hand_over(connection, visit, transport)

    def left(self, connection: ServerConnection[IdentityT], visit: Visit) -> None:
        """Count the connection no longer, and penalise its source for what it did."""
        self._connections.pop(connection, None)
        penalties = self._limits.penalties
        if connection.broke_protocol:
            self.admission.punish(visit, penalties.protocol_error)
        elif visit.user is None:
            if connection.grace_exceeded:
                self.admission.punish(visit, penalties.grace_exceeded)
            elif connection.attempted:
                self.admission.punish(visit, penalties.authentication_failed)
            else:
                self.admission.punish(visit, penalties.no_attempt)
        self.admission.leave(visit)


async def construct(options: dict[str, Any]) -> asyncssh.SSHServerConnectionOptions:
    """Return the settings of a server's connections as asyncssh takes them."""
    settings: asyncssh.SSHServerConnectionOptions = await asyncssh.SSHServerConnectionOptions.construct(**options)
    return settings


async def listen(
    handler_factory: HandlerFactory[IdentityT],
    *,
    address: str,
    port: int,
    host_key: bytes,
    host_certificate: bytes,
    validate: Validate[IdentityT],
    limits: Limits | None = None,
    on_refused: OnRefused | None = None,
    on_denied: OnDenied | None = None,
    clock: Clock | None = None,
    proxies: Proxies = frozenset,
    forward_agent: bool = False,
    forward_x11: bool = False,
) -> Listener[IdentityT]:
    """Start an SSH port that certificates alone can log in to, and return it listening.

    `host_key` and `host_certificate` are the contents of OpenSSH files; port 0 picks a free one. `on_refused` is told
    of each refusal, which is logged too, but of a login that `validate` denies `on_denied`, if there is one.
    `proxies` are exempt from penalties and from the limits of start-ups. Raises InvalidInput for a key or certificate
    that cannot be used and Unavailable when the address cannot be had.
    """
    limits = limits or Limits()
    listener = Listener(
        handler_factory,
        validate=validate,
        limits=limits,
        admission=Admission(limits, clock=clock or SystemClock(), proxies=proxies),
        on_refused=on_refused,
        on_denied=on_denied,
        options=server_options(
            limits,
            host_key=host_key,
            host_certificate=host_certificate,
            forward_agent=forward_agent,
            forward_x11=forward_x11,
        ),
    )
    await listener.open(address, port)
    return listener
