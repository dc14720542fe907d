"""Authority: the public half of a certificate authority. No field here, or in any API type, holds a private key."""

from __future__ import annotations

import base64
import binascii
import hashlib
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, Strict

from runtime.core.resources.model import Model
from runtime.core.resources.names import Name, invalid

KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
"""What an authority may be: plain keys, so that a certificate never passes as one."""


def _public_key(line: str) -> str:
    kind, _, encoded = line.partition(" ")
    if kind not in KEY_TYPES:
        raise invalid(f"expected an OpenSSH public key without a comment, of type {', '.join(KEY_TYPES)}")
    try:
        blob = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise invalid("expected base64 after the key's type and one space") from None
    # RFC 4253 §6.6: the blob starts with the same type, as a string with four bytes of length.
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()) or len(encoded) > 4096:
        raise invalid(f"the key within is not of type {kind}")
    return line


PublicKey = Annotated[str, Strict(), AfterValidator(_public_key)]
"""`TYPE BASE64`, one line without options and comment."""


class AuthorityType(StrEnum):
    """What an authority signs: users, or members of the cluster."""

    USER = "user"
    HOST = "host"


class Generation(Model):
    """One key of an authority. Rotation adds a generation; revocation names one."""

    number: Annotated[int, Field(strict=True, ge=1)]
    public_key: PublicKey
    created: AwareDatetime

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as ssh-keygen -l prints it."""
        digest = hashlib.sha256(base64.b64decode(self.public_key.partition(" ")[2])).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _rising(generations: tuple[Generation, ...]) -> tuple[Generation, ...]:
    numbers = [generation.number for generation in generations]
    if numbers != sorted(set(numbers)):
        raise invalid("expected generations in rising order, each once")
    return generations


class Authority(Model):
    """The public keys of one authority of one cluster, oldest first."""

    kind: Literal["Authority"] = "Authority"
    cluster: Name
    type: AuthorityType
    generations: Annotated[tuple[Generation, ...], Field(min_length=1, max_length=16), AfterValidator(_rising)]

    @property
    def name(self) -> str:
        """`TYPE.CLUSTER`."""
        return f"{self.type}.{self.cluster}"
