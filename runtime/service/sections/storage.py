"""The storage section: where auth keeps the cluster's state, and what opens it."""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from runtime.backend.options import DynamoDBOptions, EtcdOptions, Options, SqliteOptions
from runtime.core import defaults
from runtime.service.schema import ADDED, Section, contradiction, read
from runtime.service.values import (
    parse_boolean,
    parse_dynamodb_table,
    parse_etcd_peer,
    parse_etcd_prefix,
    parse_name,
    parse_path,
    parse_secret,
    parse_text,
    parse_url,
)

SQLITE_FILE = "backend.sqlite"
"""The embedded database's name within data_dir."""


class SqliteStorage(Section):
    """The embedded database: one file, shared by the processes of one machine."""

    type: Literal["sqlite", "bolt", "dir"] = Field(
        description="The embedded database. `bolt` and `dir` are names of old configurations and mean `sqlite` too.",
        examples=["sqlite"],
    )
    path: Annotated[str, read(str, parse_text)] = Field(
        default=SQLITE_FILE,
        description="The database's file; a relative path starts at `data_dir`.",
        json_schema_extra=ADDED,
    )


class EtcdStorage(Section):
    """An etcd cluster (manual, "Using etcd")."""

    type: Literal["etcd"] = Field(description="An etcd cluster, version 3.4 or later.", examples=["etcd"])
    peers: tuple[Annotated[str, read(str, parse_etcd_peer)], ...] = Field(
        min_length=1,
        description="The members of etcd to connect to, as URLs; without a scheme `https` is meant. Some may be down.",
        examples=[["https://10.0.0.11:2379", "https://10.0.0.12:2379"]],
    )
    tls_cert_file: Annotated[str, read(str, parse_path)] | None = Field(
        default=None,
        description="The TLS certificate that auth shows to etcd (PEM). Goes with `tls_key_file`.",
        examples=["/var/lib/teleport/etcd-cert.pem"],
    )
    tls_key_file: Annotated[str, read(str, parse_path)] | None = Field(
        default=None, description="The key of `tls_cert_file` (PEM).", examples=["/var/lib/teleport/etcd-key.pem"]
    )
    tls_ca_file: Annotated[str, read(str, parse_path)] | None = Field(
        default=None,
        description="The authority that has signed etcd's certificates (PEM); the system's authorities if not given.",
        examples=["/var/lib/teleport/etcd-ca.pem"],
    )
    prefix: Annotated[str, read(str, parse_etcd_prefix)] = Field(
        default=defaults.ETCD_PREFIX,
        description="Every key in etcd starts with this, so that clusters can share one etcd.",
    )
    insecure: Annotated[bool, read(bool, parse_boolean)] = Field(
        default=False, description="Accept any certificate from etcd, also a self-signed one. Not for production."
    )

    @model_validator(mode="after")
    def _whole_pairs(self) -> Self:
        if self.tls_cert_file and not self.tls_key_file:
            raise contradiction("tls_cert_file", reason="tls_cert_file needs tls_key_file beside it")
        if self.tls_key_file and not self.tls_cert_file:
            raise contradiction("tls_key_file", reason="tls_key_file needs tls_cert_file beside it")
        return self


class DynamoDBStorage(Section):
    """A table of Amazon DynamoDB (manual, "Using DynamoDB")."""

    type: Literal["dynamodb"] = Field(description="A table of Amazon DynamoDB.", examples=["dynamodb"])
    region: Annotated[str, read(str, parse_name)] = Field(description="The AWS region.", examples=["eu-west-1"])
    table_name: Annotated[str, read(str, parse_dynamodb_table)] = Field(
        description="The table; it is created when it is missing.", examples=["teleport.state"]
    )
    access_key: Annotated[str, read(str, parse_name)] | None = Field(
        default=None,
        description="The AWS access key. Without it the usual chain of AWS is asked: environment, profile, IAM role.",
        examples=["AKIAEXAMPLE"],
    )
    secret_key: Annotated[SecretStr, read(SecretStr, parse_secret)] | None = Field(
        default=None, description="The secret of `access_key`.", examples=["a-secret-from-AWS"]
    )
    endpoint: Annotated[str, read(str, partial(parse_url, schemes=("https", "http")))] | None = Field(
        default=None,
        description="Another URL to reach DynamoDB at, such as that of DynamoDB Local.",
        examples=["http://127.0.0.1:8000"],
        json_schema_extra=ADDED,
    )

    @model_validator(mode="after")
    def _whole_pairs(self) -> Self:
        if self.access_key and not self.secret_key:
            raise contradiction("access_key", reason="access_key needs secret_key beside it")
        if self.secret_key and not self.access_key:
            raise contradiction("secret_key", reason="secret_key needs access_key beside it")
        return self


Storage = SqliteStorage | EtcdStorage | DynamoDBStorage


def backend_options(storage: Storage | None, *, data_dir: str) -> Options:
    """Return what opens the backend that the storage section describes; None is the embedded database in `data_dir`."""
    match storage:
        case EtcdStorage():
            return EtcdOptions(
                peers=storage.peers,
                prefix=storage.prefix,
                tls_cert_file=storage.tls_cert_file,
                tls_key_file=storage.tls_key_file,
                tls_ca_file=storage.tls_ca_file,
                insecure=storage.insecure,
            )
        case DynamoDBStorage():
            return DynamoDBOptions(
                region=storage.region,
                table_name=storage.table_name,
                access_key=storage.access_key,
                secret_key=storage.secret_key.get_secret_value() if storage.secret_key else None,
                endpoint=storage.endpoint,
            )
        case _:
            return SqliteOptions(str(PurePosixPath(data_dir) / (storage.path if storage else SQLITE_FILE)))
