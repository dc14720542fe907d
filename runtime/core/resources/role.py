"""Role: what those who have it may do, and what not."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from runtime.core import defaults
from runtime.core.resources.model import Model, Resource, RoleMetadata, Spec
from runtime.core.resources.names import MAX_ITEMS, Distinct, Duration, Login, Selector, Whole, between

SHORTEST_IDLE = timedelta(seconds=1)


class RuleResource(StrEnum):
    """What a rule is about (manual, `tctl get roles`, and the kinds of this API)."""

    ANY = "*"
    AUTH_SERVER = "auth_server"
    CERT_AUTHORITY = "cert_authority"
    EVENT = "event"
    NODE = "node"
    PROXY = "proxy"
    ROLE = "role"
    SESSION = "session"
    TOKEN = "token"  # noqa: S105 (a word, no password)
    TRUSTED_CLUSTER = "trusted_cluster"
    TUNNEL = "tunnel"
    USER = "user"


class Verb(StrEnum):
    """What a rule allows or denies doing."""

    ANY = "*"
    CREATE = "create"
    DELETE = "delete"
    JOIN = "join"
    LIST = "list"
    READ = "read"
    UPDATE = "update"


class Rule(Model):
    """The verbs on the resources."""

    resources: Annotated[tuple[RuleResource, ...], Field(min_length=1, max_length=MAX_ITEMS), Distinct]
    verbs: Annotated[tuple[Verb, ...], Field(min_length=1, max_length=MAX_ITEMS), Distinct]


class Conditions(Model):
    """One side of a role. What is absent matches nothing, so that an empty `allow` allows nothing."""

    logins: Annotated[tuple[Login, ...], Field(max_length=MAX_ITEMS), Distinct] = ()
    node_labels: Selector = Field(default={})
    """The nodes: in `allow` all labels named here must match, in `deny` one is enough."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=MAX_ITEMS)] = ()


class Options(Model):
    """Limits on the certificates and connections that the role gives. Of several roles the strictest value counts."""

    max_session_ttl: Annotated[
        Duration,
        between(defaults.MIN_CERTIFICATE_TTL, defaults.MAX_CERTIFICATE_TTL),
        Field(alias="maxSessionTTL"),
    ] = defaults.CERTIFICATE_TTL
    """Longest life of a certificate, from 1 minute to 30 hours."""
    forward_agent: Annotated[bool, Field(strict=True)] = False
    port_forwarding: Annotated[bool, Field(strict=True)] = False
    file_copy: Annotated[bool, Field(strict=True)] = True
    """scp and sftp; on by default, since a shell can copy files anyway."""
    max_sessions: Annotated[int, Field(strict=True, ge=1, le=1000), Whole] = 10
    """Sessions at once on one connection; 10 is OpenSSH's MaxSessions."""
    idle_timeout: Annotated[Duration, between(SHORTEST_IDLE, defaults.MAX_CERTIFICATE_TTL)] | None = None
    """A session without input ends after it; never, if absent."""


class RoleSpec(Spec):
    """What is allowed, what is denied whatever any role allows, and the limits."""

    allow: Conditions = Conditions()
    deny: Conditions = Conditions()
    options: Options = Options()


class Role(Resource):
    """A role of the cluster."""

    kind: Literal["Role"] = "Role"  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
    metadata: RoleMetadata  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
    spec: RoleSpec  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
