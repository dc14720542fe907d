"""teleport.yaml as it is written: one class for each section, one field for each key (manual, "Configuration File").

The descriptions and examples are also the comments of the sample (`sample.py`) and the tables of docs/configuration.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from runtime.backend.options import Options
from runtime.core import defaults
from runtime.core.errors import InvalidInput
from runtime.pki.keys import KeyAlgorithm
from runtime.service import values
from runtime.service.audit import AuditSection
from runtime.service.schema import ADDED, Section, choice, contradiction, read
from runtime.service.storage import Storage, backend_options
from runtime.service.values import Address, Role, StaticToken


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


Boolean = Annotated[bool, read(bool, values.parse_boolean)]
Count = Annotated[int, read(int, values.parse_count)]
FilePath = Annotated[str, read(str, values.parse_path)]
Name = Annotated[str, read(str, values.parse_name)]
Secret = Annotated[SecretStr, read(SecretStr, values.parse_secret)]
HttpsUrl = Annotated[str, read(str, partial(values.parse_url, schemes=("https",)))]


def _address(default_port: int) -> object:
    return read(Address, partial(values.parse_address, default_port=default_port))


def _peer(default_port: int) -> object:
    return read(Address, partial(values.parse_peer, default_port=default_port))


def _listen(port: int) -> Address:
    return Address(defaults.LISTEN_HOST, port)


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
    auth_servers: tuple[Annotated[Address, _peer(defaults.AUTH_PORT)], ...] = Field(
        default=(),
        description="The auth servers of the cluster, port 3025 if none is given. Needed where auth does not run here.",
        examples=[["10.0.0.10:3025", "10.0.0.11:3025"]],
    )
    diag_addr: Annotated[Address, _address(defaults.DIAG_PORT)] | None = Field(
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
    tunnel_addr: Annotated[Address, _peer(defaults.PROXY_TUNNEL_PORT)] | None = Field(
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
    listen_addr: Annotated[Address, _address(defaults.AUTH_PORT)] = Field(
        default=_listen(defaults.AUTH_PORT), description="Where the other services reach auth."
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


class Recording(StrEnum):
    """What becomes of a session that cannot be recorded."""

    STRICT = "strict"
    BEST_EFFORT = "best_effort"
    OFF = "off"
    """None is recorded."""


class LabelCommand(Section):
    """A label whose value is what a command prints (manual, "Labeling Nodes")."""

    name: Annotated[str, read(str, values.parse_label_name)] = Field(description="The label.", examples=["hostname"])
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
    listen_addr: Annotated[Address, _address(defaults.NODE_SSH_PORT)] = Field(
        default=_listen(defaults.NODE_SSH_PORT), description="Where proxies reach this machine."
    )
    labels: Mapping[
        Annotated[str, read(str, values.parse_label_name)], Annotated[str, read(str, values.parse_label_value)]
    ] = Field(default_factory=dict, description="Labels that stay.", examples=[{"role": "master", "type": "postgres"}])
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


class OpenSSHServer(Section):
    """A machine that runs OpenSSH's sshd, not teleport (manual, "Integrating with OpenSSH Servers")."""

    name: Name = Field(description="The name by which people reach it.", examples=["db1"])
    addr: Annotated[Address, _peer(defaults.OPENSSH_PORT)] = Field(
        description="Where the proxy reaches it; port 22 if none is given.", examples=["10.0.0.7:22"]
    )
    labels: Mapping[
        Annotated[str, read(str, values.parse_label_name)], Annotated[str, read(str, values.parse_label_value)]
    ] = Field(default_factory=dict, description="Its labels, by which roles allow it.", examples=[{"env": "prod"}])


class ProxyService(Section):
    """The proxy service: what users and other clusters connect to."""

    enabled: Boolean = Field(default=True, description="Run the proxy service here.")
    listen_addr: Annotated[Address, _address(defaults.PROXY_SSH_PORT)] = Field(
        default=_listen(defaults.PROXY_SSH_PORT), description="Where SSH clients begin their sessions."
    )
    tunnel_listen_addr: Annotated[Address, _address(defaults.PROXY_TUNNEL_PORT)] = Field(
        default=_listen(defaults.PROXY_TUNNEL_PORT), description="Where other clusters open their reverse tunnels."
    )
    web_listen_addr: Annotated[Address, _address(defaults.PROXY_WEB_PORT)] = Field(
        default=_listen(defaults.PROXY_WEB_PORT), description="HTTPS: the web UI, and the logins of `tsh`."
    )
    public_addr: Annotated[Address, _peer(defaults.PROXY_WEB_PORT)] | None = Field(
        default=None,
        description="Where people reach HTTPS, if not where it listens: behind a load balancer or a NodePort.",
        examples=["proxy.main.example:443"],
        json_schema_extra=ADDED,
    )
    ssh_public_addr: Annotated[Address, _peer(defaults.PROXY_SSH_PORT)] | None = Field(
        default=None,
        description="Where people reach `listen_addr`, if not on the host of `public_addr` at the same port.",
        examples=["proxy.main.example:3023"],
        json_schema_extra=ADDED,
    )
    tunnel_public_addr: Annotated[Address, _peer(defaults.PROXY_TUNNEL_PORT)] | None = Field(
        default=None,
        description="Where other clusters reach `tunnel_listen_addr`, if not on the host of `public_addr` at its port.",
        examples=["proxy.main.example:3024"],
        json_schema_extra=ADDED,
    )
    https_key_file: FilePath | None = Field(
        default=None,
        description="The key of the certificate for HTTPS (PEM). Goes with `https_cert_file`.",
        examples=["/etc/teleport/teleport.key"],
    )
    https_cert_file: FilePath | None = Field(
        default=None,
        description="The certificate for HTTPS with its chain (PEM). Without it a self-signed one is made.",
        examples=["/etc/teleport/teleport.crt"],
    )
    openssh_servers: tuple[OpenSSHServer, ...] = Field(
        default=(),
        description=(
            "Machines that run OpenSSH's sshd and trust the cluster's user CA: they send no heartbeats, "
            "so the proxy has to be told of them. It connects people to these and to nodes, to nothing else."
        ),
        examples=[[{"name": "db1", "addr": "10.0.0.7:22", "labels": {"env": "prod"}}]],
        json_schema_extra=ADDED,
    )

    @model_validator(mode="after")
    def _whole_pair(self) -> Self:
        if self.https_key_file and not self.https_cert_file:
            raise contradiction("https_key_file", reason="https_key_file needs https_cert_file beside it")
        if self.https_cert_file and not self.https_key_file:
            raise contradiction("https_cert_file", reason="https_cert_file needs https_key_file beside it")
        return self


class Settings(Section):
    """All of teleport.yaml. Secrets in it show themselves in no repr."""

    teleport: Teleport = Field(default_factory=Teleport, description="What holds for all services of this process.")
    auth_service: AuthService = Field(
        default_factory=AuthService, description="The auth service: the cluster's authority."
    )
    ssh_service: SSHService = Field(default_factory=SSHService, description="The node service: SSH into this machine.")
    proxy_service: ProxyService = Field(
        default_factory=ProxyService, description="The proxy service: what users and other clusters connect to."
    )
    audit: AuditSection = Field(
        default_factory=AuditSection,
        description="What auth does with events and recordings; `spool_limit` is for nodes and proxies.",
        json_schema_extra=ADDED,
    )

    @property
    def roles(self) -> frozenset[Role]:
        """The services that run."""
        enabled = {
            Role.AUTH: self.auth_service.enabled,
            Role.NODE: self.ssh_service.enabled,
            Role.PROXY: self.proxy_service.enabled,
        }
        return frozenset(role for role, runs in enabled.items() if runs)

    @property
    def dynamic_config(self) -> bool:
        """Whether the storage is the truth, not the file: as written, else whether a storage section is there."""
        written = self.auth_service.dynamic_config
        return self.teleport.storage is not None if written is None else written

    @property
    def backend(self) -> Options:
        """What opens the backend."""
        return backend_options(self.teleport.storage, data_dir=self.teleport.data_dir)
