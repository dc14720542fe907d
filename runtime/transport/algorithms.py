"""Which SSH algorithms we speak, in order of preference. Pure: the options take from each list what asyncssh offers.

Sources: OpenSSH 10.5's proposal without the NIST curves in the key exchange; ssh-audit finds nothing to fail in it.
Nothing here uses SHA-1. Compression is off: an unbounded decompressor is a bomb waiting (asyncssh finding A8).
"""

from __future__ import annotations

KEY_EXCHANGE = (
    "mlkem768x25519-sha256",
    "sntrup761x25519-sha512",
    "sntrup761x25519-sha512@openssh.com",  # with liboqs only; the one post-quantum exchange of OpenSSH 9.0 to 9.8
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
)
"""Post-quantum hybrids first, then X25519 for peers that have none."""

CIPHERS = (
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
)

MACS = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "umac-128-etm@openssh.com",  # with libnettle only
)
"""Encrypt-then-MAC only; used with aes256-ctr, the other ciphers authenticate by themselves."""

SIGNATURES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
"""Signatures that count, a user's, a host's or an authority's: no `ssh-rsa` (RSA with SHA-1, RFC 8332) and no DSA."""

HOST_CERTIFICATES = (
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
)
"""What our clients accept from a server: certificates, never a bare key."""

MIN_RSA_BITS = 3072
"""NIST SP 800-57: 128 bits of strength. OpenSSH's RequiredRSASize is 1,024."""


def available(wanted: tuple[str, ...], offered: list[bytes]) -> list[str]:
    """Return what is in both, in the order of `wanted`; two of ours depend on libraries that asyncssh may lack."""
    names = {name.decode() for name in offered}
    return [name for name in wanted if name in names]
