"""What another cluster has said of its authorities since it came to be trusted: `authority/followed/NAME`.

It lies beside what was given (a record, a Secret, a file of teleport.yaml), which is the base and stays as it is: with
another base, what was followed from the old one means nothing.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.api.trust_messages import TrustedPeer
from runtime.core.errors import CorruptState
from runtime.core.keys import AUTHORITY
from runtime.core.resources.authority import AuthorityType
from runtime.core.succession import MAX_KEYS
from runtime.pki.succession import Known

PREFIX = f"{AUTHORITY}/followed/"


class Followed(BaseModel):
    """One authority: its keys since `number`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    number: int = Field(ge=1)
    keys: tuple[str, ...] = Field(max_length=MAX_KEYS)
    """None: it has ended."""


class FollowedRecord(BaseModel):
    """What was followed from one base (`base_of`)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    cluster: str
    base: str
    host: Followed | None = None
    user: Followed | None = None


def followed_key(cluster: str) -> str:
    """Return where it lies."""
    return PREFIX + cluster


def base_of(peer: TrustedPeer) -> str:
    """Return the digest of the keys by which a cluster was given."""
    lines = (*sorted(peer.host_keys), "", *sorted(peer.user_keys))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def known_of(peer: TrustedPeer, record: FollowedRecord | None) -> dict[AuthorityType, Known]:
    """Return how the authorities stand that a given cluster may tell of. A leaf's users are nobody here."""
    if record is not None and record.base != base_of(peer):
        record = None
    found = {}
    for kind, given, now in (
        (AuthorityType.HOST, peer.host_keys, record and record.host),
        (AuthorityType.USER, peer.user_keys if peer.is_root else (), record and record.user),
    ):
        if given:
            found[kind] = Known(peer.cluster, kind, now.keys if now else given, now.number if now else 0)
    return found


def as_followed(peer: TrustedPeer, record: FollowedRecord | None) -> TrustedPeer:
    """Return a given cluster with the keys that it has now."""
    if record is None or record.base != base_of(peer):
        return peer
    known = known_of(peer, record)
    return peer.model_copy(
        update={
            **{f"{kind.value}_keys": each.keys for kind, each in known.items()},
            "ended": tuple(kind.value for kind, each in known.items() if not each.keys),
        }
    )


def record_of(peer: TrustedPeer, known: dict[AuthorityType, Known]) -> FollowedRecord:
    """Return what is to be kept."""
    told = {kind.value: Followed(number=each.number, keys=each.keys) for kind, each in known.items() if each.number > 0}
    return FollowedRecord(cluster=peer.cluster, base=base_of(peer), host=told.get("host"), user=told.get("user"))


def encode_followed(record: FollowedRecord) -> bytes:
    """Return what the backend holds."""
    return record.model_dump_json().encode()


def decode_followed(value: bytes) -> FollowedRecord:
    """Return the record. Raises CorruptState."""
    try:
        return FollowedRecord.model_validate_json(value)
    except ValidationError as error:
        raise CorruptState(
            f"what was followed of a trusted cluster cannot be read: {error.error_count()} mistakes",
            hint="A newer version may have written it: upgrade this one, or join that cluster anew.",
        ) from None
