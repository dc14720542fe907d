"""Connecting to the address of a registered node, and to nothing that an address could be abused for."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from runtime.core.errors import AccessDenied, TeleportError, Unavailable
from runtime.service.values import Address

DIAL_SECONDS = 10.0
"""How long a node may take to answer, its name's resolution included."""

_METADATA = frozenset(
    ip_address(text)
    for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "fd00:42::42")
)
"""Where clouds tell a machine its secrets, beside 169.254.0.0/16: Alibaba, Azure, Oracle, AWS, Google, Scaleway."""
_NAT64 = IPv6Network("64:ff9b::/96")
"""An IPv4 address behind a translator (RFC 6052)."""

_ANYWHERE = IPv4Address(0)

IPAddress = IPv4Address | IPv6Address


class Dialler:
    """Dials for one proxy. `own` are the addresses on which its process listens, as they are bound."""

    def __init__(self, own: Sequence[Address], *, loopback: bool, seconds: float = DIAL_SECONDS) -> None:
        """Allow `loopback` where the proxy itself is reached by this machine alone."""
        self._own = tuple(own)
        self._loopback = loopback
        self._seconds = seconds

    async def dial(self, address: Address) -> socket.socket:
        """Return a socket, not blocking, that is connected to it.

        A name is resolved once: what is checked is what is dialled. Raises AccessDenied for an address that nobody is
        connected to, and Unavailable when it does not answer.
        """
        try:
            async with asyncio.timeout(self._seconds):
                return await self._dial(address)
        except TimeoutError as error:
            raise Unavailable(f"it does not answer within {self._seconds:g} s") from error

    async def _dial(self, address: Address) -> socket.socket:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unavailable(f"its name cannot be resolved: {error.strerror or error}") from error
        allowed, refusals = [], []
        for family, _, _, _, target in found:
            try:
                self.check(ip_address(str(target[0])), address.port)
            except (AccessDenied, ValueError) as error:
                refusals.append(error)
            else:
                allowed.append((family, target))
        if not allowed:
            raise refusals[0] if refusals else Unavailable("its name has no address")
        failure: TeleportError = Unavailable("its name has no address")
        for place, (family, target) in enumerate(allowed):
            try:
                # Of several addresses none may use up the time of the others.
                async with asyncio.timeout(None if place == len(allowed) - 1 else self._seconds / len(allowed)):
                    return await _connect(family, target)
            except (OSError, TimeoutError) as error:
                failure = Unavailable(_reason(error))
                failure.__cause__ = error
        raise failure

    def check(self, ip: IPAddress, port: int) -> None:
        """Raise AccessDenied for an address that nobody is connected to, whoever registered it."""
        ip = _unwrapped(ip)
        kind = ""
        if ip.is_link_local or ip in _METADATA:
            kind = "a link-local address or one of cloud metadata"
        elif ip.is_multicast or ip.is_unspecified or ip == IPv4Address("255.255.255.255"):
            kind = "no address of one machine"
        elif ip.is_loopback and not self._loopback:
            kind = "a loopback address, which is another machine for each of us"
        elif self._is_own(ip, port):
            kind = "an address of this proxy itself"
        if kind:
            raise AccessDenied(
                f"{Address(str(ip), port)} is {kind}: the proxy does not connect there",
                hint="Where nodes advertise such an address, set --advertise-ip.",
            )

    def _is_own(self, ip: IPAddress, port: int) -> bool:
        for own in self._own:
            if own.port == port:
                try:
                    listens = _unwrapped(ip_address(own.host))
                except ValueError:
                    listens = _ANYWHERE  # a name of this machine's
                if listens == ip or (listens.is_unspecified and _is_of_this_machine(ip)):
                    return True
        return False


def _unwrapped(ip: IPAddress) -> IPAddress:
    """Return the IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return inner
    return ip


def _is_of_this_machine(ip: IPAddress) -> bool:
    """Tell whether the address is one of an interface here: only those can be bound."""
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.bind((str(ip), 0))
        return True
    return False


async def _connect(family: int, target: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(error: OSError | TimeoutError) -> str:
    match getattr(error, "errno", None):
        case errno.ECONNREFUSED:
            return "it refuses the connection: nothing listens there"
        case errno.EHOSTUNREACH | errno.ENETUNREACH:
            return "there is no way to it from the proxy"
        case None | errno.ETIMEDOUT:
            return "it does not answer"
    return f"it cannot be connected to: {error.strerror or error}"
