"""Secrets on their way to auth, through a store in which others may read: sealed to a key that auth alone has.

HPKE, base mode (RFC 9180), with X25519, HKDF-SHA256 and AES-128-GCM. What a box is about is bound into it: one that is
moved to another place does not open there.
"""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from runtime.core.errors import InvalidInput

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
_PURPOSE = "teleport.internal/v1 sealed for auth: "


class SealingKey:
    """The key that opens what was sealed."""

    def __init__(self, key: X25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def new(cls) -> SealingKey:
        """Return a new one."""
        return cls(X25519PrivateKey.generate())

    @classmethod
    def read(cls, private: bytes) -> SealingKey:
        """Return the one that `private` wrote. Raises ValueError."""
        return cls(X25519PrivateKey.from_private_bytes(private))

    @property
    def private(self) -> bytes:
        """The key itself, 32 bytes."""
        return self._key.private_bytes_raw()

    @property
    def public(self) -> bytes:
        """What others need to seal, 32 bytes."""
        return self._key.public_key().public_bytes_raw()

    def open(self, box: str, *, about: str) -> bytes:
        """Return what is in a box. Raises InvalidInput if it was not sealed to this key, about this, or was changed."""
        try:
            return _SUITE.decrypt(base64.b64decode(box, validate=True), self._key, info=_info(about))
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise InvalidInput(f"what was sealed about {about} does not open") from error


def seal(public: bytes, content: bytes, *, about: str) -> str:
    """Return a box, in base64, that the key with this public half opens. Raises InvalidInput for what is no key."""
    try:
        key = X25519PublicKey.from_public_bytes(public)
    except ValueError as error:
        raise InvalidInput("auth's sealing key is not one") from error
    return base64.b64encode(_SUITE.encrypt(content, key, info=_info(about))).decode()


def _info(about: str) -> bytes:
    return (_PURPOSE + about).encode()
