"""What the three kinds of certificates claim. A claim that exists is valid: each checks itself when it is made.

    claims          signed by   OpenSSH type   principals
    UserClaims      user CA     user           logins, and one to join sessions with
    HostClaims      host CA     host           id, name, name.cluster, advertised names, ROLE.teleport.internal
    MemberClaims    host CA     user           ROLE.ID

A member calls other services with the third. The host CA signs it, so that no sshd that trusts the user CA takes a
service for a user. Every refusal is InvalidInput.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from runtime.core.defaults import MAX_CERTIFICATE_TTL, MIN_CERTIFICATE_TTL
from runtime.core.errors import InvalidInput
from runtime.core.joining import JOIN_LOGIN
from runtime.core.resources.names import Login, Name, RoleName, shown

MAX_PRINCIPALS = 256
"""OpenSSH refuses a certificate with more (sshkey.c, SSHKEY_CERT_MAX_PRINCIPALS)."""
MAX_TEXT_CHARACTERS = 1024
"""Of a forced command."""

_LOGIN: TypeAdapter[str] = TypeAdapter(Login)
_NAME: TypeAdapter[str] = TypeAdapter(Name)
_ROLE: TypeAdapter[str] = TypeAdapter(RoleName)
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*\Z"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Network = IPv4Network | IPv6Network
_Element = TypeVar("_Element")


class MemberRole(StrEnum):
    """What a member of the cluster is."""

    AUTH = "auth"
    PROXY = "proxy"
    NODE = "node"
    ADMIN = "admin"
    """No service: tctl, which calls auth and serves nothing."""


_RESERVED = ".teleport.internal"


def service_principal(role: str) -> str:
    """Return the name of every server of a role, such as `auth.teleport.internal`.

    A client that wants any auth server, not one by name, asks for it. No member can be given such a name as its own.
    """
    return f"{role}{_RESERVED}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserClaims:
    """A person who may log in: `ttl` from now on, as `logins`, in `cluster` and where that one is trusted.

    `person` is who the user is (`UserMetadata.id`): to another one of that name the certificate is of no use.
    `source_addresses` are networks to come from, any if there is none. `force_command` is run in place of what was
    asked for. `join_sessions` says whether it may be shown to join sessions where one has no login; roles decide there.
    """

    user: str
    cluster: str
    logins: tuple[str, ...]
    roles: tuple[str, ...]
    ttl: timedelta
    permit_pty: bool = True
    permit_port_forwarding: bool = False
    permit_agent_forwarding: bool = False
    join_sessions: bool = False
    person: str = ""
    source_addresses: tuple[Network, ...] = ()
    force_command: str | None = None

    def __post_init__(self) -> None:
        check_user(self.user)
        check_cluster(self.cluster)
        check_logins(self.logins)
        check_roles(self.roles)
        check_ttl(self.ttl)
        check_list("source_addresses", self.source_addresses)
        if self.force_command is not None:
            check_command(self.force_command)
        check_count(self.principals)

    @property
    def principals(self) -> tuple[str, ...]:
        """What the certificate names: the logins, and what opens the way to sessions of others."""
        return (*self.logins, JOIN_LOGIN) if self.join_sessions else self.logins


@dataclass(frozen=True, slots=True, kw_only=True)
class HostClaims:
    """A member that serves SSH under its names. `principals` is computed; a caller cannot ask for one."""

    host_id: str
    role: MemberRole
    name: str
    cluster: str
    advertised: tuple[str, ...] = ()
    ttl: timedelta
    principals: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        check_host_id(self.host_id)
        check_cluster(self.cluster)
        check_host_name("name", self.name)
        for name in check_list("advertised", self.advertised):
            check_host_name("advertised name", name)
        check_ttl(self.ttl)
        if self.role not in (MemberRole.AUTH, MemberRole.PROXY, MemberRole.NODE):
            raise InvalidInput(f"member role {self.role!r} serves nothing")
        names = [name.lower() for name in (self.host_id, self.name, f"{self.name}.{self.cluster}", *self.advertised)]
        for name in names:
            if name.endswith(_RESERVED):
                raise InvalidInput(f"the name {shown(name)} is reserved for the cluster's services")
        principals = tuple(dict.fromkeys((*names, service_principal(self.role))))
        check_count(principals)
        object.__setattr__(self, "principals", principals)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberClaims:
    """A member that calls other services: auth, proxies, tunnels."""

    host_id: str
    role: MemberRole
    cluster: str
    ttl: timedelta

    def __post_init__(self) -> None:
        check_host_id(self.host_id)
        if not isinstance(self.role, MemberRole):
            raise InvalidInput(f"member role {self.role!r} is none of {', '.join(MemberRole)}")
        check_cluster(self.cluster)
        check_ttl(self.ttl)

    @property
    def principal(self) -> str:
        """`ROLE.ID`; longer than any login can be."""
        return f"{self.role}.{self.host_id}"


Claims = UserClaims | HostClaims | MemberClaims


def check_logins(logins: tuple[str, ...]) -> None:
    """Refuse anything but a list of Unix login names with at least one in it."""
    check_count(check_list("logins", logins))
    for login in logins:
        _check("login", _LOGIN, login)


def check_user(name: str) -> None:
    """Refuse what cannot name a user."""
    _check("user", _NAME, name)


def check_roles(roles: tuple[str, ...]) -> None:
    """Refuse anything but a list of names of roles, generated ones such as `user:joe` included."""
    for role in check_list("roles", roles):
        _check("role", _ROLE, role)


def check_cluster(name: str) -> None:
    """Refuse what cannot name a cluster."""
    _check("cluster", _NAME, name)


def _check(what: str, adapter: TypeAdapter[str], value: str) -> None:
    """Refuse what the resources' own type of name refuses, in its words."""
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        raise InvalidInput(f"{what} {error.errors()[0]['msg']}") from error


def check_host_name(what: str, name: str) -> None:
    """Refuse what is neither a DNS name (in any case) nor an IP address."""
    if isinstance(name, str) and ((name.isascii() and _HOST_NAME.match(name.lower())) or _is_address(name)):
        return
    raise InvalidInput(
        f"{what} {shown(name)} is neither a DNS name nor an IP address", hint="Wildcards are not allowed."
    )


def check_host_id(host_id: str) -> None:
    """Refuse what is not a UUID in its usual form."""
    try:
        usual = str(uuid.UUID(host_id))
    except (ValueError, AttributeError, TypeError):
        usual = ""
    if usual != host_id:
        raise InvalidInput(f"host id {shown(host_id)} is not a UUID in lower case with dashes")


def check_ttl(ttl: timedelta) -> None:
    """Refuse a lifetime outside of the limits of the manual ("Adding and Deleting Users")."""
    if not MIN_CERTIFICATE_TTL <= ttl <= MAX_CERTIFICATE_TTL:
        raise InvalidInput(
            f"a lifetime of {ttl} is outside of the limits",
            hint=f"Certificates live {MIN_CERTIFICATE_TTL} to {MAX_CERTIFICATE_TTL} hours.",
        )


def check_command(command: str) -> None:
    """Refuse a forced command that is empty, endless or holds control characters."""
    if not command.strip() or len(command) > MAX_TEXT_CHARACTERS or _CONTROL.search(command):
        raise InvalidInput(
            f"the forced command is empty, longer than {MAX_TEXT_CHARACTERS} characters, or holds control characters"
        )


def check_list(what: str, values: tuple[_Element, ...]) -> tuple[_Element, ...]:
    """Refuse what is not a tuple (text above all, which would be taken letter by letter) or names something twice."""
    if not isinstance(values, tuple):
        raise InvalidInput(f"{what} must be a tuple, not {type(values).__name__}")
    if len(set(values)) != len(values):
        raise InvalidInput(f"{what} names something twice")
    return values


def check_count(principals: tuple[str, ...]) -> None:
    """Refuse a certificate for nobody, which OpenSSH before 10.3 takes for everybody, and one for too many."""
    if not principals:
        raise InvalidInput("a certificate without principals is never issued", hint="Give the user at least one login.")
    if len(principals) > MAX_PRINCIPALS:
        raise InvalidInput(f"a certificate for {len(principals)} principals; {MAX_PRINCIPALS} is the most")


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a source-address option: comma-separated CIDR (PROTOCOL.certkeys). Raises InvalidInput."""
    try:
        return tuple(ip_network(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInput(f"source-address {shown(text)} is not a list of networks: {error}") from error


def _is_address(name: str) -> bool:
    try:
        # With a zone (fe80::1%eth0) it means something on one machine only.
        return "%" not in name and bool(ip_address(name))
    except ValueError:
        return False
