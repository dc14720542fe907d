"""The way to auth: SSH on 3025, the subsystem that speaks JSON-RPC, and the names that both ends go by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.core.defaults import AUTH_PORT
from runtime.core.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from runtime.transport.subsystem import OwnedStream

SUBSYSTEM = "auth@teleport.internal"
"""Name of the subsystem (RFC 4254 §6.5: ours, hence with a domain)."""

NOBODY_LOGIN = "nobody"
"""Login of a newcomer, whose certificate is signed by its own key."""

DIAL_SECONDS = 10.0
"""How long one auth server may take to let us in, in seconds."""
REACH_SECONDS = 3.0
"""How long its kernel may take to accept the connection, in seconds. The address of a pod that is gone answers nothing,
and one that stands for several pods (a Service) is led to another only by a new connection."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What a caller of auth proves itself with: contents of OpenSSH files."""

    login: str
    key: bytes = field(repr=False)
    certificate: bytes = field(repr=False)


VerifyHost = Callable[[str, bytes], None]


class Dialer:
    """Opens streams to auth servers as `identity()`, which is asked for each time: certificates are renewed."""

    def __init__(self, identity: Callable[[], Identity], verify_host: VerifyHost, name: str) -> None:
        self._identity = identity
        self._verify_host = verify_host
        self._name = name

    async def dial(self, server: str) -> OwnedStream:
        """Open a stream to host:port. Raises Unavailable, AccessDenied."""
        from runtime.transport.client import connect  # asyncssh takes a second to import
        from runtime.transport.subsystem import open_subsystem

        identity = self._identity()
        host, port = split_address(server, AUTH_PORT)
        connection = await connect(
            host,
            port,
            name=self._name,
            login=identity.login,
            key=identity.key,
            certificate=identity.certificate,
            verify_host=self._verify_host,
            connect_timeout=DIAL_SECONDS,
            reach_timeout=REACH_SECONDS,
        )
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                return await open_subsystem(connection, SUBSYSTEM)
        except BaseException as error:
            connection.abort()
            if isinstance(error, TimeoutError):
                raise Unavailable(f"the auth server at {server} let us in and then said no more") from error
            raise


def split_address(address: str, port: int) -> tuple[str, int]:
    """Return host and port of `host`, `host:port`, `[ipv6]:port` or `ipv6`. Raises InvalidInput."""
    if address.count(":") > 1 and not address.startswith("["):
        return address, port
    host, _, rest = address.rpartition(":") if not address.endswith("]") else (address, "", "")
    if not host:
        return address, port
    if not rest:
        return host.strip("[]"), port
    if not rest.isdecimal() or not 0 < int(rest) < 65536:
        raise InvalidInput(f"{address!a} is not an address", hint="Write it as host:port.")
    return host.strip("[]"), int(rest)
