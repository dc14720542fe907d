"""SSH keys: which are accepted, how they are written, and what identifies them.

Accepted are Ed25519, ECDSA on the three NIST curves and RSA of 3,072 bits and more. Keys held by security tokens
(`sk-…`) are not: cryptography drops the application they are bound to, so the certificate would be for another key.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    SSHCertificate,
    load_ssh_private_key,
    load_ssh_public_identity,
)
from cryptography.hazmat.primitives.serialization.ssh import serialize_ssh_public_key

from runtime.core.errors import InvalidInput
from runtime.pki.wire import CERTIFICATE_SUFFIX, fingerprint, read_line

MIN_RSA_BITS = 3072
"""NIST SP 800-57: 128 bits of strength."""
MAX_RSA_BITS = 16384
"""OpenSSH refuses larger ones (sshbuf.h, SSHBUF_MAX_BIGNUM); checking a signature would take too long."""
CA_RSA_BITS = 4096

_ACCEPTED_TYPES = frozenset(
    {"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"}
)
_ADVICE = "Make one with: ssh-keygen -t ed25519"

CryptographyPublicKey = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey
CryptographyPrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey


class KeyAlgorithm(StrEnum):
    """What a key can be made with; the values are those of the setting."""

    ED25519 = "ed25519"
    ECDSA_P256 = "ecdsa-p256"
    ECDSA_P384 = "ecdsa-p384"
    RSA = "rsa-4096"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An accepted public key. Two are equal when their `blob` is: the wire encoding of RFC 4253 §6.6."""

    blob: bytes = field(repr=False)
    type: str
    crypto: CryptographyPublicKey = field(repr=False, compare=False)

    @property
    def line(self) -> str:
        """The key as `TYPE BASE64`, the form of a .pub file without its comment."""
        return f"{self.type} {base64.b64encode(self.blob).decode()}"

    @property
    def fingerprint(self) -> str:
        """The key's name as `ssh-keygen -l` prints it: SHA256: and unpadded base64."""
        return fingerprint(self.blob)

    def __str__(self) -> str:
        return f"{self.type} {self.fingerprint}"


class PrivateKey:
    """A private key that does not show itself: no repr, no pickle, no copy, no JSON. Only `to_openssh` gives it out."""

    __slots__ = ("_crypto", "public")

    def __init__(self, crypto: CryptographyPrivateKey) -> None:
        self._crypto = crypto
        self.public = parse_public_key(serialize_ssh_public_key(crypto.public_key()))

    @property
    def crypto(self) -> CryptographyPrivateKey:
        """The key to sign with."""
        return self._crypto

    def to_openssh(self) -> str:
        """Return the key as an unencrypted OpenSSH private key file; for the signer's own storage and for key files."""
        return self._crypto.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()

    def __repr__(self) -> str:
        return f"<PrivateKey of {self.public}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is neither copied nor pickled")


_GENERATORS: dict[KeyAlgorithm, Callable[[], CryptographyPrivateKey]] = {
    KeyAlgorithm.ED25519: Ed25519PrivateKey.generate,
    KeyAlgorithm.ECDSA_P256: lambda: generate_private_key(SECP256R1()),
    KeyAlgorithm.ECDSA_P384: lambda: generate_private_key(SECP384R1()),
    KeyAlgorithm.RSA: lambda: generate_rsa_key(public_exponent=65537, key_size=CA_RSA_BITS),
}


def generate_key(algorithm: KeyAlgorithm = KeyAlgorithm.ED25519) -> PrivateKey:
    """Return a new key from the operating system's randomness. RSA takes about a second of CPU."""
    return PrivateKey(_GENERATORS[algorithm]())


def load_private_key(text: str) -> PrivateKey:
    """Return the key of an unencrypted OpenSSH private key file.

    Raises InvalidInput; the message holds nothing of the key.
    """
    try:
        crypto = load_ssh_private_key(text.encode(), password=None)
        if isinstance(crypto, Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey):
            return PrivateKey(crypto)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The chain is cut: what it knows of the key belongs in no traceback.
        pass
    raise InvalidInput(
        "the private key cannot be read", hint="It must be an unencrypted OpenSSH key: Ed25519, ECDSA or RSA."
    )


def parse_public_key(line: str | bytes) -> PublicKey:
    """Return the key of one `TYPE BASE64 [COMMENT]` line.

    Raises InvalidInput for a type that is not accepted, a certificate in place of a key, RSA that is too short, and an
    encoding other than the one that every SSH implementation writes.
    """
    try:
        key_type, blob = read_line(line.encode() if isinstance(line, str) else line)
    except ValueError as error:
        raise InvalidInput(f"the public key cannot be read: {error}", hint="Paste the line of a .pub file.") from error
    refusal = _refusal(key_type)
    if refusal:
        raise InvalidInput(refusal, hint=_ADVICE)
    try:
        crypto = load_ssh_public_identity(f"{key_type} {base64.b64encode(blob).decode()}".encode())
    except (ValueError, UnsupportedAlgorithm, NotImplementedError) as error:
        raise InvalidInput(f"the {key_type} public key cannot be read: {error}", hint=_ADVICE) from error
    return accept_key(crypto, blob)


def accept_key(crypto: object, blob: bytes | None = None) -> PublicKey:
    """Return a key that cryptography has read as one of ours; `blob` is the encoding it came in, where that is known.

    Raises InvalidInput as `parse_public_key` does.
    """
    if isinstance(crypto, SSHCertificate) or not isinstance(
        crypto, Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey
    ):
        raise InvalidInput("the public key is of a type that is not accepted", hint=_ADVICE)
    if isinstance(crypto, RSAPublicKey) and not MIN_RSA_BITS <= crypto.key_size <= MAX_RSA_BITS:
        raise InvalidInput(
            f"the RSA public key has {crypto.key_size} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted",
            hint=_ADVICE,
        )
    key_type, canonical = read_line(serialize_ssh_public_key(crypto))
    if blob is not None and blob != canonical:
        raise InvalidInput(f"the {key_type} public key is not encoded as RFC 4253 §6.6 has it", hint=_ADVICE)
    return PublicKey(canonical, key_type, crypto)


def _refusal(key_type: str) -> str:
    """Return why keys of the type are not accepted, or nothing."""
    if key_type in _ACCEPTED_TYPES:
        return ""
    if key_type.endswith(CERTIFICATE_SUFFIX):
        return f"a certificate ({key_type}) was given where a public key is due"
    if key_type == "ssh-dss":
        return "DSA public keys (ssh-dss) are not accepted"
    if key_type.startswith("sk-"):
        return f"keys held by a security token ({key_type}) cannot be put in a certificate yet"
    return f"public keys of type {key_type[:64]!r} are not accepted"
