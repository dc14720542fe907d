"""Node: a member that serves SSH, as its heartbeat tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, StringConstraints

from runtime.core.resources.model import Model
from runtime.core.resources.names import Address, Labels, Name

HostName = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$")]
"""A machine's name, as it says it itself."""
Version = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9A-Za-z.+-]{1,64}$")]


class Node(Model):
    """A node. What it reports of itself is kept apart from what the token that it joined with imposes."""

    kind: Literal["Node"] = "Node"
    id: UUID
    hostname: HostName
    addr: Address
    namespace: Name = "default"
    reported_labels: Labels = Field(default={})
    imposed_labels: Labels = Field(default={})
    version: Version
    last_heartbeat: AwareDatetime

    @property
    def name(self) -> str:
        """Its id: host names need not be unique."""
        return str(self.id)

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that count in access decisions: the imposed ones override."""
        return {**self.reported_labels, **self.imposed_labels}
