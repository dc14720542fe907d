"""TrustedCluster: on a leaf, the root cluster whose users may come in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from runtime.core.resources.model import CASecretKeyRef, Metadata, Model, Resource, Spec, TokenSecretKeyRef
from runtime.core.resources.names import MAX_ITEMS, Address, Distinct, Login, RoleName, invalid, kept_by_the_cluster
from runtime.core.resources.token import digest_of

CA_PIN_KEY = "caPin"
"""Key of a token's Secret beside the token: the fingerprint of the root's host CA, as `tctl tokens add` prints it."""


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


class TrustedClusterSpec(Spec):
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


class TrustMeans(Model):
    """What the Secret holds by which trust comes about: a token with the pin of the root's CA, or the root's CA keys.

    The token stays here, sealed to auth (`runtime.pki.sealed_token`), until it has been shown to the root; `digest`
    tells whether the Secret holds another since.
    """

    digest: Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
    token: Annotated[Annotated[str, Field(max_length=1024)] | None, Field(repr=False)] = None
    """As it is: before it is sealed, and in the storage where an earlier version wrote it, until auth seals it."""
    box: Annotated[str, Field(max_length=4096)] | None = None
    """The token sealed."""
    ca_pin: Annotated[str, Field(max_length=128)] | None = None
    """Fingerprint of the root's host CA (`SHA256:…`); without it the root's HTTPS certificate has to be trusted."""
    ca: Annotated[str, Field(max_length=64 * 1024)] | None = None
    """As `tctl auth export` prints them."""

    @property
    def has_token(self) -> bool:
        """Whether there is a token that was not shown yet."""
        return self.token is not None or self.box is not None

    def without_token(self) -> TrustMeans:
        """Return it without the token, which has done its work."""
        return self.model_copy(update={"token": None, "box": None})


class TrustMetadata(Metadata):
    """Metadata with what came from the Secret. Like `origin` it is never part of a document."""

    means: TrustMeans | None = None

    _kept = field_validator("means")(kept_by_the_cluster)


def means_of(value: str) -> TrustMeans:
    """Return what `TrustedCluster.means_in` made a text of. Raises ValueError for another text."""
    return TrustMeans.model_validate({**json.loads(value), "digest": digest_of(value)})


class TrustedCluster(Resource):
    """Trust in another cluster; its name is that cluster's."""

    kind: Literal["TrustedCluster"] = "TrustedCluster"  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
    metadata: TrustMetadata  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)
    spec: TrustedClusterSpec  # pyright: ignore[reportIncompatibleVariableOverride]  (frozen: nobody assigns it)

    def secret(self) -> tuple[str, str]:
        """Return the name of the Secret that it refers to, and the key within it."""
        ref = self.spec.token_secret_ref or self.spec.ca_secret_ref
        assert ref is not None  # noqa: S101 - a document has exactly one
        return ref.name, ref.key

    def means_in(self, values: Mapping[str, str]) -> str | None:
        """Return what its Secret with these values gives, as one text for `means_of`; None without the key."""
        _, key = self.secret()
        if key not in values:
            return None
        # `kubectl create secret --from-file` leaves the line's end.
        found = {"token" if self.spec.token_secret_ref else "ca": values[key].rstrip("\r\n")}
        if self.spec.token_secret_ref and (pin := values.get(CA_PIN_KEY, "").strip()):
            found["caPin"] = pin
        return json.dumps(found, sort_keys=True)

    def given(self, means: TrustMeans) -> TrustedCluster:
        """Return it with what its Secret holds; as it is if it has that already, or had it and has shown the token."""
        known = self.metadata.means
        return self if known is not None and known.digest == means.digest else self.with_means(means)

    def with_means(self, means: TrustMeans | None) -> TrustedCluster:
        """Return it with what came from its Secret."""
        return self.model_copy(update={"metadata": self.metadata.model_copy(update={"means": means})})
