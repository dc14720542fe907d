"""User: somebody, or some machine, that logs in."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runtime.core import defaults
from runtime.core.resources.model import Model, Resource, SecretRef
from runtime.core.resources.names import MAX_ITEMS, Distinct, Duration, Login, RoleName, between, invalid


class DriftPolicy(StrEnum):
    """What the operator does when somebody else changed the user in the backend."""

    CORRECT = "Correct"
    REPORT = "Report"


class DeletionPolicy(StrEnum):
    """What happens to the user in the backend when its document is deleted."""

    DELETE = "Delete"
    KEEP = "Keep"


class Invite(Model):
    """The sign-up invite that is minted for a new user; `ttl` from 1 minute to 30 hours, by default 1 hour."""

    ttl: Annotated[Duration, between(defaults.MIN_CERTIFICATE_TTL, defaults.MAX_CERTIFICATE_TTL)] = defaults.SIGNUP_TTL


class UserSpec(Model):
    """What a user may be. Without `credentialsSecretRef` an invite is minted, by default for an hour."""

    logins: Annotated[tuple[Login, ...], Field(max_length=MAX_ITEMS), Distinct] = ()
    """Logins of the user's own role `user:NAME`."""
    roles: Annotated[tuple[RoleName, ...], Field(max_length=MAX_ITEMS), Distinct] = ()
    invite: Invite | None = None
    credentials_secret_ref: SecretRef | None = None
    """A Secret with the keys `password` and `otpSecret`, for machines and tests."""
    drift_policy: DriftPolicy = DriftPolicy.CORRECT
    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.logins and not self.roles:
            raise invalid("expected at least one of logins and roles")
        return self


class User(Resource):
    """A user of the cluster."""

    kind: Literal["User"] = "User"  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
    spec: UserSpec
