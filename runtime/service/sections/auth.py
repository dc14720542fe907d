"""The section `auth_service`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from runtime.core import defaults
from runtime.core.errors import InvalidInput
from runtime.pki.keys import KeyAlgorithm
from runtime.service import values
from runtime.service.schema import ADDED, Section, choice, contradiction, read
from runtime.service.sections.fields import Boolean, FilePath, HttpsUrl, address, everywhere, peer
from runtime.service.values import Address, StaticToken


class AuthenticationType(StrEnum):
    """Where users are kept."""

    LOCAL = "local"


class SecondFactor(StrEnum):
    """What a login asks for beside the password."""

    OFF = "off"
    OTP = "otp"
    U2F = "u2f"


def _authentication_type(text: str) -> AuthenticationType:
    if text == "oidc":
        raise InvalidInput("expected local; users of an external provider (oidc) are not supported")
    if text != AuthenticationType.LOCAL:
        raise InvalidInput(f"expected local, found {values.shown(text)}")
    return AuthenticationType.LOCAL


class U2F(Section):
    """Hardware keys as the second factor (manual, "Enabling U2F")."""

    app_id: HttpsUrl = Field(
        description="The URL of the web UI, or of a JSON file that lists the facets. It must never change.",
        examples=["https://localhost:3080"],
    )
    facets: tuple[HttpsUrl, ...] = Field(
        min_length=1,
        description="The URLs of all proxies.",
        examples=[["https://localhost", "https://localhost:3080"]],
    )


class Authentication(Section):
    """How users prove who they are."""

    type: Annotated[AuthenticationType, read(AuthenticationType, _authentication_type)] = Field(
        default=AuthenticationType.LOCAL, description="Where users are kept: `local`, in the cluster's own storage."
    )
    second_factor: Annotated[SecondFactor, choice(SecondFactor)] = Field(
        default=SecondFactor.OTP,
        description="What a login asks for beside the password: `off`, `otp` (a code) or `u2f` (a hardware key).",
    )
    u2f: U2F | None = Field(
        default=None,
        description="Hardware keys; needed for, and only used with, `second_factor: u2f`.",
        examples=[{"app_id": "https://localhost:3080", "facets": ["https://localhost", "https://localhost:3080"]}],
    )

    @model_validator(mode="after")
    def _u2f_is_described(self) -> Self:
        if self.second_factor is SecondFactor.U2F and self.u2f is None:
            raise contradiction("second_factor", reason="u2f needs a section u2f with app_id and facets beside it")
        return self


class TrustedClusterFile(Section):
    """One cluster that is trusted by its CA keys in a file (manual, "Trusted Clusters")."""

    key_file: FilePath = Field(
        description="The CA keys of the other cluster, as its `tctl auth export` prints them.",
        examples=["/etc/teleport/main.ca"],
    )
    allow_logins: Annotated[tuple[str, ...], read(tuple, values.parse_logins)] = Field(
        default=(),
        description="The OS logins that users of the other cluster may use here, with commas.",
        examples=["root, jsmith"],
    )
    tunnel_addr: Annotated[Address, peer(defaults.PROXY_TUNNEL_PORT)] | None = Field(
        default=None,
        description="The other cluster's proxy, to which this one opens a reverse tunnel; port 3024 if none is given.",
        examples=["proxy.main.example:3024"],
    )


class AuthService(Section):
    """The auth service: the cluster's authority."""

    enabled: Boolean = Field(default=True, description="Run the auth service here.")
    dynamic_config: Boolean | None = Field(
        default=None,
        description=(
            "Take users, roles, tokens and trusted clusters from the storage (yes) or from this file (no). "
            "If not given: yes if there is a section `storage`, else no."
        ),
        examples=[False],
    )
    authentication: Authentication = Field(default_factory=Authentication, description="How users prove who they are.")
    listen_addr: Annotated[Address, address(defaults.AUTH_PORT)] = Field(
        default=everywhere(defaults.AUTH_PORT), description="Where the other services reach auth."
    )
    tokens: tuple[Annotated[StaticToken, read(StaticToken, values.parse_static_token)], ...] = Field(
        default=(),
        description=(
            "Invitations that never expire, `ROLE,ROLE:VALUE`, each role `auth`, `node` or `proxy`. "
            "Safer are those of `tctl nodes add`, which expire. Take 32 random characters or more."
        ),
        examples=[["proxy,node:32-or-more-random-characters", "auth:32-or-more-other-characters"]],
    )
    cluster_name: Annotated[str, read(str, values.parse_cluster_name)] | None = Field(
        default=None,
        description=(
            "The cluster's name; a random UUID if not given. It is part of every certificate: "
            "changing it makes all of them worthless."
        ),
        examples=["main"],
    )
    trusted_clusters: tuple[TrustedClusterFile, ...] = Field(
        default=(),
        description="Other clusters whose users may come here, or to which this one opens a tunnel.",
        examples=[
            [{"key_file": "/etc/teleport/main.ca", "allow_logins": "john", "tunnel_addr": "proxy.main.example:3024"}]
        ],
    )
    ca_key_algorithm: Annotated[KeyAlgorithm, choice(KeyAlgorithm)] = Field(
        default=KeyAlgorithm.ED25519,
        description=f"What new CA keys are made with: {values.either(f'`{name.value}`' for name in KeyAlgorithm)}.",
        json_schema_extra=ADDED,
    )
