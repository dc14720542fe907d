"""What each backend needs to open: plain values, so that settings, tests and other processes can say it alike."""

from __future__ import annotations

from dataclasses import dataclass, field

REQUEST_TIMEOUT_SECONDS = 5.0
"""How long one request may take before it ends as Unavailable, in seconds."""


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """The embedded backend: one database file, shared by the processes of one machine."""

    path: str
    timeout: float = REQUEST_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """The keys of `storage: {type: etcd}` (manual, Using etcd). A peer is a URL; without a scheme https is meant."""

    peers: tuple[str, ...]
    prefix: str = "teleport"
    tls_cert_file: str | None = None
    tls_key_file: str | None = None
    tls_ca_file: str | None = None
    insecure: bool = False
    timeout: float = REQUEST_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class DynamoDBOptions:
    """The keys of `storage: {type: dynamodb}` (manual, Using DynamoDB). Without access_key AWS's own chain is asked."""

    region: str
    table_name: str
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    endpoint: str | None = None
    timeout: float = REQUEST_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """State that ends with the process: for tests and for trying things out."""


Options = SqliteOptions | EtcdOptions | DynamoDBOptions | MemoryOptions
