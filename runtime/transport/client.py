"""One way to open an SSH connection: `connect`. The server is known by its certificate or not at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import asyncssh
from asyncssh.connection import _connect
from cryptography.hazmat.primitives.serialization import SSHCertificateType

from runtime.core.errors import AccessDenied, Unavailable
from runtime.transport.algorithms import SIGNATURES
from runtime.transport.certificate import Shown, check_certificate
from runtime.transport.guards import Guards, OnRefused
from runtime.transport.limits import Limits
from runtime.transport.options import client_options

VerifyHost = Callable[[str, bytes], None]
"""Says whether a host certificate is the named server's: `(name, certificate line)`. Raises AccessDenied.

It must not block and cannot await.
"""


class ClientConnection(Guards, asyncssh.SSHClientConnection):
    """asyncssh's client connection with our guards. `host_certificate` is the server's, once connected."""

    host_certificate: Shown | None = None
    denied: AccessDenied | None = None
    """Why the server was not believed."""

    def verify_with(self, name: str, verify_host: VerifyHost) -> None:
        """Set who decides; called once, right after construction."""
        self._name = name
        self._verify_host = verify_host

    def validate_server_host_key(self, key_data: bytes) -> asyncssh.SSHKey:
        """Return the key whose signature the server owes, if its certificate is approved.

        A7: 2.24.1 shows its callback the authority's key only. A4, A5: and has no rule for principals or algorithms.
        """
        try:
            shown = check_certificate(key_data, SSHCertificateType.HOST)
            self._verify_host(self._name, shown.line)
        except AccessDenied as error:
            self.denied = error
            raise asyncssh.HostKeyNotVerifiable(str(error)) from error
        # Only a certificate that passed reaches asyncssh, which checks dates, principals and then the signature.
        self.host_certificate = shown
        key = super().validate_server_host_key(key_data)
        # A5: 2.24.1 would take RSA with SHA-1 here, whatever was negotiated.
        key.all_sig_algorithms = {name.encode() for name in SIGNATURES} & set(key.all_sig_algorithms)
        return key


class ClientOwner(asyncssh.SSHClient):
    """asyncssh's callbacks of one connection; only an approved authority is left of its ways to trust a server."""

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Take the connection."""
        self._connection = cast("ClientConnection", conn)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Refuse a key without a certificate."""
        return False

    def validate_host_ca_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Accept the authority if its certificate was approved."""
        return self._connection.host_certificate is not None


async def connect(
    address: str,
    port: int,
    *,
    name: str,
    login: str,
    key: bytes,
    certificate: bytes,
    verify_host: VerifyHost,
    limits: Limits | None = None,
    connect_timeout: float = 30,
    reach_timeout: float | None = None,
    sock: socket.socket | None = None,
    tunnel: asyncssh.SSHClientConnection | None = None,
    agent_path: str | None = None,
    on_refused: OnRefused | None = None,
) -> ClientConnection:
    """Connect to the server certified as `name` and log in; the connection closes at the end of an `async with`.

    `key` and `certificate` are the contents of OpenSSH files, `connect_timeout` is in seconds and covers everything
    up to the login; `reach_timeout` is for TCP alone, where a dead address should cost less. With `tunnel` the address
    is reached through that connection, with `sock` it is connected already. With `agent_path` the ssh-agent that
    listens there is lent to the server's sessions.

    Raises InvalidInput for a key or certificate that cannot be used, AccessDenied when the server is not the one named
    or does not let us in, and Unavailable when there is no answer in time.
    """
    limits = limits or Limits()
    settings = client_options(limits, login=login, name=name, key=key, certificate=certificate, agent_path=agent_path)
    where = f"{name} ({address} port {port})"
    try:
        options: asyncssh.SSHClientConnectionOptions = await asyncssh.SSHClientConnectionOptions.construct(
            **settings, host=address, port=port, tunnel=tunnel, proxy_command=None, client_factory=ClientOwner
        )
    except ValueError as error:
        # 2.24.1 asks who runs this process, also where nobody wants to know.
        raise Unavailable(
            f"{where} cannot be reached: {error}",
            hint="Either too many files are open (ulimit -n), or this process's user has no name: set LOGNAME to any.",
        ) from error
    loop = asyncio.get_running_loop()
    made: list[ClientConnection] = []
    patience = asyncio.timeout(min(connect_timeout, reach_timeout or connect_timeout))
    end = loop.time() + connect_timeout

    def factory() -> ClientConnection:
        if not patience.expired():
            patience.reschedule(end)
        connection = ClientConnection(loop, options, wait="auth")
        connection.guard(limits, on_refused)
        connection.verify_with(name, verify_host)
        made.append(connection)
        return connection

    try:
        async with patience:
            # What asyncssh.connect calls, with the class of connection as the one difference.
            return await _connect(options, None, loop, 0, sock, factory, "Connecting to")
    except asyncssh.HostKeyNotVerifiable as error:
        hint = next((connection.denied.hint for connection in made if connection.denied), "")
        raise AccessDenied(f"{where} cannot prove that it is {name}: {error.reason}", hint=hint) from error
    except asyncssh.KeyExchangeFailed as error:
        raise AccessDenied(
            f"{where} shares no algorithm with us: {error.reason}",
            hint="Does it have a host certificate? Servers that show a plain key only are not believed.",
        ) from error
    except asyncssh.PermissionDenied as error:
        raise AccessDenied(f"{where} does not accept the certificate for login {login!r}") from error
    except TimeoutError as error:
        seconds = connect_timeout if made else min(connect_timeout, reach_timeout or connect_timeout)
        raise Unavailable(f"{where} did not answer within {seconds:g} s") from error
    except (OSError, asyncssh.Error) as error:
        raise Unavailable(f"{where} cannot be reached: {error}") from error
