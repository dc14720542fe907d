"""The section `ssh_service`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from runtime.core import defaults
from runtime.service import values
from runtime.service.schema import ADDED, Section, choice, contradiction, read
from runtime.service.sections.fields import Boolean, Count, LabelName, LabelValue, address, everywhere
from runtime.service.values import Address


class Recording(StrEnum):
    """What becomes of a session that cannot be recorded."""

    STRICT = "strict"
    BEST_EFFORT = "best_effort"
    OFF = "off"
    """None is recorded."""


class LabelCommand(Section):
    """A label whose value is what a command prints (manual, "Labeling Nodes")."""

    name: LabelName = Field(description="The label.", examples=["hostname"])
    command: tuple[Annotated[str, read(str, values.parse_text)], ...] = Field(
        min_length=1,
        description="The program and its arguments; no shell runs it.",
        examples=[["/usr/bin/hostname"]],
    )
    period: Annotated[timedelta, read(timedelta, values.parse_period)] = Field(
        description="How often it runs, as in `30s`, `1m0s` or `1h`; a second at least.", examples=["1m0s"]
    )


class SSHService(Section):
    """The node service: SSH into this machine."""

    enabled: Boolean = Field(default=True, description="Run the node service here.")
    listen_addr: Annotated[Address, address(defaults.NODE_SSH_PORT)] = Field(
        default=everywhere(defaults.NODE_SSH_PORT), description="Where proxies reach this machine."
    )
    labels: Mapping[LabelName, LabelValue] = Field(
        default_factory=dict, description="Labels that stay.", examples=[{"role": "master", "type": "postgres"}]
    )
    commands: tuple[LabelCommand, ...] = Field(
        default=(),
        description="Labels whose values are what commands print, run again and again.",
        examples=[
            [
                {"name": "hostname", "command": ["/usr/bin/hostname"], "period": "1m0s"},
                {"name": "arch", "command": ["/usr/bin/uname", "-p"], "period": "1h0m0s"},
            ]
        ],
    )

    recording: Annotated[Recording, choice(Recording)] = Field(
        default=Recording.BEST_EFFORT,
        description=(
            "What becomes of a session that cannot be recorded, because the disk is full: `strict` (it ends), "
            "`best_effort` (it goes on, and the recording says where it stops). `off`: none is recorded."
        ),
        json_schema_extra=ADDED,
    )
    spool_limit: Count = Field(
        default=1024,
        description="MiB that recordings may take in data_dir while auth is away.",
        json_schema_extra=ADDED,
    )

    @model_validator(mode="after")
    def _one_value_for_each_label(self) -> Self:
        names = list(self.labels)
        for place, command in enumerate(self.commands):
            if command.name in names:
                reason = f"the label {command.name} is set twice; one label has one source"
                raise contradiction("commands", place, "name", reason=reason)
            names.append(command.name)
        return self
