"""Token: lets members join the cluster. Its value lives in a Secret, never in the resource."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from runtime.core import defaults
from runtime.core.resources.model import Model, Resource, TokenSecretKeyRef
from runtime.core.resources.names import Distinct, Duration, Labels, between


class TokenRole(StrEnum):
    """What a member that shows the token may become. Sign-up tokens of users are no resources."""

    NODE = "node"
    PROXY = "proxy"
    AUTH = "auth"
    TRUSTED_CLUSTER = "trusted_cluster"


class TokenSpec(Model):
    """Who may join with the token, for how long and how often."""

    roles: Annotated[tuple[TokenRole, ...], Field(min_length=1, max_length=len(TokenRole)), Distinct]
    ttl: Annotated[Duration, between(defaults.MIN_CERTIFICATE_TTL, defaults.MAX_CERTIFICATE_TTL)] = (
        defaults.JOIN_TOKEN_TTL
    )
    """From 1 minute to 30 hours."""
    max_uses: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    """Members that may join with it; any number until it expires, if absent."""
    labels: Labels = Field(default={})
    """Set on every node that joins with it, over what the node says of itself."""
    secret_ref: TokenSecretKeyRef | None = None
    """Where the value is: read from the Secret if that exists, else generated into it; by default `NAME-token`."""


class Token(Resource):
    """A join token of the cluster."""

    kind: Literal["Token"] = "Token"  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
    spec: TokenSpec
