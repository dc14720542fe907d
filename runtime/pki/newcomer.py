"""Before there is a membership: a newcomer's certificate for nobody, and its belief in an auth server by a pin."""

from __future__ import annotations

from datetime import datetime

from cryptography.hazmat.primitives.serialization import SSHCertificateBuilder, SSHCertificateType

from runtime.core.errors import AccessDenied
from runtime.core.resources.authority import AuthorityType
from runtime.pki.certificate import read_certificate
from runtime.pki.keys import PrivateKey, parse_public_key
from runtime.pki.trust import AuthorityKey, Trust
from runtime.pki.verify import verify_host
from runtime.pki.wire import write_line

_ALWAYS = 0, 2**64 - 1
"""PROTOCOL.certkeys: valid at any time."""


def self_signed(key: PrivateKey, login: str) -> bytes:
    """Return a certificate for `login` that the key has signed for itself: it proves that the key is held, no more.

    It knows no time: a newcomer whose clock is off shall hear just that from auth, not that it is refused.
    """
    return (
        SSHCertificateBuilder()
        .public_key(key.public.crypto)
        .serial(0)
        .type(SSHCertificateType.USER)
        .key_id(login.encode())
        .valid_principals([login.encode()])
        .valid_after(_ALWAYS[0])
        .valid_before(_ALWAYS[1])
        .sign(key.crypto)
        .public_bytes()
    )


def is_newcomer(certificate: bytes, login: str) -> bool:
    """Tell whether a certificate for `login` is signed by the very key that it certifies. Raises AccessDenied."""
    shown = read_certificate(certificate)
    return shown.principals == (login,) and shown.signature.ca_key == shown.key.blob and shown.signature_is_good()


def believe_newly(certificate: bytes, host: str, ca_pin: str | None, now: datetime) -> str:
    """Return the fingerprint of the host CA that signed `certificate` for `host`, a server of a cluster not yet known.

    With a pin it must be that CA; without one any is believed. Everything else is checked as for a known cluster.
    Raises AccessDenied.
    """
    shown = read_certificate(certificate)
    authority = parse_public_key(write_line(shown.signature.ca_key))
    if ca_pin is not None and authority.fingerprint != ca_pin:
        raise AccessDenied(
            f"the server's CA has the fingerprint {authority.fingerprint}, not the pinned {ca_pin}",
            hint="Take --ca-pin from tctl nodes add. If it is right, somebody else answers in auth's place.",
        )
    cluster = "unknown"
    trust = Trust([AuthorityKey(AuthorityType.HOST, cluster, authority)])
    verify_host(certificate, host, trust, now, cluster=cluster)
    return authority.fingerprint
