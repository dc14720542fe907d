"""What auth tells of the cluster in public: how it is known and reached. Nothing here is secret.

Auth keeps the record (`runtime.core.keys.CLUSTER_FACTS`). The operator, which may read it beside what is declared,
makes sign-up links and the Secrets of tokens from it.
"""

from __future__ import annotations

from runtime.core.resources.model import Model
from runtime.core.resources.names import Address


class ProxyAddresses(Model):
    """How people reach one proxy: `host:port` of HTTPS and of SSH."""

    web: Address
    ssh: Address


class ClusterFacts(Model):
    """The cluster's name, the fingerprints of its host CA (`--ca-pin`; the signing key's first), and its proxies."""

    name: str
    ca_pins: tuple[str, ...]
    proxies: tuple[ProxyAddresses, ...] = ()
    """In a fixed order. While no proxy is there, those that were there last."""

    @property
    def web(self) -> str:
        """The HTTPS address to give to people; empty if no proxy was ever there."""
        return self.proxies[0].web if self.proxies else ""
