"""The rules that every certificate meets before anybody asks whose it is. Pure.

Whether its authority is trusted and its holder may enter is the service's to say; these hold for all of them, users and
hosts alike (asyncssh findings A4, A5, A7).
"""

from __future__ import annotations

import base64
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import SSHCertificate, SSHCertificateType, load_ssh_public_identity

from runtime.core.errors import AccessDenied
from runtime.transport.algorithms import MIN_RSA_BITS, SIGNATURES

CRITICAL_OPTIONS = {
    SSHCertificateType.USER: frozenset({b"force-command", b"source-address"}),
    SSHCertificateType.HOST: frozenset[bytes](),
}
"""The critical options we enforce; PROTOCOL.certkeys says to refuse a certificate with any other."""

_SUFFIX = b"-cert-v01@openssh.com"
_KEY_FIELDS = {
    b"ssh-ed25519": 1,
    b"ssh-rsa": 2,
    b"ecdsa-sha2-nistp256": 2,
    b"ecdsa-sha2-nistp384": 2,
    b"ecdsa-sha2-nistp521": 2,
}
"""Strings between a certificate's nonce and its serial (PROTOCOL.certkeys): the public key."""


class Shown(NamedTuple):
    """A certificate that met the rules: its line as in a -cert.pub file without a comment, and what it says."""

    line: bytes
    parsed: SSHCertificate


def check_certificate(blob: bytes, kind: SSHCertificateType) -> Shown:
    """Return what the certificate says, if it is one of that kind that may be considered at all.

    `blob` is as on the wire. Its signature by the authority that it names is verified. Raises AccessDenied, saying
    which rule it broke.
    """
    name = _name(blob)
    if not name.endswith(_SUFFIX):
        raise AccessDenied(
            f"a plain key ({name.decode('ascii', 'replace')[:64]}) was offered; only certificates are accepted",
            hint="Log in first: a certificate is what a login gives.",
        )
    line = name + b" " + base64.b64encode(blob)
    try:
        certificate = load_ssh_public_identity(line)
        if not isinstance(certificate, SSHCertificate):
            raise TypeError("it is no certificate")
        authority = certificate.signature_key()
        algorithm = _authority_signature(blob)
        certificate.verify_cert_signature()
    except (KeyError, TypeError, ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise AccessDenied(f"the certificate cannot be read or verified: {error or 'bad signature'}") from error
    if certificate.type is not kind:
        raise AccessDenied(f"it is a {certificate.type.name.lower()} certificate; a {kind.name.lower()} one is due")
    if not certificate.valid_principals:
        raise AccessDenied("the certificate has no principals, so it names nobody")
    if algorithm not in SIGNATURES:
        raise AccessDenied(f"the authority signed with {algorithm[:64]}, which is not accepted")
    for key, owner in ((certificate.public_key(), "the certificate's"), (authority, "the authority's")):
        if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
            raise AccessDenied(f"{owner} RSA key has {key.key_size} bits; {MIN_RSA_BITS} is the least")
    if unknown := certificate.critical_options.keys() - CRITICAL_OPTIONS[kind]:
        raise AccessDenied(f"the certificate has critical options that are not known: {sorted(unknown)}"[:200])
    return Shown(line, certificate)


def signature_algorithm(signature: bytes) -> str:
    """Return the algorithm a signature names (RFC 4253 §6.6). Raises AccessDenied when it names none."""
    try:
        return _string(signature, 0)[0].decode("ascii")
    except ValueError as error:
        raise AccessDenied("the signature cannot be read") from error


def _name(blob: bytes) -> bytes:
    try:
        return _string(blob, 0)[0]
    except ValueError as error:
        raise AccessDenied("what was offered is neither a key nor a certificate") from error


def _authority_signature(blob: bytes) -> str:
    # cryptography verifies RSA with SHA-1 too and does not say which it was, so the last field is looked up here.
    name, at = _string(blob, 0)
    for _ in range(1 + _KEY_FIELDS[name.removesuffix(_SUFFIX)]):  # nonce, key
        _, at = _string(blob, at)
    at += 8 + 4  # serial, type
    for _ in range(2):  # key id, principals
        _, at = _string(blob, at)
    at += 8 + 8  # valid after, valid before
    for _ in range(4):  # critical options, extensions, reserved, signature key
        _, at = _string(blob, at)
    signature, _ = _string(blob, at)
    return _string(signature, 0)[0].decode("ascii")


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the SSH string at that offset and the offset behind it (RFC 4251 §5). Raises ValueError."""
    start = at + 4
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise ValueError("it ends too early")
    return data[start:end], end
