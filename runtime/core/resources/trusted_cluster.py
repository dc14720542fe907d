"""TrustedCluster: on a leaf, the root cluster whose users may come in."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from runtime.core.resources.model import CASecretKeyRef, Model, Resource, TokenSecretKeyRef
from runtime.core.resources.names import MAX_ITEMS, Address, Distinct, Login, RoleName, invalid


class ProxyAddresses(Model):
    """Where the root's proxy listens: 3080 for joining, 3024 for the tunnel (manual, "Ports")."""

    web_addr: Address | None = None
    tunnel_addr: Address


class RoleMapping(Model):
    """A role of the root and the leaf's roles that it becomes. What no mapping names is ignored."""

    remote: RoleName
    local: Annotated[tuple[RoleName, ...], Field(min_length=1, max_length=MAX_ITEMS), Distinct]


def _once_each(mappings: tuple[RoleMapping, ...]) -> tuple[RoleMapping, ...]:
    seen: set[str] = set()
    for mapping in mappings:
        if mapping.remote in seen:
            raise invalid("is mapped twice; join the local roles", got=mapping.remote)
        seen.add(mapping.remote)
    return mappings


class TrustedClusterSpec(Model):
    """How the root is reached, how it is known, and what its users may do here: by default nothing."""

    enabled: Annotated[bool, Field(strict=True)] = True
    proxy: ProxyAddresses
    token_secret_ref: TokenSecretKeyRef | None = None
    """The token with which this cluster joins the root's."""
    ca_secret_ref: CASecretKeyRef | None = None
    """The root's authorities, pinned beforehand (the manual's key_file)."""
    role_map: Annotated[tuple[RoleMapping, ...], Field(max_length=MAX_ITEMS), AfterValidator(_once_each)] = ()
    allow_logins: Annotated[tuple[Login, ...], Field(max_length=MAX_ITEMS), Distinct] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.token_secret_ref is None) == (self.ca_secret_ref is None):
            raise invalid("expected exactly one of tokenSecretRef and caSecretRef")
        if self.token_secret_ref and not self.proxy.web_addr:
            raise invalid("tokenSecretRef needs proxy.webAddr: the token is shown there")
        return self


class TrustedCluster(Resource):
    """Trust in another cluster; its name is that cluster's."""

    kind: Literal["TrustedCluster"] = "TrustedCluster"  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
    spec: TrustedClusterSpec
