"""The node service: for now its presence and labels. It does not listen: sessions come with a later release."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from runtime.node.labels import NodeLabels
from runtime.service.values import Address

logger = logging.getLogger(__name__)


class NodeService:
    """One node."""

    where = "node"

    def __init__(self, *, addr: Address, labels: NodeLabels) -> None:
        self._addr = addr
        self._labels = labels

    def presence(self) -> tuple[str, Mapping[str, str]]:
        """Return the address to advertise, and the labels as they are now."""
        return str(self._addr), self._labels()

    async def start(self) -> None:
        """Get the labels' first values."""
        await self._labels.first()
        logger.warning(
            "the node is listed at %s with its labels, and does not listen: SSH sessions come with a later release",
            self._addr,
        )

    async def run(self) -> None:
        """Keep the labels current, until cancelled."""
        await self._labels.run()

    async def reload(self) -> None:
        """Nothing is read again."""

    async def stop(self) -> None:
        """Nothing is open."""
