"""teleport.yaml as it is written: one class for each section, one field for each key (manual, "Configuration File").

The descriptions and examples are also the comments of the sample (`sample.py`) and the tables of docs/configuration.md.
"""

from __future__ import annotations

from pydantic import Field

from runtime.backend.options import Options
from runtime.service.schema import ADDED, Section
from runtime.service.sections.audit import AuditSection
from runtime.service.sections.auth import AuthService
from runtime.service.sections.proxy import ProxyService
from runtime.service.sections.ssh import SSHService
from runtime.service.sections.storage import backend_options
from runtime.service.sections.teleport import Teleport
from runtime.service.values import Role


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
