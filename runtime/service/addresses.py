"""Names and addresses by which others reach this machine (manual, --nodename, --advertise-ip)."""

from __future__ import annotations

import socket
from dataclasses import replace
from ipaddress import ip_address

from runtime.core.errors import InvalidInput, InvalidSettings
from runtime.service.settings import Settings
from runtime.service.values import Address, parse_name

_ELSEWHERE = "192.0.2.1"
"""An address that is nowhere (RFC 5737): the way there is the default route."""


def node_name(settings: Settings, hostname: str | None = None) -> str:
    """Return the name of this machine: as set, else its host name. Raises InvalidSettings for one that cannot be it."""
    if settings.teleport.nodename is not None:
        return settings.teleport.nodename
    try:
        return parse_name(hostname or socket.gethostname())
    except InvalidInput as error:
        raise InvalidSettings(
            f"the host name of this machine cannot be the name of a node: {error}", hint="Name it with --nodename."
        ) from error


def advertised(listen: Address, advertise_ip: str | None, towards: str | None = None) -> Address:
    """Return where others reach a listener: at the IP that is set, else where it listens, else how we go `towards`.

    `towards` is a host of the cluster, an auth server say: the address that this machine goes there from is one that
    the cluster can reach, as long as nothing between translates it (then --advertise-ip is due).
    """
    if advertise_ip is not None:
        return replace(listen, host=advertise_ip)
    if not _is_any(listen.host):
        return listen
    return replace(listen, host=_source(towards or _ELSEWHERE) or _source(_ELSEWHERE) or "127.0.0.1")


def _is_any(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _source(host: str) -> str | None:
    """Return the address from which this machine reaches a host. Nothing is sent: UDP's connect only picks a route."""
    try:
        found = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as sock:
                sock.connect(address)
                source = str(sock.getsockname()[0])
        except OSError:
            continue
        if "%" not in source:  # a zone means something on this machine only
            return source
    return None
