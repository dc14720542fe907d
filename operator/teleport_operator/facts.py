"""What the cluster's public record says, as far as it is known here: pins for nodes, an address for links.

Auth keeps the record (`runtime.core.cluster_facts`). Nothing waits for it: Secrets are completed when it says more.
"""

from __future__ import annotations

import logging

from runtime.backend.base import Backend
from runtime.core.cluster_facts import ClusterFacts
from runtime.core.errors import InvalidResource, NotFound
from runtime.core.keys import CLUSTER_FACTS
from runtime.core.resources import decode

logger = logging.getLogger(__name__)


class Facts:
    """The record, and what the operator's own settings say in its place."""

    def __init__(self, *, proxy_addr: str = "", auth_servers: str = "") -> None:
        self._proxy_addr = proxy_addr
        self._auth_servers = auth_servers
        self._record: ClusterFacts | None = None
        self.version = 0
        """Counts what was learnt: who has used the facts sees whether they are still those."""

    async def read(self, backend: Backend) -> None:
        """Take in the record as it is now, if there is one. Raises Unavailable."""
        try:
            self.learn((await backend.get(CLUSTER_FACTS)).value)
        except NotFound:
            logger.info("no auth server has said yet how the cluster is reached")

    def learn(self, value: bytes) -> bool:
        """Take in a record; return whether it says anything new."""
        try:
            record = decode(ClusterFacts, value)
        except InvalidResource as error:
            logger.warning("%s", error)
            return False
        news = record != self._record
        self._record = record
        self.version += news
        return news

    @property
    def web(self) -> str:
        """`host:port` of the proxy's HTTPS; empty while nobody has said it."""
        return self._proxy_addr or (self._record.web if self._record else "")

    def beside_token(self) -> dict[str, str]:
        """Return what a node needs beside a token's value, by its key in the Secret."""
        pin = self._record.ca_pins[0] if self._record and self._record.ca_pins else ""
        return {key: value for key, value in {"caPin": pin, "authServers": self._auth_servers}.items() if value}

    def link(self, token: str) -> str:
        """Return the URL of the sign-up page; empty while the proxy's address is not known."""
        return f"https://{self.web}/web/newuser/{token}" if self.web else ""
