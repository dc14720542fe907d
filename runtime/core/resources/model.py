"""The one configuration of all models, and what every declared resource has: apiVersion, kind, metadata, spec."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.alias_generators import to_camel

from runtime.core.resources.names import (
    Annotations,
    Name,
    ObjectLabels,
    RoleName,
    SecretKey,
    invalid,
    written_by_people,
)

GROUP = "teleport.internal"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"
ADOPT = f"{GROUP}/adopt"
"""Annotation: `"true"` lets whoever applies the document take over a resource of another origin."""


class Model(BaseModel):
    """A value: frozen, camelCase in documents and snake_case in Python, without fields that it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        validate_default=True,
    )


class Origin(StrEnum):
    """Who declared a resource. One origin never overwrites another's."""

    KUBERNETES = "kubernetes"
    CONFIG = "config"
    TCTL = "tctl"


class DeletionPolicy(StrEnum):
    """What happens to what the cluster has when its document is deleted."""

    DELETE = "Delete"
    KEEP = "Keep"


class Spec(Model):
    """What a document of every kind may say."""

    deletion_policy: DeletionPolicy = DeletionPolicy.DELETE


class Metadata(Model):
    """Name and notes. `origin` is set by what writes to the backend and is never part of a document."""

    name: Name
    namespace: Name | None = None
    labels: ObjectLabels = {}
    annotations: Annotations = {}
    origin: Origin | None = None

    @field_validator("origin")
    @classmethod
    def _not_for_people(cls, value: Origin | None, info: ValidationInfo) -> Origin | None:
        if value is not None and written_by_people(info):
            raise invalid("is set by what applies the document (kubernetes, config or tctl); leave it out")
        return value

    @property
    def adopt(self) -> bool:
        """Whether the document may take over a resource of another origin."""
        return self.annotations.get(ADOPT) == "true"


class RoleMetadata(Metadata):
    """Metadata whose name may also be that of a generated role."""

    name: RoleName


class Resource(Model):
    """What every declared resource has. The same document goes to kubectl, to tctl and into the backend."""

    api_version: Literal["teleport.internal/v1"] = "teleport.internal/v1"
    kind: str
    metadata: Metadata
    spec: Spec

    @property
    def name(self) -> str:
        """Its name, unique among resources of its kind."""
        return self.metadata.name

    def with_origin(self, origin: Origin | None) -> Self:
        """Return it as declared by that origin."""
        return self.model_copy(update={"metadata": self.metadata.model_copy(update={"origin": origin})})


class SecretRef(Model):
    """A Secret, by name, in the namespace of the resource; without Kubernetes, the file NAME.yaml of kind Secret."""

    name: Name


class TokenSecretKeyRef(SecretRef):
    """One key of a Secret that holds a token."""

    key: SecretKey = "token"


class CASecretKeyRef(SecretRef):
    """One key of a Secret that holds authorities' public keys, as `tctl auth export` prints them."""

    key: SecretKey = "ca"
