"""Token: lets members join the cluster. Its value lives in a Secret, never in the resource."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints, field_validator

from runtime.core import defaults
from runtime.core.errors import InvalidInput
from runtime.core.resources.model import Metadata, Model, Resource, Spec, TokenSecretKeyRef
from runtime.core.resources.names import Distinct, Duration, Labels, Whole, between, kept_by_the_cluster

MIN_VALUE = 16
"""Characters of a token's value that a person picks: what is made here has 32."""


class TokenRole(StrEnum):
    """What a member that shows the token may become. Sign-up tokens of users are no resources."""

    NODE = "node"
    PROXY = "proxy"
    AUTH = "auth"
    TRUSTED_CLUSTER = "trusted_cluster"


class TokenSpec(Spec):
    """Who may join with the token, for how long and how often."""

    roles: Annotated[tuple[TokenRole, ...], Field(min_length=1, max_length=len(TokenRole)), Distinct]
    ttl: Annotated[Duration, between(defaults.MIN_CERTIFICATE_TTL, defaults.MAX_CERTIFICATE_TTL)] = (
        defaults.JOIN_TOKEN_TTL
    )
    """From 1 minute to 30 hours."""
    max_uses: Annotated[int, Field(strict=True, ge=1, le=1_000_000), Whole] | None = None
    """Members that may join with it; any number until it expires, if absent."""
    labels: Labels = Field(default={})
    """Set on every node that joins with it, over what the node says of itself."""
    secret_ref: TokenSecretKeyRef | None = None
    """Where the value is: read from the Secret if that exists, else generated into it; by default `NAME-token`."""
    renew: Annotated[bool, Field(strict=True)] = False
    """The operator makes a new value when half of the ttl is over: for members that come and go, as pods do."""


class TokenIssue(Model):
    """The value that a token got: its SHA-256, since when it is good, and how many members have joined with it."""

    digest: Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
    since: AwareDatetime
    uses: Annotated[int, Field(strict=True, ge=0)] = 0


class TokenMetadata(Metadata):
    """Metadata with what the cluster keeps of the token's value. Like `origin` it is never part of a document."""

    issued: TokenIssue | None = None

    _kept = field_validator("issued")(kept_by_the_cluster)


class Token(Resource):
    """A join token of the cluster. Nobody can join with one whose value was not issued yet."""

    kind: Literal["Token"] = "Token"  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
    metadata: TokenMetadata  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
    spec: TokenSpec  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)

    @property
    def expires(self) -> datetime | None:
        """When it ends; None before its value is issued."""
        issued = self.metadata.issued
        return issued.since + self.spec.ttl if issued else None

    @property
    def uses_left(self) -> int | None:
        """How many members may still join with it; None for any number."""
        if self.spec.max_uses is None:
            return None
        return max(0, self.spec.max_uses - (self.metadata.issued.uses if self.metadata.issued else 0))

    def is_good(self, now: datetime) -> bool:
        """Return whether members can join with it now."""
        return self.expires is not None and now < self.expires and self.uses_left != 0

    def issued_as(self, digest: str, now: datetime) -> Token:
        """Return it with that value: as it is if it has it already, else good from now on and not used yet."""
        issued = self.metadata.issued
        if issued is not None and issued.digest == digest:
            return self
        return self.with_issue(TokenIssue(digest=digest, since=now))

    def with_issue(self, issue: TokenIssue | None) -> Token:
        """Return it with what is kept of its value."""
        return self.model_copy(update={"metadata": self.metadata.model_copy(update={"issued": issue})})


def digest_of(value: str) -> str:
    """Return what is kept of a token's value: no key path, listing or backup shows the value itself."""
    return hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()


def check_value(value: str) -> None:
    """Refuse a value that is easy to guess or to mistype. Raises InvalidInput, which does not show it."""
    if len(value) < MIN_VALUE or not value.isascii() or not value.isprintable():
        raise InvalidInput(
            f"a token needs {MIN_VALUE} or more printable ASCII characters", hint="Leave it out to have one made."
        )
