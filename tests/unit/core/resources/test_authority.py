"""Authorities as values: what a public key is, its fingerprint, generations."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime

import pytest
from pydantic import BaseModel

from runtime.core import resources
from runtime.core.resources import Authority, AuthorityType, Generation

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
BLOB = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(range(32))
KEY = "ssh-ed25519 " + base64.b64encode(BLOB).decode()


def generation(number: int = 1, key: str = KEY) -> Generation:
    """Return one generation of an authority."""
    return Generation(number=number, public_key=key, created=MOMENT)


def test_the_fingerprint() -> None:
    """It is the SHA-256 of the key's blob in base64 without padding; ssh-keygen -lf printed the one here."""
    assert generation().fingerprint == "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA"


@pytest.mark.parametrize(
    "key",
    [
        "",
        KEY + " comment",
        KEY + "\n",
        "ssh-rsa " + KEY.partition(" ")[2],
        "ssh-ed25519-cert-v01@openssh.com " + KEY.partition(" ")[2],
        "ssh-dss AAAA",
        "ssh-ed25519 ???",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ],
)
def test_what_is_no_authority(key: str) -> None:
    """A certificate, a private key, another type than it says, a comment: none is an authority's public key."""
    with pytest.raises(ValueError, match=r"publicKey|public_key"):
        generation(key=key)


def test_generations_rise() -> None:
    """An authority has one generation at least, each number once, oldest first."""
    authority = Authority(cluster="main", type=AuthorityType.USER, generations=(generation(1), generation(3)))
    assert authority.name == "user.main"
    for numbers in ((), (1, 1), (2, 1)):
        with pytest.raises(ValueError, match="generations"):
            Authority(
                cluster="main", type=AuthorityType.USER, generations=tuple(generation(number) for number in numbers)
            )


def test_no_type_has_a_field_for_a_secret() -> None:
    """No field of any API type could hold a private key, a password or a token's value: only references."""
    types = [each for each in vars(resources).values() if isinstance(each, type) and issubclass(each, BaseModel)]
    fields = {field for each in types for field in each.model_fields}
    assert {"public_key", "token_secret_ref"} <= fields
    telling = re.compile(r"private|password|seed|secret(?!_ref$)|value|^token$")
    assert not [field for field in fields if telling.search(field)]
