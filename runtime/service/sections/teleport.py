"""The section `teleport`: what holds for all services of a process."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from runtime.core import defaults
from runtime.service import values
from runtime.service.schema import ADDED, Section, choice, read
from runtime.service.sections.fields import Count, FilePath, Name, Secret, address, peer
from runtime.service.sections.storage import Storage
from runtime.service.values import Address


class LogOutput(StrEnum):
    """Where the log goes."""

    STDERR = "stderr"
    STDOUT = "stdout"
    SYSLOG = "syslog"


class Severity(StrEnum):
    """The least severe entry that the log shows."""

    ERROR = "ERROR"
    WARN = "WARN"
    INFO = "INFO"
    DEBUG = "DEBUG"


class ConnectionLimits(Section):
    """How much one service takes on at once."""

    max_connections: Count = Field(
        default=defaults.MAX_CONNECTIONS, description="Connections that a service holds open at once."
    )
    max_users: Count = Field(default=defaults.MAX_USERS, description="Different users that a service serves at once.")


class Log(Section):
    """The log of the process; not the audit log."""

    output: Annotated[LogOutput, choice(LogOutput)] = Field(
        default=LogOutput.STDERR, description="Where the log goes: `stdout`, `stderr` or `syslog`."
    )
    severity: Annotated[Severity, choice(Severity)] = Field(
        default=Severity.ERROR,
        description="The least severe entry to show: `INFO`, `WARN` or `ERROR`; also `DEBUG`, which `-d` sets.",
    )


class Teleport(Section):
    """What holds for all services of this process."""

    nodename: Name | None = Field(
        default=None,
        description="The name by which others reach this machine; its host name if not given.",
        examples=["graviton"],
    )
    data_dir: FilePath = Field(
        default=defaults.DATA_DIR,
        description="The folder for keys, audit log, recordings and the embedded database. Keep others out of it.",
    )
    auth_token: Secret | None = Field(
        default=None,
        description=(
            "The invitation with which this machine joins a cluster; needed at its first start only. "
            "Or a file that holds it, by its absolute path."
        ),
        examples=["an-invitation-token"],
    )
    ca_pin: Annotated[str, read(str, values.parse_ca_pin_or_file)] | None = Field(
        default=None,
        description=(
            "The fingerprint of the cluster's host CA, as `tctl nodes add` prints it: joining trusts no other. "
            "Or a file that holds it, by its absolute path."
        ),
        examples=["SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"],
        json_schema_extra=ADDED,
    )
    advertise_ip: Annotated[str, read(str, values.parse_advertised_ip)] | None = Field(
        default=None,
        description="The IP address at which others reach this machine, where it cannot know: behind NAT, say.",
        examples=["10.0.0.5"],
    )
    auth_servers: tuple[Annotated[Address, peer(defaults.AUTH_PORT)], ...] = Field(
        default=(),
        description="The auth servers of the cluster, port 3025 if none is given. Needed where auth does not run here.",
        examples=[["10.0.0.10:3025", "10.0.0.11:3025"]],
    )
    diag_addr: Annotated[Address, address(defaults.DIAG_PORT)] | None = Field(
        default=None,
        description=(
            "Where `/healthz`, `/readyz` and `/metrics` are served over HTTP, to whoever asks: "
            "take a loopback address. Off if not given; port 3000 if none is given."
        ),
        examples=["127.0.0.1:3000"],
        json_schema_extra=ADDED,
    )
    drain_timeout: Annotated[timedelta, read(timedelta, values.parse_drain)] = Field(
        default=defaults.DRAIN,
        description=(
            "How long a stop may take, `10s` to `24h`: sessions on a node, and through a proxy, go on until shortly "
            "before. Whoever ends the process otherwise has to wait longer: systemd, Kubernetes."
        ),
        json_schema_extra=ADDED,
    )
    connection_limits: ConnectionLimits = Field(
        default_factory=ConnectionLimits, description="Limits that keep one client from taking everything."
    )
    log: Log = Field(default_factory=Log, description="The log of the process; the audit log is apart from it.")
    storage: Annotated[Storage, Field(discriminator="type")] | None = Field(
        default=None,
        description=(
            "Where auth keeps the cluster's state: `sqlite` (the default, embedded), `etcd` or `dynamodb`. "
            "Several auth servers need one of the latter two."
        ),
        examples=[
            {"type": "etcd", "peers": ["https://10.0.0.11:2379", "https://10.0.0.12:2379"], "prefix": "teleport"},
            {"type": "dynamodb", "region": "eu-west-1", "table_name": "teleport.state"},
        ],
    )
