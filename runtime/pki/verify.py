"""Believing a certificate: who is it that holds the key? Every refusal is an AccessDenied that says why.

What is proved here is that an authority of ours said so. That the other side holds the private key, the SSH handshake
proves; what the person may do, current roles decide.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runtime.core.defaults import MAX_CERTIFICATE_TTL
from runtime.core.errors import AccessDenied, InvalidInput
from runtime.core.joining import JOIN_LOGIN
from runtime.core.resources.authority import AuthorityType
from runtime.pki import extensions as ext
from runtime.pki.certificate import Certificate, CertificateType, read_certificate
from runtime.pki.claims import (
    check_command,
    check_host_id,
    check_host_name,
    check_list,
    check_logins,
    check_roles,
    check_user,
    parse_networks,
)
from runtime.pki.identity import HostIdentity, MemberIdentity, Proof, UserIdentity
from runtime.pki.trust import AuthorityKey, Trust

MAX_WINDOW = MAX_CERTIFICATE_TTL + timedelta(minutes=5)
"""From valid after to valid before: the longest lifetime, and what a signer may back-date."""

_NO_SKEW = timedelta()
_ECDSA_SIGNATURES = {f"ecdsa-sha2-nistp{bits}" for bits in (256, 384, 521)}
_SIGNATURE_ALGORITHMS = frozenset({"ssh-ed25519", "rsa-sha2-256", "rsa-sha2-512"} | _ECDSA_SIGNATURES)
"""Without ssh-rsa, which is SHA-1."""


def verify_user(data: bytes, trust: Trust, now: datetime, *, skew: timedelta = _NO_SKEW) -> UserIdentity:
    """Return the person that a user certificate (line or blob) speaks of.

    `skew` is how far the clocks may differ, beyond what certificates are back-dated by. Raises AccessDenied.
    """
    certificate, proof = _prove(data, trust, now, skew, CertificateType.USER, AuthorityType.USER)
    said = ext.read_extension(ext.RolesExtension, ext.ROLES, certificate.extensions.get(ext.ROLES))
    _check_cluster(said.cluster, proof.authority)
    _check_options(certificate, ext.KNOWN_OPTIONS)
    source, command = (certificate.critical_options.get(name) for name in (ext.SOURCE_ADDRESS, ext.FORCE_COMMAND))
    logins = tuple(name for name in certificate.principals if name != JOIN_LOGIN)
    try:
        check_user(certificate.key_id)
        check_logins(logins)
        check_list("principals", certificate.principals)
        check_roles(said.roles)
        networks = () if source is None else parse_networks(source)
        if command is not None:
            check_command(command)
    except InvalidInput as error:
        raise AccessDenied(f"the certificate claims what no user certificate may: {error}") from error
    return UserIdentity(
        user=certificate.key_id,
        cluster=said.cluster,
        logins=logins,
        roles=said.roles,
        permit_pty=ext.PERMIT_PTY in certificate.extensions,
        permit_port_forwarding=ext.PERMIT_PORT_FORWARDING in certificate.extensions,
        permit_agent_forwarding=ext.PERMIT_AGENT_FORWARDING in certificate.extensions,
        source_addresses=networks,
        force_command=command,
        proof=proof,
        join_sessions=JOIN_LOGIN in certificate.principals,
        person=said.person,
    )


def verify_member(data: bytes, trust: Trust, now: datetime, *, skew: timedelta = _NO_SKEW) -> MemberIdentity:
    """Return the service that a member certificate (line or blob) speaks of. Raises AccessDenied; see `verify_user`."""
    certificate, proof = _prove(data, trust, now, skew, CertificateType.USER, AuthorityType.HOST)
    said = ext.read_extension(ext.RoleExtension, ext.ROLE, certificate.extensions.get(ext.ROLE))
    _check_cluster(said.cluster, proof.authority)
    _check_options(certificate, frozenset())
    role, _, host_id = certificate.principals[0].partition(".")
    if len(certificate.principals) != 1 or role != said.role or certificate.key_id != certificate.principals[0]:
        raise AccessDenied(f"the certificate's principals and key id are not those of one {said.role}")
    try:
        check_host_id(host_id)
    except InvalidInput as error:
        raise AccessDenied(f"the certificate's principal is not ROLE.ID: {error}") from error
    return MemberIdentity(host_id=host_id, role=said.role, cluster=said.cluster, proof=proof)


def verify_host(
    data: bytes, host: str, trust: Trust, now: datetime, *, cluster: str, skew: timedelta = _NO_SKEW
) -> HostIdentity:
    """Return the server that a host certificate (line or blob) speaks of, if it may answer to the name `host`.

    `cluster` is where the caller knows the server to be: another cluster's authority cannot vouch for it, whatever the
    name. Names are compared as a whole, without regard to case; a `*` matches nothing. Raises AccessDenied.
    """
    certificate, proof = _prove(data, trust, now, skew, CertificateType.HOST, AuthorityType.HOST)
    _check_cluster(cluster, proof.authority)
    _check_options(certificate, frozenset())
    try:
        check_host_id(certificate.key_id)
        for name in certificate.principals:
            check_host_name("principal", name)
    except InvalidInput as error:
        raise AccessDenied(f"the certificate claims what no host certificate may: {error}") from error
    if host.lower() not in certificate.principals:
        raise AccessDenied(
            f"the host certificate is not for {host[:255]!a}, it is for {', '.join(certificate.principals)}",
            hint="Connect by one of the server's names.",
        )
    return HostIdentity(host_id=certificate.key_id, principals=certificate.principals, cluster=cluster, proof=proof)


def _prove(
    data: bytes, trust: Trust, now: datetime, skew: timedelta, due: CertificateType, due_authority: AuthorityType
) -> tuple[Certificate, Proof]:
    """Return the certificate and what it rests on, once all is checked that the three kinds have in common."""
    certificate = read_certificate(data)
    authority = _signed_by(certificate, trust)
    if authority.type is not due_authority:
        raise AccessDenied(
            f"the certificate is signed by the {authority}; here one signed by a {due_authority} CA is due"
        )
    if certificate.type is not due:
        raise AccessDenied(f"a {certificate.type} certificate was given where a {due} certificate is due")
    if not certificate.principals:
        raise AccessDenied("the certificate has no principals; OpenSSH before 10.3 would take it for anybody")
    after, before = _window(certificate, now, skew)
    return certificate, Proof(certificate.key, certificate.serial, after, before, authority)


def _signed_by(certificate: Certificate, trust: Trust) -> AuthorityKey:
    """Return the trusted authority that signed the certificate."""
    signature = certificate.signature
    authority = trust.find(signature.ca_key)
    if authority is None:
        raise AccessDenied(
            f"the certificate is signed by a CA that is not trusted here, {signature.ca_key_fingerprint}",
            hint="After a rotation of the authorities: tsh login. Those that are trusted show: tctl auth ls",
        )
    if signature.algorithm not in _SIGNATURE_ALGORITHMS:
        raise AccessDenied(
            f"the {authority} signed the certificate with {signature.algorithm[:64]!a}, which is not accepted",
            hint="Sign with rsa-sha2-512, or use an Ed25519 CA.",
        )
    if not certificate.signature_is_good():
        raise AccessDenied(f"the certificate's signature is not by the {authority}: it was changed, or made up")
    return authority


def _window(certificate: Certificate, now: datetime, skew: timedelta) -> tuple[datetime, datetime]:
    """Return from when to when the certificate is good, if it is so now."""
    if certificate.valid_before - certificate.valid_after > MAX_WINDOW.total_seconds():
        raise AccessDenied(
            f"the certificate is good for longer than {MAX_CERTIFICATE_TTL.total_seconds() / 3600:g} hours",
            hint="No authority of ours signs such a one.",
        )
    try:
        after, before = (datetime.fromtimestamp(at, UTC) for at in (certificate.valid_after, certificate.valid_before))
    except (ValueError, OverflowError, OSError) as error:
        raise AccessDenied("the certificate's validity is outside of the calendar") from error
    if now < after - skew:
        raise AccessDenied(
            f"the certificate is not valid before {after:%Y-%m-%d %H:%M:%S} UTC", hint="Check both machines' clocks."
        )
    if now >= before + skew:
        raise AccessDenied(
            f"the certificate expired at {before:%Y-%m-%d %H:%M:%S} UTC", hint="Log in again: tsh login."
        )
    return after, before


def _check_cluster(name: str, authority: AuthorityKey) -> None:
    if name != authority.cluster:
        raise AccessDenied(f"the {authority} cannot speak for cluster {name[:255]!a}")


def _check_options(certificate: Certificate, known: frozenset[str]) -> None:
    """Refuse critical options that are not understood (PROTOCOL.certkeys, "Critical options")."""
    for name in certificate.critical_options:
        if name not in known:
            raise AccessDenied(f"the certificate has the critical option {name[:64]!a}, which is not known here")
