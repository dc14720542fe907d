"""How the cluster's host keys prove themselves to a newcomer (`runtime.pki.key_proof`)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from runtime.api.messages import Message, PublicKey, Text
from runtime.pki.key_proof import NONCE_CHARACTERS


class KeysQuery(Message):
    """Something that was never asked before."""

    nonce: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{NONCE_CHARACTERS}}}$")]


class KeysProof(Message):
    """The host keys that are trusted, and what each of them that can sign says to that; nothing while none is new."""

    cluster: Text
    keys: tuple[PublicKey, ...]
    signatures: tuple[Annotated[str, Field(max_length=16 * 1024)], ...]
