"""Succession: which keys an authority of a cluster is to be believed by from now on, in its own signed words.

A succession proves itself (`runtime.pki.succession`), so it is public, and whoever carries it can change nothing. It
travels as text: what cannot be read, a newer release may have written, and is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.core.resources.authority import AuthorityType, PublicKey
from runtime.core.resources.names import Name

MAX_KEYS = 16
"""Of one authority: as many as it may have generations."""
MAX_STATEMENTS = 40
"""That are read at once: those of 16 rotations of both authorities, and how things are now."""
MAX_CHARACTERS = 32 * 1024
"""Of one statement: 16 keys of the longest kind that anybody uses, RSA with 4,096 bits, and their signatures."""
CARRIED_CHARACTERS = 40 * 1024
"""Of all that one side tells another: a request on a tunnel has 64 KiB, and room for the proxies."""

Signature = Annotated[str, Field(max_length=8 * 1024)]
"""The blob of PROTOCOL.sshsig, in base64."""


class Succession(BaseModel):
    """The `keys`, and no others, are those of an authority from `number` on, which only rises.

    None at all: the authority has ended, and nobody follows it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    cluster: Name
    type: AuthorityType
    number: Annotated[int, Field(strict=True, ge=1, lt=2**53)]
    keys: Annotated[tuple[PublicKey, ...], Field(max_length=MAX_KEYS)]
    endorsements: Annotated[tuple[Signature, ...], Field(max_length=MAX_KEYS)] = ()
    """By keys that were believed before."""
    possessions: Annotated[tuple[Signature, ...], Field(max_length=MAX_KEYS)] = ()
    """By keys that are new: nobody names another's."""

    @property
    def text(self) -> str:
        """The succession as it travels: JSON on one line."""
        return self.model_dump_json()


def read_successions(texts: Iterable[str]) -> tuple[Succession, ...]:
    """Return what can be read of what was carried here, which proves nothing yet. Never raises."""
    found = []
    for text in list(texts)[:MAX_STATEMENTS]:
        if len(text) > MAX_CHARACTERS:
            continue
        try:
            found.append(Succession.model_validate_json(text))
        except ValidationError:
            continue
    return tuple(found)


def carried(statements: Iterable[Succession]) -> tuple[str, ...]:
    """Return what one side tells another: as many of the latest as travel at once, the oldest first."""
    texts: list[str] = []
    room = CARRIED_CHARACTERS
    for statement in sorted(statements, key=lambda each: each.number, reverse=True)[:MAX_STATEMENTS]:
        text = statement.text
        room -= len(text)
        if room < 0 or len(text) > MAX_CHARACTERS:
            break
        texts.append(text)
    return tuple(reversed(texts))
