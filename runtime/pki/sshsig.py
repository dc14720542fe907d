"""Signatures of SSH keys over messages, as `ssh-keygen -Y sign` makes them and `-Y verify` checks them.

Source: OpenSSH's PROTOCOL.sshsig. The namespace says what a signature is for: one made for a purpose is worth nothing
for another, and none of them is ever worth anything in an SSH handshake. Always with SHA-512, which is what ssh-keygen
takes by itself.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from runtime.core.errors import AccessDenied
from runtime.pki.keys import PrivateKey, PublicKey, parse_public_key
from runtime.pki.wire import Reader, mpint, string, write_line

MAX_SIGNATURE_BYTES = 8 * 1024
"""Of a blob: an RSA key of 16,384 bits and its signature have half of it."""

_MAGIC = b"SSHSIG"
_VERSION = (1).to_bytes(4, "big")
_HASH = b"sha512"
_RSA_ALGORITHM = b"rsa-sha2-512"
_ECDSA = {"secp256r1": ECDSA(SHA256()), "secp384r1": ECDSA(SHA384()), "secp521r1": ECDSA(SHA512())}
"""RFC 5656 §6.2.1."""


def sign(key: PrivateKey, message: bytes, *, namespace: str) -> bytes:
    """Return the signature's blob: what stands, in base64, between the lines that ssh-keygen puts around it."""
    covered = _covered(message, namespace)
    crypto = key.crypto
    if isinstance(crypto, Ed25519PrivateKey):
        algorithm, raw = key.public.type.encode(), crypto.sign(covered)
    elif isinstance(crypto, EllipticCurvePrivateKey):
        r, s = decode_dss_signature(crypto.sign(covered, _ECDSA[crypto.curve.name]))
        algorithm, raw = key.public.type.encode(), mpint(r) + mpint(s)
    else:
        algorithm, raw = _RSA_ALGORITHM, crypto.sign(covered, PKCS1v15(), SHA512())
    fields = (key.public.blob, namespace.encode(), b"", _HASH, string(algorithm) + string(raw))
    return _MAGIC + _VERSION + b"".join(map(string, fields))


def verify(blob: bytes, message: bytes, key: PublicKey, *, namespace: str) -> None:
    """Return if the blob is this key's signature over exactly this message, for this namespace.

    Raises AccessDenied.
    """
    if len(blob) > MAX_SIGNATURE_BYTES:
        raise AccessDenied(f"the signature has {len(blob)} bytes; {MAX_SIGNATURE_BYTES} is the most")
    try:
        signer, signed_for, hash_name, algorithm, raw = _read(blob)
    except ValueError as error:
        raise AccessDenied(f"the signature cannot be read: {error}") from error
    if signer != key.blob:
        raise AccessDenied("the signature is by another key")
    if signed_for != namespace.encode():
        raise AccessDenied(f"the signature is for {signed_for[:64]!r}, not for {namespace!r}")
    if hash_name != _HASH:
        raise AccessDenied(f"the signature is over a hash made with {hash_name[:64]!r}; here sha512 is due")
    try:
        _check(key, algorithm, raw, _covered(message, namespace))
    except (InvalidSignature, ValueError) as error:
        raise AccessDenied("the signature does not fit: what was signed is something else") from error


def claimed_signer(blob: bytes) -> PublicKey:
    """Return the key that a signature says it is by, which only `verify` proves. Raises AccessDenied, InvalidInput."""
    try:
        signer, *_ = _read(blob)
    except ValueError as error:
        raise AccessDenied(f"the signature cannot be read: {error}") from error
    return parse_public_key(write_line(signer))


def _covered(message: bytes, namespace: str) -> bytes:
    """Return what the key itself signs."""
    fields = (namespace.encode(), b"", _HASH, hashlib.sha512(message).digest())
    return _MAGIC + b"".join(map(string, fields))


def _read(blob: bytes) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Return public key, namespace, hash, algorithm and the algorithm's own signature. Raises ValueError."""
    reader = Reader(blob)
    if reader.skip(len(_MAGIC)) != _MAGIC:
        raise ValueError("it is no SSH signature")
    if reader.skip(len(_VERSION)) != _VERSION:
        raise ValueError("it is of a version that is not known here")
    signer, namespace, reserved, hash_name, signature = (reader.string() for _ in range(5))
    reader.end()
    if reserved:
        raise ValueError("it has something in the reserved field")
    inner = Reader(signature)
    algorithm, raw = inner.string(), inner.string()
    inner.end()
    return signer, namespace, hash_name, algorithm, raw


def _check(key: PublicKey, algorithm: bytes, raw: bytes, covered: bytes) -> None:
    """Raise InvalidSignature or ValueError unless the key has signed what is covered."""
    crypto = key.crypto
    due = key.type.encode() if isinstance(crypto, Ed25519PublicKey | EllipticCurvePublicKey) else _RSA_ALGORITHM
    if algorithm != due:
        raise ValueError("the algorithm is not the key's")
    if isinstance(crypto, Ed25519PublicKey):
        crypto.verify(raw, covered)
    elif isinstance(crypto, EllipticCurvePublicKey):
        reader = Reader(raw)
        r, s = reader.mpint(), reader.mpint()
        reader.end()
        crypto.verify(encode_dss_signature(r, s), covered, _ECDSA[crypto.curve.name])
    else:
        crypto.verify(raw, covered, PKCS1v15(), SHA512())
