"""Whether an identity that was proved still stands: asked again at each channel and request. Pure.

`runtime.pki.verify` proves a certificate once. A connection outlives that moment: the certificate ends, an authority is
taken away. Every refusal is an AccessDenied.
"""

from __future__ import annotations

from datetime import datetime
from ipaddress import ip_address

from runtime.core.errors import AccessDenied
from runtime.core.resources.authority import AuthorityType
from runtime.pki.certificate import read_certificate
from runtime.pki.identity import UserIdentity
from runtime.pki.trust import Trust

_LOG_IN = "Log in again: tsh login."


def check_standing(identity: UserIdentity, trust: Trust, now: datetime, *, cluster: str) -> None:
    """Refuse who is of another cluster than this, whose authority is no longer trusted, or whose time is over."""
    proof = identity.proof
    if identity.cluster != cluster:
        raise AccessDenied(f"the certificate is of cluster {identity.cluster}; this is cluster {cluster}")
    if trust.find(proof.authority.key.blob) != proof.authority:
        raise AccessDenied(f"the {proof.authority} that signed the certificate is not trusted any more", hint=_LOG_IN)
    if now >= proof.valid_before:
        raise AccessDenied(f"the certificate expired at {proof.valid_before:%Y-%m-%d %H:%M:%S} UTC", hint=_LOG_IN)


def check_source(identity: UserIdentity, address: str) -> None:
    """Refuse an address that the certificate is not for (PROTOCOL.certkeys, source-address)."""
    if not identity.source_addresses:
        return
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        parsed = None
    # A listener on [::] sees IPv4 peers as ::ffff:a.b.c.d.
    source = getattr(parsed, "ipv4_mapped", None) or parsed
    if source is None or not any(source in network for network in identity.source_addresses):
        raise AccessDenied(
            f"the certificate of user {identity.user} is good from {', '.join(map(str, identity.source_addresses))} "
            f"only, not from {address[:64]}",
            hint="Come from a machine that it is for, or log in here. Through a proxy it is the proxy's address.",
        )


def holder(certificate: bytes, trust: Trust) -> str | None:
    """Return the user to whom an authority of ours gave a certificate, expired or not; None for a stranger's.

    Who has such a one may know why it is refused.
    """
    try:
        shown = read_certificate(certificate)
    except AccessDenied:
        return None
    authority = trust.find(shown.signature.ca_key)
    if authority is None or authority.type is not AuthorityType.USER or not shown.signature_is_good():
        return None
    return shown.key_id
