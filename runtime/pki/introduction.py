"""How two clusters that do not know each other yet prove who they are, before one shows the other a token. Pure.

    the root's proxy    signs, with the key of its host certificate, which HTTPS certificate it shows: who has the pin
                        of the root's host CA so comes to know the HTTPS server, whoever signed that one's certificate
    the leaf's auth     signs with its host CA which keys it wants to be known by: nobody enters another one's keys

Both are signatures of PROTOCOL.sshsig for a namespace of their own; the first is over a nonce of the leaf's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runtime.core.errors import AccessDenied
from runtime.pki.certificate import read_certificate
from runtime.pki.claims import MemberRole, service_principal
from runtime.pki.keys import PrivateKey, PublicKey
from runtime.pki.newcomer import believe_newly
from runtime.pki.sshsig import sign, verify

PROXY_NAMESPACE = "trust-proxy@teleport.internal"
LEAF_NAMESPACE = "trust-leaf@teleport.internal"
NONCE_CHARACTERS = 32
"""Of a nonce: 128 random bits as hex digits."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a root's proxy tells of itself: its cluster, the SHA-256 of its HTTPS certificate (hex), and the proof."""

    cluster: str
    tls: str
    certificate: str
    """Its host certificate, one-line text."""
    signature: str
    """In base64."""


def introduce(key: PrivateKey, certificate: str, *, nonce: str, cluster: str, tls: str) -> Introduction:
    """Return what a proxy answers to a nonce; `certificate` is its host certificate, and `key` that one's."""
    signature = sign(key, _introduced(nonce, cluster, tls), namespace=PROXY_NAMESPACE)
    return Introduction(cluster, tls, certificate, base64.b64encode(signature).decode())


def check_introduction(given: Introduction, *, nonce: str, ca_pin: str, now: datetime) -> None:
    """Refuse who is no proxy of the cluster whose host CA has the fingerprint `ca_pin`. Raises AccessDenied."""
    certificate = given.certificate.encode()
    believe_newly(certificate, service_principal(MemberRole.PROXY), ca_pin, now)
    key = read_certificate(certificate).key
    verify(_decoded(given.signature), _introduced(nonce, given.cluster, given.tls), key, namespace=PROXY_NAMESPACE)


def vouch(authority: PrivateKey, *, cluster: str, host_keys: Sequence[str], token: str) -> str:
    """Return the host CA's signature (base64) with which a leaf asks to be known by these keys."""
    return base64.b64encode(sign(authority, _vouched(cluster, host_keys, token), namespace=LEAF_NAMESPACE)).decode()


def check_vouched(signature: str, authority: PublicKey, *, cluster: str, host_keys: Sequence[str], token: str) -> None:
    """Refuse who does not hold the host CA that it wants to be known by. Raises AccessDenied."""
    verify(_decoded(signature), _vouched(cluster, host_keys, token), authority, namespace=LEAF_NAMESPACE)


def _introduced(nonce: str, cluster: str, tls: str) -> bytes:
    """Return what the proxy signs. No part has a line feed in it, or it is none of ours and does not verify."""
    return f"{nonce}\n{cluster}\n{tls}\n".encode()


def _vouched(cluster: str, host_keys: Sequence[str], token: str) -> bytes:
    digest = hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
    return "\n".join((digest, cluster, *host_keys, "")).encode()


def _decoded(signature: str) -> bytes:
    try:
        return base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise AccessDenied("the signature is not base64") from None
