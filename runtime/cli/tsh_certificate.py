"""What a login gave: looked at before it is stored, and read again when it is shown.

`runtime.pki.verify` judges certificates where access is decided; it needs the resources, which take longer to import
than a login may last. tsh asks less: is this the certificate that was asked for, from the authority that came with it?
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from runtime.cli.tsh_messages import Authorities, AuthorityKeys, LoginReply
from runtime.core.defaults import MAX_CERTIFICATE_TTL
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.core.joining import JOIN_LOGIN
from runtime.pki.certificate import Certificate, CertificateType, read_certificate
from runtime.pki.keys import PublicKey, parse_public_key

USER = "user"
HOST = "host"

_ROLES = "roles@teleport.internal"
"""The extension of `runtime.pki.extensions`, whose module needs pydantic; a test compares the two names."""
_MAX_WINDOW = MAX_CERTIFICATE_TTL + timedelta(minutes=5)
_CLUSTER = re.compile(r"(?=.{1,128}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
"""`runtime.core.resources.names.NAME_PATTERN`; a cluster's name becomes a pattern of known_hosts."""
_MISLED = "This is not what a Teleport proxy answers. Nothing was stored. Is the address of the proxy right?"


@dataclass(frozen=True, slots=True)
class Login:
    """A login as its certificate tells it. Both times are aware and in UTC; `blob` is the certificate on the wire."""

    user: str
    logins: tuple[str, ...]
    roles: tuple[str, ...]
    valid_after: datetime
    valid_before: datetime
    join_sessions: bool = False
    """Whether it can be shown to join sessions (`runtime.core.joining`)."""

    def is_valid(self, now: datetime) -> bool:
        """Return whether the certificate is good at that time."""
        return self.valid_after <= now < self.valid_before


def accept(reply: LoginReply, *, user: str, key: PublicKey, now: datetime) -> Login:
    """Return the login that a proxy's answer gives to `user`, who asked for a certificate of `key`.

    Raises AccessDenied for anything but a good certificate of this person's for this key, signed by the user authority
    that came along, and valid by this machine's clock.
    """
    if reply.user != user:
        raise _misled(f"the proxy logged in {reply.user[:64]!a} where {user!a} was meant")
    if not _CLUSTER.fullmatch(reply.cluster):
        raise _misled(f"the proxy calls its cluster {reply.cluster[:64]!a}, which cannot be a cluster's name")
    certificate = read_certificate(reply.certificate.encode())
    users, hosts = (_keys(reply, kind) for kind in (USER, HOST))
    if users & hosts:
        raise _misled("the proxy names one key as the authority of users and of hosts")
    if certificate.signature.ca_key not in users or not certificate.signature_is_good():
        raise _misled(f"the certificate is not signed by the user authority of cluster {reply.cluster}")
    if certificate.type is not CertificateType.USER:
        raise _misled("the certificate is not one of a user")
    if certificate.key != key:
        raise _misled("the certificate is for another key than ours")
    if certificate.key_id != user:
        raise _misled(f"the certificate is for user {certificate.key_id[:64]!a}, not for {user!a}")
    if not set(certificate.principals) - {JOIN_LOGIN}:
        raise _misled("the certificate is for no login at all")
    if certificate.valid_before - certificate.valid_after > _MAX_WINDOW.total_seconds():
        raise _misled(f"the certificate is good for longer than {MAX_CERTIFICATE_TTL.total_seconds() / 3600:g} hours")
    login = read_login(certificate)
    if not login.is_valid(now):
        raise AccessDenied(
            f"by this machine's clock, {now:%Y-%m-%d %H:%M:%S} UTC, the certificate is not valid: it is good from "
            f"{login.valid_after:%Y-%m-%d %H:%M:%S} to {login.valid_before:%Y-%m-%d %H:%M:%S} UTC",
            hint="Set the clock of this machine (timedatectl) and log in again. Nothing was stored.",
        )
    return login


def read_login(certificate: Certificate) -> Login:
    """Return what a certificate tells; without roles where it has none that can be read. Raises AccessDenied."""
    try:
        after, before = (datetime.fromtimestamp(at, UTC) for at in (certificate.valid_after, certificate.valid_before))
    except (ValueError, OverflowError, OSError) as error:
        raise AccessDenied("the certificate's validity is outside of the calendar") from error
    logins = tuple(name for name in certificate.principals if name != JOIN_LOGIN)
    joins = len(logins) < len(certificate.principals)
    return Login(certificate.key_id, logins, _roles(certificate), after, before, joins)


def host_authorities(reply: LoginReply | Authorities) -> tuple[AuthorityKeys, ...]:
    """Return the host authorities of an accepted reply, their keys in the one form that there is of each.

    Those of further clusters, which this one trusts, are among them. Raises AccessDenied.
    """
    found = []
    for authority in reply.authorities:
        if authority.type == HOST:
            if not _CLUSTER.fullmatch(authority.cluster):
                raise _misled(f"the proxy vouches for {authority.cluster[:64]!a}, which cannot be a cluster's name")
            keys = tuple(_key(key).line for key in authority.keys)
            found.append(AuthorityKeys(authority.cluster, HOST, keys))
    if not any(authority.cluster == reply.cluster and authority.keys for authority in found):
        raise _misled(f"the proxy does not tell the host authority of cluster {reply.cluster}")
    return tuple(found)


def is_from(certificate: Certificate, told: Authorities) -> bool:
    """Tell whether one of a cluster's user authorities, as they are now, has signed a certificate."""
    return certificate.signature.ca_key in _keys(told, USER)


def _keys(reply: LoginReply | Authorities, kind: str) -> frozenset[bytes]:
    """Return the keys, as on the wire, of the cluster's own authorities of a kind."""
    return frozenset(
        _key(key).blob
        for authority in reply.authorities
        if authority.type == kind and authority.cluster == reply.cluster
        for key in authority.keys
    )


def _key(line: str) -> PublicKey:
    try:
        return parse_public_key(line)
    except InvalidInput as error:
        raise _misled(f"an authority's key cannot be used: {error}") from error


def _roles(certificate: Certificate) -> tuple[str, ...]:
    try:
        said: object = json.loads(certificate.extensions.get(_ROLES, ""))
    except (ValueError, RecursionError):
        return ()
    roles = said.get("roles") if isinstance(said, dict) else None
    return tuple(str(role) for role in roles) if isinstance(roles, list) else ()


def _misled(what: str) -> AccessDenied:
    return AccessDenied(what, hint=_MISLED)
