"""Which keys an authority has at this moment, in the words of each of them: for who was given just one, by hand. Pure.

A newcomer with the pin of a key that signs nothing yet, or nothing any more, meets a server that another key of the
same authority vouches for. What the pinned key has signed before says nothing of today; so it signs what is asked now.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence

from runtime.core.errors import AccessDenied, InvalidInput
from runtime.pki.keys import PrivateKey
from runtime.pki.sshsig import claimed_signer, sign, verify

NAMESPACE = "ca-present@teleport.internal"
NONCE_CHARACTERS = 32
"""Of a nonce: 128 random bits as hex digits."""


def prove_keys(signers: Iterable[PrivateKey], *, nonce: str, cluster: str, keys: Sequence[str]) -> tuple[str, ...]:
    """Return the signature (PROTOCOL.sshsig, in base64) of each signer: these lines are the cluster's host keys."""
    message = _message(nonce, cluster, keys)
    return tuple(base64.b64encode(sign(signer, message, namespace=NAMESPACE)).decode() for signer in signers)


def is_proved(signatures: Iterable[str], *, pin: str, nonce: str, cluster: str, keys: Sequence[str]) -> bool:
    """Tell whether the key of that fingerprint has signed that, for this nonce."""
    message = _message(nonce, cluster, keys)
    for signature in signatures:
        try:
            blob = base64.b64decode(signature, validate=True)
            key = claimed_signer(blob)
            if key.fingerprint != pin:
                continue
            verify(blob, message, key, namespace=NAMESPACE)
        except (AccessDenied, InvalidInput, binascii.Error, ValueError):
            continue
        return True
    return False


def _message(nonce: str, cluster: str, keys: Sequence[str]) -> bytes:
    """Return what is signed. A part with a line feed in it is none of ours, and a length tells where each ends."""
    parts = (nonce, cluster, *keys)
    return "".join(f"{len(part)} {part}\n" for part in parts).encode()
