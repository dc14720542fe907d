"""Identities on disk: one file a role in data_dir, replaced as a whole, readable by its owner only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Set
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, ValidationError

from runtime.api.cluster_messages import AuthorityKeys
from runtime.api.dial import Identity
from runtime.api.member_messages import Membership
from runtime.core.callers import CallerKind
from runtime.core.errors import CorruptState, InvalidSettings, NotFound, Unavailable
from runtime.core.resources.authority import AuthorityType
from runtime.pki.certificate import read_certificate
from runtime.pki.keys import parse_public_key
from runtime.pki.trust import AuthorityKey, Trust

MAX_RETIRED = 8
"""How many keys are remembered that are believed no more."""


class StoredIdentity(BaseModel):
    """What a member, or tctl, is: its key, its certificates (one-line text) and whom it trusts."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    role: CallerKind
    cluster: str
    key: Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value, when_used="json")]
    host_certificate: str
    member_certificate: str
    expires: datetime
    authorities: tuple[AuthorityKeys, ...]
    retired: tuple[AuthorityKeys, ...] = ()
    """Keys that were believed once, the latest last: who shows a certificate of theirs is told to log in anew."""
    labels: dict[str, str] = Field(default={})

    @property
    def login(self) -> str:
        """Its principal, under which it calls other services."""
        return f"{self.role}.{self.id}"

    @property
    def life(self) -> timedelta:
        """How long its certificate is valid in all."""
        certificate = read_certificate(self.member_certificate.encode())
        return timedelta(seconds=certificate.valid_before - certificate.valid_after)

    def is_due(self, now: datetime) -> bool:
        """Tell whether it should be renewed: less than a third of its life is left."""
        return self.expires - now < self.life / 3

    def serves(self, names: Set[str]) -> bool:
        """Tell whether its host certificate is good for all these names and addresses."""
        return {name.lower() for name in names} <= set(read_certificate(self.host_certificate.encode()).principals)

    def is_signed_by(self, *, host: str, member: str) -> bool:
        """Tell whether keys with these fingerprints have signed its host certificate and its member certificate."""
        return signer_of(self.member_certificate) == member and (
            not self.host_certificate or signer_of(self.host_certificate) == host
        )

    def believing(self, authorities: tuple[AuthorityKeys, ...]) -> StoredIdentity:
        """Return it as it is with these authorities to believe, from now on and no others. Raises InvalidInput."""
        trust_of(authorities)
        return self.model_copy(update={"authorities": authorities, "retired": self._retiring(authorities)})

    def in_place_of(self, before: StoredIdentity) -> StoredIdentity:
        """Return these certificates with the belief of the identity whose place they take."""
        return self.model_copy(update={"authorities": before.authorities, "retired": before.retired})

    def _retiring(self, authorities: tuple[AuthorityKeys, ...]) -> tuple[AuthorityKeys, ...]:
        """Return the keys that are, or were, believed and are not among these, each by itself, the latest last."""
        kept = {key for authority in authorities for key in authority.keys}
        gone = {
            (authority.cluster, authority.type, key): AuthorityKeys(
                cluster=authority.cluster, type=authority.type, keys=(key,)
            )
            for authority in (*self.retired, *self.authorities)
            for key in authority.keys
            if key not in kept
        }
        return tuple(gone.values())[-MAX_RETIRED:]

    @property
    def client(self) -> Identity:
        """What it proves itself with to auth."""
        return Identity(self.login, self.key.get_secret_value().encode(), self.member_certificate.encode())

    @property
    def trust(self) -> Trust:
        """The authorities that it believes."""
        return trust_of(self.authorities)

    @property
    def known(self) -> Trust:
        """The same, and those that it believed before: for telling people why they are refused, and nothing else."""
        return trust_of((*self.authorities, *self.retired))


def signer_of(certificate: str) -> str:
    """Return the fingerprint of the key that signed a certificate (one-line text). Raises AccessDenied."""
    return read_certificate(certificate.encode()).signature.ca_key_fingerprint


def trust_of(authorities: tuple[AuthorityKeys, ...]) -> Trust:
    """Return what verifies certificates of these authorities. Raises InvalidInput."""
    return Trust(
        AuthorityKey(AuthorityType(authority.type), authority.cluster, parse_public_key(key))
        for authority in authorities
        for key in authority.keys
    )


def identities_of(membership: Membership, key: str, cluster: str) -> dict[CallerKind, StoredIdentity]:
    """Return what a membership is on disk, for each of its roles; `key` is the private key in OpenSSH's format."""
    return {
        each.role: StoredIdentity(
            id=membership.id,
            role=each.role,
            cluster=cluster,
            key=SecretStr(key),
            host_certificate=each.host,
            member_certificate=each.member,
            expires=membership.expires,
            authorities=membership.authorities,
            labels=dict(membership.labels),
        )
        for each in membership.certificates
    }


class DataDir:
    """Where a teleport process keeps its state (manual, `data_dir`). Made with 0700; files in it get 0600."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self) -> None:
        """Make the folder if it is missing, and see that nobody else may look into it. Raises InvalidSettings."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise InvalidSettings(
                f"data_dir {self.path} cannot be used: {error.strerror}",
                hint="Run as root, or name a folder of your own: teleport.data_dir in teleport.yaml.",
            ) from error

    def identity(self, role: CallerKind) -> StoredIdentity:
        """Return the identity of a role. Raises NotFound, CorruptState when the file cannot be used, Unavailable."""
        path = self._identity_path(role)
        try:
            return read_identity(path)
        except FileNotFoundError:
            raise NotFound(f"there is no identity of role {role} in {self.path}") from None
        except OSError as error:
            raise _unusable(path, "read", error) from error

    def keep(self, identity: StoredIdentity) -> None:
        """Replace the identity of its role."""
        self.write(self._identity_path(identity.role).name, identity.model_dump_json().encode())

    def forget(self, role: CallerKind) -> None:
        """Delete the identity of a role."""
        self._identity_path(role).unlink(missing_ok=True)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, None if there is none. Raises Unavailable."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self.path / name, "read", error) from error

    def write(self, name: str, content: bytes) -> None:
        """Replace a file as a whole: after a crash it is the old or the new one, never half of it.

        Raises Unavailable when the disk does not take it.
        """
        try:
            write_private(self.path / name, content)
        except OSError as error:
            raise _unusable(self.path / name, "written", error) from error

    def _identity_path(self, role: CallerKind) -> Path:
        return self.path / f"{role}.identity"


def _unusable(path: Path, done: str, error: OSError) -> Unavailable:
    return Unavailable(
        f"{path} cannot be {done}: {error.strerror or error}", hint="Look at the disk, and at who owns data_dir."
    )


def read_identity(path: Path) -> StoredIdentity:
    """Return the identity in a file. Raises FileNotFoundError, CorruptState when it is not one."""
    content = path.read_bytes()
    try:
        return StoredIdentity.model_validate_json(content)
    except ValidationError as error:
        raise CorruptState(
            f"{path} is not an identity: {error.error_count()} mistakes",
            hint="Restore it from a backup; or delete it and join anew with a token.",
        ) from None


def write_private(path: Path, content: bytes) -> None:
    """Replace a file with one of mode 0600, durably. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
