"""Keys that say at this moment which keys there are: what counts, and what does not."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import pytest

from runtime.pki.key_proof import NAMESPACE, NONCE_CHARACTERS, is_proved, prove_keys
from runtime.pki.keys import KeyAlgorithm, generate_key
from runtime.pki.sshsig import sign

OLD, NEW, OTHER = (generate_key() for _ in range(3))
KEYS = (OLD.public.line, NEW.public.line)
NONCE = "0123456789abcdef" * (NONCE_CHARACTERS // 16)
SIGNATURES = prove_keys([OLD, NEW], nonce=NONCE, cluster="main", keys=KEYS)


def proved(
    pin: str = NEW.public.fingerprint,
    *,
    signatures: Sequence[str] = SIGNATURES,
    nonce: str = NONCE,
    cluster: str = "main",
    keys: Sequence[str] = KEYS,
) -> bool:
    """Tell whether it is proved, where something is different."""
    return is_proved(signatures, pin=pin, nonce=nonce, cluster=cluster, keys=keys)


def test_each_key_speaks_for_all() -> None:
    """Whichever is pinned."""
    assert proved()
    assert proved(OLD.public.fingerprint)
    assert not proved(OTHER.public.fingerprint)


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "f" * NONCE_CHARACTERS},
        {"cluster": "other"},
        {"keys": (*KEYS, OTHER.public.line)},
        {"keys": KEYS[::-1]},
        {"keys": KEYS[:1]},
        {"signatures": SIGNATURES[:1]},
        {"signatures": ()},
        {"signatures": ("?", "AAAA", SIGNATURES[0])},
    ],
    ids=["another nonce", "another cluster", "a key more", "order", "a key less", "other's", "none", "garbage"],
)
def test_nothing_else_is_proved(changes: dict[str, Any]) -> None:
    """Neither what was said before, nor of another cluster, nor what somebody else says."""
    assert not proved(**changes)


def test_a_signature_for_something_else() -> None:
    """The same words, signed for another purpose, are worth nothing."""
    message = "".join(f"{len(part)} {part}\n" for part in (NONCE, "main", *KEYS)).encode()
    right, wrong = (base64.b64encode(sign(NEW, message, namespace=name)).decode() for name in (NAMESPACE, "file"))
    assert proved(signatures=(right,))
    assert not proved(signatures=(wrong,))


def test_garbage_before_a_signature_does_not_hide_it() -> None:
    """Each stands for itself."""
    assert proved(signatures=("?", *SIGNATURES))


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ECDSA_P256, KeyAlgorithm.RSA])
def test_other_kinds_of_keys(algorithm: KeyAlgorithm) -> None:
    """Whatever key_algorithm the authority was made with."""
    key = generate_key(algorithm)
    signatures = prove_keys([key], nonce=NONCE, cluster="main", keys=KEYS)
    assert proved(key.public.fingerprint, signatures=signatures)
