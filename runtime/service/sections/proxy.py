"""The section `proxy_service`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from runtime.core import defaults
from runtime.service.schema import ADDED, Section, contradiction
from runtime.service.sections.fields import Boolean, FilePath, LabelName, LabelValue, Name, address, everywhere, peer
from runtime.service.values import Address


class OpenSSHServer(Section):
    """A machine that runs OpenSSH's sshd, not teleport (manual, "Integrating with OpenSSH Servers")."""

    name: Name = Field(description="The name by which people reach it.", examples=["db1"])
    addr: Annotated[Address, peer(defaults.OPENSSH_PORT)] = Field(
        description="Where the proxy reaches it; port 22 if none is given.", examples=["10.0.0.7:22"]
    )
    labels: Mapping[LabelName, LabelValue] = Field(
        default_factory=dict, description="Its labels, by which roles allow it.", examples=[{"env": "prod"}]
    )


class ProxyService(Section):
    """The proxy service: what users and other clusters connect to."""

    enabled: Boolean = Field(default=True, description="Run the proxy service here.")
    listen_addr: Annotated[Address, address(defaults.PROXY_SSH_PORT)] = Field(
        default=everywhere(defaults.PROXY_SSH_PORT), description="Where SSH clients begin their sessions."
    )
    tunnel_listen_addr: Annotated[Address, address(defaults.PROXY_TUNNEL_PORT)] = Field(
        default=everywhere(defaults.PROXY_TUNNEL_PORT), description="Where other clusters open their reverse tunnels."
    )
    web_listen_addr: Annotated[Address, address(defaults.PROXY_WEB_PORT)] = Field(
        default=everywhere(defaults.PROXY_WEB_PORT), description="HTTPS: the web UI, and the logins of `tsh`."
    )
    public_addr: Annotated[Address, peer(defaults.PROXY_WEB_PORT)] | None = Field(
        default=None,
        description="Where people reach HTTPS, if not where it listens: behind a load balancer or a NodePort.",
        examples=["proxy.main.example:443"],
        json_schema_extra=ADDED,
    )
    ssh_public_addr: Annotated[Address, peer(defaults.PROXY_SSH_PORT)] | None = Field(
        default=None,
        description="Where people reach `listen_addr`, if not on the host of `public_addr` at the same port.",
        examples=["proxy.main.example:3023"],
        json_schema_extra=ADDED,
    )
    tunnel_public_addr: Annotated[Address, peer(defaults.PROXY_TUNNEL_PORT)] | None = Field(
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
