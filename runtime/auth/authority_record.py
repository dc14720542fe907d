"""How a certificate authority lies in the backend: the one form of it that holds a private key.

    {"version": 1, "type": "user", "cluster": "main", "active": 1,
     "generations": [{"number": 1, "created": "…Z", "public_key": "ssh-ed25519 …", "private_key": "-----BEGIN …"}],
     "serial": 2,
     "rotation": {"id": "…", "phase": "init", "started": "…Z", "changed": "…Z", "mode": "auto", "grace": 108000.0,
                  "new": 2, "force": false, "new_has_signed": false},
     "successions": [{"number": 1, "public_key": "ssh-ed25519 …", "serial": 1, "endorsement": "…"}]}

All generations are trusted. The active one signs, and while a rotation runs the new one does what its phase says
(`runtime.core.rotation`). Each step is a compare-and-swap of this record; `serial` counts them. The last three fields
are absent until the first rotation, so that a record is as the first releases wrote it.

`successions` is how each key came after the one before, public and in the words of the keys themselves, for those who
were away.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from runtime.core.errors import InvalidInput
from runtime.core.resources import authority as public
from runtime.core.resources.authority import AuthorityType
from runtime.core.rotation import Mode, Phase, Rotation, Use, signs
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
class Succession:
    """A key that came after another, as both say (`endorsement`): it alone is trusted from `serial` on."""

    number: int
    public: PublicKey
    serial: int
    endorsement: str


@dataclass(frozen=True, slots=True)
class LocalAuthority:
    """An authority of this cluster, able to sign. It stays in the auth service: see `PrivateKey`."""

    type: AuthorityType
    """Whether it is the user CA or the host CA."""
    cluster: str
    """The cluster it signs for."""
    active: int
    generations: tuple[Generation, ...]
    serial: int = 0
    rotation: Rotation | None = None
    successions: tuple[Succession, ...] = ()

    @property
    def signer(self) -> Signer:
        """What signs: of the user CA all there is to sign, of the host CA what servers show."""
        return self.signer_for(Use.CLIENT if self.type is AuthorityType.USER else Use.SERVER)

    @property
    def client_signer(self) -> Signer:
        """What signs certificates that are shown by who calls."""
        return self.signer_for(Use.CLIENT)

    def signer_for(self, use: Use) -> Signer:
        """Return what signs certificates for a use now."""
        return self.signer_of(signs(self.rotation, self.active, use))

    def signer_of(self, number: int) -> Signer:
        """Return what signs with the key of one generation. Raises InvalidInput when that cannot sign."""
        for generation in self.generations:
            if generation.number == number and generation.private is not None:
                return Signer(self.type, self.cluster, generation.private)
        raise InvalidInput(f"generation {number} is missing or has no private key")

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


class _StoredRotation(_Stored):
    id: str
    phase: Literal[Phase.INIT, Phase.UPDATE_CLIENTS, Phase.UPDATE_SERVERS, Phase.ROLLBACK]
    started: AwareDatetime
    changed: AwareDatetime
    mode: Mode
    grace: float = Field(ge=0)
    new: int
    force: bool
    new_has_signed: bool


class _StoredSuccession(_Stored):
    number: int
    public_key: str
    serial: int
    endorsement: str


class _StoredAuthority(_Stored):
    version: Literal[1]
    type: AuthorityType
    cluster: str
    active: int
    generations: tuple[_StoredGeneration, ...]
    serial: int = Field(default=0, ge=0)
    rotation: _StoredRotation | None = None
    successions: tuple[_StoredSuccession, ...] = ()


def new_authority(authority_type: AuthorityType, cluster: str, key: PrivateKey, *, created: datetime) -> LocalAuthority:
    """Return an authority of one generation. Raises InvalidInput for what cannot name a cluster."""
    check_cluster(cluster)
    first = Generation(number=1, created=created, public=key.public, private=key)
    return LocalAuthority(authority_type, cluster, first.number, (first,))


def encode_authority(authority: LocalAuthority) -> bytes:
    """Return the record, private keys included: for the backend and nothing else."""
    # Written by hand: a dump of the model would mask the private keys.
    record: dict[str, object] = {
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
    if authority.serial:
        record["serial"] = authority.serial
    if authority.rotation is not None:
        rotation = asdict(authority.rotation)
        moments = {name: rotation[name].isoformat() for name in ("started", "changed")}
        record["rotation"] = rotation | moments | {"grace": authority.rotation.grace.total_seconds()}
    if authority.successions:
        record["successions"] = [
            {
                "number": each.number,
                "public_key": each.public.line,
                "serial": each.serial,
                "endorsement": each.endorsement,
            }
            for each in authority.successions
        ]
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
    authority = LocalAuthority(
        record.type,
        record.cluster,
        record.active,
        generations,
        serial=record.serial,
        rotation=_decode_rotation(record.rotation) if record.rotation else None,
        successions=tuple(
            Succession(each.number, parse_public_key(each.public_key), each.serial, each.endorsement)
            for each in record.successions
        ),
    )
    _check_signer(authority, record.active, "the active one")
    if authority.rotation is not None:
        _check_signer(authority, authority.rotation.new, "the new one")
    return authority


def _check_signer(authority: LocalAuthority, number: int, which: str) -> None:
    try:
        authority.signer_of(number)
    except InvalidInput:
        raise InvalidInput(f"generation {number}, {which}, is missing or has no private key") from None


def _decode_rotation(stored: _StoredRotation) -> Rotation:
    return Rotation(
        id=stored.id,
        phase=Phase(stored.phase),
        started=stored.started,
        changed=stored.changed,
        mode=stored.mode,
        grace=timedelta(seconds=stored.grace),
        new=stored.new,
        force=stored.force,
        new_has_signed=stored.new_has_signed,
    )


def _decode_generation(stored: _StoredGeneration) -> Generation:
    public = parse_public_key(stored.public_key)
    private = load_private_key(stored.private_key.get_secret_value()) if stored.private_key else None
    if private is not None and private.public != public:
        raise InvalidInput(f"the private and the public key of generation {stored.number} do not belong together")
    return Generation(stored.number, stored.created, public, private)
