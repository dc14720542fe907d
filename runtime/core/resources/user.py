"""User: somebody, or some machine, that logs in."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, StringConstraints, field_validator, model_validator

from runtime.core import defaults
from runtime.core.resources.model import GROUP, Metadata, Model, Resource, SecretRef, Spec
from runtime.core.resources.names import (
    MAX_ITEMS,
    Distinct,
    Duration,
    Login,
    RoleName,
    between,
    invalid,
    kept_by_the_cluster,
)
from runtime.core.resources.user_credentials import SealedCredentials

RENEW_INVITE = f"{GROUP}/renew-invite"
"""Annotation: each new value has the operator invite the user anew, once."""


class DriftPolicy(StrEnum):
    """What the operator does when somebody else changed the user in the backend."""

    CORRECT = "Correct"
    REPORT = "Report"


class Invite(Model):
    """The sign-up invite that is minted for a new user; `ttl` from 1 minute to 30 hours, by default 1 hour."""

    ttl: Annotated[Duration, between(defaults.MIN_CERTIFICATE_TTL, defaults.MAX_CERTIFICATE_TTL)] = defaults.SIGNUP_TTL


class UserSpec(Spec):
    """What a user may be. Without `credentialsSecretRef` an invite is minted, by default for an hour."""

    logins: Annotated[tuple[Login, ...], Field(max_length=MAX_ITEMS), Distinct] = ()
    """Logins of the user's own role `user:NAME`."""
    roles: Annotated[tuple[RoleName, ...], Field(max_length=MAX_ITEMS), Distinct] = ()
    invite: Invite | None = None
    credentials_secret_ref: SecretRef | None = None
    """A Secret with the keys `password` and `otpSecret`, for machines and tests."""
    drift_policy: DriftPolicy = DriftPolicy.CORRECT

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.logins and not self.roles:
            raise invalid("expected at least one of logins and roles")
        return self


Digest = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]


class SignupInvite(Model):
    """The invite of a declared user: the SHA-256 of its token, how long it is good, and when it was used.

    The operator writes it, and auth adds `consumed`. Whoever has the token is in a Secret only.
    """

    digest: Digest
    issued: AwareDatetime
    expires: AwareDatetime
    consumed: AwareDatetime | None = None

    def is_good(self, now: datetime) -> bool:
        """Return whether somebody can sign up with it now."""
        return self.consumed is None and now < self.expires


class UserMetadata(Metadata):
    """Metadata with what the cluster keeps of a user. Like `origin` none of it is ever part of a document."""

    id: Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{32}$")] | None = None
    """Which person it is: credentials count for one id only.

    It is new for a user that is declared anew and for one that is invited anew; None for one of an earlier version.
    """
    invite: SignupInvite | None = None
    renewed: str | None = None
    """The value of the annotation `renew-invite` that was heeded last."""
    credentials: SealedCredentials | None = None

    _kept = field_validator("id", "invite", "renewed", "credentials")(kept_by_the_cluster)


class User(Resource):
    """A user of the cluster."""

    kind: Literal["User"] = "User"  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
    metadata: UserMetadata  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
    spec: UserSpec  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)

    @property
    def renewal(self) -> str | None:
        """The value of the annotation `renew-invite`, or the digest of a long one; None if there is none."""
        value = self.metadata.annotations.get(RENEW_INVITE)
        return value if not value or len(value) < 64 else hashlib.sha256(value.encode()).hexdigest()

    def as_kept(self, before: User | None) -> User:
        """Return it with what the cluster keeps of the one that is there, of nobody if there is none."""
        kept = before.metadata if before else UserMetadata(name=self.name)
        return self._with(id=kept.id, invite=kept.invite, renewed=kept.renewed, credentials=kept.credentials)

    def with_id(self, new_id: str) -> User:
        """Return it as a person: as it is if it is one already."""
        return self if self.metadata.id else self._with(id=new_id)

    def with_invite(self, invite: SignupInvite | None) -> User:
        """Return it with that invite, or without any. What was used stays used.

        One with another token makes it another person: what it could prove itself with until then is void.
        """
        known = self.metadata.invite
        if invite is None:
            return self._with(invite=None)
        if known is not None and known.digest == invite.digest:
            return self if known.consumed else self._with(invite=invite)
        return self._with(invite=invite, id=invite.digest[:32], renewed=self.renewal)

    def with_credentials(self, credentials: SealedCredentials | None) -> User:
        """Return it with what its Secret holds; as it is if that is of the same version."""
        known = self.metadata.credentials
        if known is not None and credentials is not None and known.source == credentials.source:
            return self
        return self._with(credentials=credentials)

    def _with(self, **kept: object) -> User:
        return self.model_copy(update={"metadata": self.metadata.model_copy(update=kept)})
