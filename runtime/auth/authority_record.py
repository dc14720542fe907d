"""How a certificate authority lies in the backend: the one form of it that holds a private key.

    {"version": 1, "type": "user", "cluster": "main", "active": 1,
     "generations": [{"number": 1, "created": "…Z", "public_key": "ssh-ed25519 …", "private_key": "-----BEGIN …"}]}

The active generation signs, all of them are trusted. A rotation adds a generation, makes it the active one, and later
removes the old: each a compare-and-swap of this record.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from runtime.core.errors import InvalidInput
from runtime.core.resources import authority as public
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import check_cluster
from runtime.pki.keys import PrivateKey, PublicKey, load_private_key, parse_public_key
from runtime.pki.trust import Signer


@dataclass(frozen=True, slots=True)
class Generation:
    """One key of an authority. `private` is None when it only remains trusted."""

    number: int
    created: datetime
    public: PublicKey
    private: PrivateKey | None


@dataclass(frozen=True, slots=True)
class LocalAuthority:
    """An authority of this cluster, able to sign. It stays in the auth service: see `PrivateKey`."""

    signer: Signer
    active: int
    generations: tuple[Generation, ...]

    @property
    def type(self) -> AuthorityType:
        """Whether it is the user CA or the host CA."""
        return self.signer.type

    @property
    def cluster(self) -> str:
        """The cluster it signs for."""
        return self.signer.cluster

    @property
    def public(self) -> public.Authority:
        """What others may know: the public keys to trust, of all generations."""
        return public.Authority(
            cluster=self.cluster,
            type=self.type,
            generations=tuple(
                public.Generation(number=each.number, public_key=each.public.line, created=each.created)
                for each in sorted(self.generations, key=lambda each: each.number)
            ),
        )


class _Stored(BaseModel):
    # Nothing of a refused record may reach a message: it holds a private key.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _StoredGeneration(_Stored):
    number: int = Field(ge=1)
    created: AwareDatetime
    public_key: str
    private_key: SecretStr | None


class _StoredAuthority(_Stored):
    version: Literal[1]
    type: AuthorityType
    cluster: str
    active: int
    generations: tuple[_StoredGeneration, ...]


def new_authority(authority_type: AuthorityType, cluster: str, key: PrivateKey, *, created: datetime) -> LocalAuthority:
    """Return an authority of one generation. Raises InvalidInput for what cannot name a cluster."""
    check_cluster(cluster)
    first = Generation(number=1, created=created, public=key.public, private=key)
    return LocalAuthority(Signer(authority_type, cluster, key), first.number, (first,))


def encode_authority(authority: LocalAuthority) -> bytes:
    """Return the record, private keys included: for the backend and nothing else."""
    # Written by hand: a dump of the model would mask the private keys.
    record = {
        "version": 1,
        "type": authority.type.value,
        "cluster": authority.cluster,
        "active": authority.active,
        "generations": [
            {
                "number": generation.number,
                "created": generation.created.isoformat(),
                "public_key": generation.public.line,
                "private_key": generation.private.to_openssh() if generation.private else None,
            }
            for generation in authority.generations
        ],
    }
    return json.dumps(record).encode()


def decode_authority(value: bytes, authority_type: AuthorityType) -> LocalAuthority:
    """Return the authority of a record.

    Raises InvalidInput, whose message holds nothing of the keys, when the record is not whole and consistent.
    """
    try:
        record = _StoredAuthority.model_validate_json(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        places = {".".join(map(str, detail["loc"])) or "the document" for detail in details}
        if any(detail["type"] == "literal_error" for detail in details):
            raise InvalidInput("it was written by another version of Teleport") from None
        # The chain is cut: the original holds the record.
        raise InvalidInput(f"it is malformed at {', '.join(sorted(places))}") from None
    if record.type is not authority_type:
        raise InvalidInput(f"it is a {record.type} CA")
    check_cluster(record.cluster)
    generations = tuple(_decode_generation(generation) for generation in record.generations)
    numbers = [generation.number for generation in generations]
    if len(set(numbers)) != len(numbers):
        raise InvalidInput("it has two generations of the same number")
    for generation in generations:
        if generation.number == record.active and generation.private is not None:
            return LocalAuthority(Signer(record.type, record.cluster, generation.private), record.active, generations)
    raise InvalidInput(f"generation {record.active}, the active one, is missing or has no private key")


def _decode_generation(stored: _StoredGeneration) -> Generation:
    public = parse_public_key(stored.public_key)
    private = load_private_key(stored.private_key.get_secret_value()) if stored.private_key else None
    if private is not None and private.public != public:
        raise InvalidInput(f"the private and the public key of generation {stored.number} do not belong together")
    return Generation(stored.number, stored.created, public, private)
