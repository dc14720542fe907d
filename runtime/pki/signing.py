"""Claims in, certificates out. What leaves here has passed the same verification that its readers apply."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType

from runtime.core.errors import InvalidInput
from runtime.core.resources.authority import AuthorityType
from runtime.pki import extensions as ext
from runtime.pki.certificate import Certificate, read_certificate
from runtime.pki.claims import Claims, HostClaims, MemberClaims, UserClaims
from runtime.pki.keys import PublicKey
from runtime.pki.trust import Signer, Trust
from runtime.pki.verify import verify_host, verify_member, verify_user

BACKDATE = timedelta(seconds=60)
"""How long before its signing a certificate is good: the clocks of two machines differ."""

MAX_SERIAL = 2**64 - 1


def random_serial() -> int:
    """Return a serial number nobody can guess, 1 to 2^64 - 1: OpenSSH's revocation lists take 0 for none."""
    return secrets.randbelow(MAX_SERIAL) + 1


def sign_user(claims: UserClaims, key: PublicKey, *, signer: Signer, now: datetime, serial: int) -> Certificate:
    """Return a certificate with which the holder of the key may log in as the claims say.

    Raises InvalidInput when the signer is not the user CA of the claims' cluster.
    """
    _check_signer(signer, AuthorityType.USER, claims)
    builder = _builder(claims, key, now=now, serial=serial).type(SSHCertificateType.USER)
    builder = builder.key_id(claims.user.encode()).valid_principals([name.encode() for name in claims.principals])
    for name, permitted in (
        (ext.PERMIT_PTY, claims.permit_pty),
        (ext.PERMIT_PORT_FORWARDING, claims.permit_port_forwarding),
        (ext.PERMIT_AGENT_FORWARDING, claims.permit_agent_forwarding),
    ):
        if permitted:
            builder = builder.add_extension(name.encode(), b"")
    roles = ext.RolesExtension(cluster=claims.cluster, roles=claims.roles, person=claims.person)
    builder = builder.add_extension(ext.ROLES.encode(), ext.write_extension(roles).encode())
    if claims.source_addresses:
        networks = ",".join(str(network) for network in claims.source_addresses)
        builder = builder.add_critical_option(ext.SOURCE_ADDRESS.encode(), networks.encode())
    if claims.force_command is not None:
        builder = builder.add_critical_option(ext.FORCE_COMMAND.encode(), claims.force_command.encode())
    certificate = _sign(builder, signer)
    verify_user(certificate.line, Trust([signer.public]), now)
    return certificate


def sign_host(claims: HostClaims, key: PublicKey, *, signer: Signer, now: datetime, serial: int) -> Certificate:
    """Return a certificate with which the holder of the key may serve SSH under the claims' names.

    Raises InvalidInput when the signer is not the host CA of the claims' cluster.
    """
    _check_signer(signer, AuthorityType.HOST, claims)
    builder = _builder(claims, key, now=now, serial=serial).type(SSHCertificateType.HOST)
    builder = builder.key_id(claims.host_id.encode()).valid_principals([name.encode() for name in claims.principals])
    certificate = _sign(builder, signer)
    verify_host(certificate.line, claims.name, Trust([signer.public]), now, cluster=claims.cluster)
    return certificate


def sign_member(claims: MemberClaims, key: PublicKey, *, signer: Signer, now: datetime, serial: int) -> Certificate:
    """Return a certificate with which a member calls other services.

    Raises InvalidInput when the signer is not the host CA of the claims' cluster.
    """
    _check_signer(signer, AuthorityType.HOST, claims)
    builder = _builder(claims, key, now=now, serial=serial).type(SSHCertificateType.USER)
    builder = builder.key_id(claims.principal.encode()).valid_principals([claims.principal.encode()])
    role = ext.RoleExtension(cluster=claims.cluster, role=claims.role)
    builder = builder.add_extension(ext.ROLE.encode(), ext.write_extension(role).encode())
    certificate = _sign(builder, signer)
    verify_member(certificate.line, Trust([signer.public]), now)
    return certificate


def _check_signer(signer: Signer, due: AuthorityType, claims: Claims) -> None:
    if signer.type is not due:
        raise InvalidInput(f"the {signer.public} must not sign {type(claims).__name__}: that is for the {due} CA")
    if signer.cluster != claims.cluster:
        raise InvalidInput(f"the {signer.public} must not sign for cluster {claims.cluster}")


def _builder(claims: Claims, key: PublicKey, *, now: datetime, serial: int) -> SSHCertificateBuilder:
    """Return what all three have in common: key, serial and validity."""
    if now.tzinfo is None:
        raise ValueError("a certificate needs an aware datetime")
    if not 1 <= serial <= MAX_SERIAL:
        raise InvalidInput(f"serial {serial} is outside of 1 to 2^64 - 1")
    signed = int(now.timestamp())
    return (
        SSHCertificateBuilder()
        .public_key(key.crypto)
        .serial(serial)
        .valid_after(signed - int(BACKDATE.total_seconds()))
        .valid_before(signed + int(claims.ttl.total_seconds()))
    )


def _sign(builder: SSHCertificateBuilder, signer: Signer) -> Certificate:
    """Sign and read back. The library signs with rsa-sha2-512 where the CA's key is RSA, and draws the nonce itself."""
    return read_certificate(builder.sign(signer.key.crypto).public_bytes())
