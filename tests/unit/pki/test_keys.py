"""Which keys are accepted, and that private ones do not show themselves."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import pickle
from itertools import count

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization.ssh import serialize_ssh_public_key

from runtime.core.errors import InvalidInput
from runtime.core.resources.authority import AuthorityType
from runtime.pki.keys import KeyAlgorithm, PrivateKey, generate_key, load_private_key, parse_public_key
from runtime.pki.trust import Signer
from tests.unit.pki.forging import sign_raw, string


def line(key_type: str, *fields: bytes) -> str:
    """Return the line of a key with these fields."""
    return f"{key_type} {base64.b64encode(b''.join(map(string, [key_type.encode(), *fields]))).decode()}"


ED25519 = generate_key().public.line
RSA_2048 = serialize_ssh_public_key(rsa.generate_private_key(65537, 2048).public_key()).decode()
RSA_3072 = serialize_ssh_public_key(rsa.generate_private_key(65537, 3072).public_key()).decode()
POINT = base64.b64decode(ED25519.split()[1])[-32:]


@pytest.mark.parametrize(
    "accepted",
    [ED25519, RSA_3072]
    + [
        serialize_ssh_public_key(ec.generate_private_key(curve).public_key()).decode()
        for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())
    ],
    ids=lambda text: text.split()[0],
)
def test_accepts(accepted: str) -> None:
    """A key of each accepted type is read, with a comment or without, and written as it was."""
    assert parse_public_key(accepted).line == accepted
    assert parse_public_key(f"{accepted} joe@laptop of joe\n") == parse_public_key(accepted.encode())


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (RSA_2048, "2048 bits; 3072 to 16384"),
        (line("ssh-dss", b"\x01"), "DSA"),
        (sign_raw(generate_key(), generate_key().public, principals=["joe"]).decode(), "a certificate .* was given"),
        (line("sk-ssh-ed25519@openssh.com", POINT, b"ssh:"), "held by a security token"),
        (line("ssh-ed448", b"\x01" * 57), "'ssh-ed448' are not accepted"),
        ("", "not of the form"),
        ("ssh-ed25519", "not of the form"),
        ("ssh-ed25519 !!!!", "not base64"),
        ("ssh-rsa " + ED25519.split()[1], "different types"),
        (line("ssh-ed25519", POINT[:-1]), "cannot be read"),
        (line("ssh-ed25519", POINT, b"more"), "cannot be read"),
        (line("ecdsa-sha2-nistp256", b"nistp256", b"\x02" + b"\x01" * 32), "cannot be read"),
        (line("ssh-rsa", b"\0\0\0\0\x01\0\x01", base64.b64decode(RSA_3072.split()[1])[-385:]), "not encoded as"),
    ],
    ids=count(),
)
def test_refuses(refused: str, reason: str) -> None:
    """Weak, foreign and malformed keys are refused, each with its reason."""
    with pytest.raises(InvalidInput, match=reason):
        parse_public_key(refused)


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
def test_private_key_survives_its_file(algorithm: KeyAlgorithm) -> None:
    """A key of each algorithm that is written and read is the same key."""
    key = generate_key(algorithm)
    assert load_private_key(key.to_openssh()).public == key.public


def test_bad_private_key_is_not_quoted() -> None:
    """A damaged key file is refused without a word of it, down the chain of causes too."""
    text = generate_key().to_openssh().replace("AAAA", "AAAB", 1)
    with pytest.raises(InvalidInput, match="cannot be read") as caught:
        load_private_key(text)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_private_key_does_not_show_itself() -> None:
    """No repr, str, copy, pickle, JSON or dataclass dump of a private key, or of what holds one, gives it out."""
    key = generate_key()
    signer = Signer(AuthorityType.USER, "main", key)
    secret = key.to_openssh().splitlines()[3]
    for shown in (repr(key), str(key), repr(signer), f"{signer}"):
        assert key.public.fingerprint in shown
        assert secret not in shown
    with pytest.raises(TypeError):
        json.dumps(key)
    with pytest.raises(TypeError):
        vars(key)
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            copying(key)
    with pytest.raises(TypeError, match="neither copied nor pickled"):
        dataclasses.asdict(signer)
    assert isinstance(key, PrivateKey)
