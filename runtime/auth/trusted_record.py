"""How another cluster's authorities lie in the backend: `authority/trusted/NAME`, public keys only.

A record is what was learned, once. What follows from it, documents and teleport.yaml decide (`runtime.auth.trusted`):
without its TrustedCluster the record of a root means nothing.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from runtime.core.errors import CorruptState
from runtime.core.keys import AUTHORITY
from runtime.pki.keys import parse_public_key

PREFIX = f"{AUTHORITY}/trusted/"
MAX_KEYS = 16
"""Of one authority: as many as generations."""


class Side(StrEnum):
    """What the other cluster is to this one."""

    ROOT = "root"
    """Its people may come here, as its TrustedCluster says."""
    LEAF = "leaf"
    """People of this one may go there; it keeps tunnels to this one."""


class TrustedRecord(BaseModel):
    """What was learned of another cluster. `means` is the digest of the token or Secret by which it came."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    cluster: str
    side: Side
    host_keys: tuple[str, ...] = Field(min_length=1, max_length=MAX_KEYS)
    user_keys: tuple[str, ...] = Field(default=(), max_length=MAX_KEYS)
    """A leaf's are not even kept: it signs nobody into this cluster."""
    means: str
    since: AwareDatetime


def record_key(cluster: str) -> str:
    """Return where a cluster's record lies."""
    return PREFIX + cluster


def new_record(
    cluster: str,
    side: Side,
    *,
    host_keys: tuple[str, ...],
    user_keys: tuple[str, ...] = (),
    means: str,
    now: datetime,
) -> TrustedRecord:
    """Return a record of keys whose form was checked."""
    return TrustedRecord(cluster=cluster, side=side, host_keys=host_keys, user_keys=user_keys, means=means, since=now)


def encode_record(record: TrustedRecord) -> bytes:
    """Return what the backend holds."""
    return record.model_dump_json().encode()


def decode_record(value: bytes) -> TrustedRecord:
    """Return the record. Raises CorruptState."""
    try:
        return TrustedRecord.model_validate_json(value)
    except ValidationError as error:
        raise CorruptState(
            f"the record of a trusted cluster cannot be read: {error.error_count()} mistakes",
            hint="A newer version may have written it: upgrade this one, or join that cluster anew.",
        ) from None


def fingerprints(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return the fingerprints of keys that were checked before."""
    return tuple(parse_public_key(key).fingerprint for key in keys)
