"""What other clusters tell of their authorities at our tunnels, passed on to auth, which alone can believe it."""

from __future__ import annotations

import asyncio
import logging

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.succession_messages import Successions
from runtime.core.errors import TeleportError, Unavailable
from runtime.core.succession import read_successions

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
"""After which auth is tried again that was away."""
SETTLING_SECONDS = 0.2
"""Several tunnels tell the same at once."""

Statements = tuple[str, ...]


class Messenger:
    """Brings auth the last that each cluster has told, once."""

    def __init__(self, auth: AuthClient) -> None:
        self._auth = auth
        self._told: dict[str, Statements] = {}
        self._waiting: dict[str, Statements] = {}
        self._news = asyncio.Event()

    def heard(self, cluster: str, statements: Statements) -> None:
        """Take what a cluster has told at a tunnel that it was proved for."""
        if statements and self._told.get(cluster) != statements:
            self._told[cluster] = self._waiting[cluster] = statements
            self._news.set()

    def forget(self) -> None:
        """Bring it again when it is told again: what is trusted has changed, and with it what is believed."""
        self._told = dict(self._waiting)

    async def run(self) -> None:
        """Bring it, until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(SETTLING_SECONDS)
            self._news.clear()
            waiting, self._waiting = self._waiting, {}
            for cluster, statements in waiting.items():
                try:
                    await self._auth.call(methods.TRUSTED_LEARN, Successions(cluster=cluster, statements=statements))
                except Unavailable as error:
                    logger.info("auth does not hear yet what cluster %s says of its authorities: %s", cluster, error)
                    self._waiting.setdefault(cluster, statements)
                except TeleportError as error:
                    logger.warning("auth does not take what cluster %s says of its authorities: %s", cluster, error)
            if self._waiting:
                await asyncio.sleep(AGAIN_SECONDS)
                self._news.set()


def keys_told(statements: Statements) -> frozenset[tuple[str, tuple[str, ...]]]:
    """Return which keys the latest of our own statements name: where those stay, others have nothing to do."""
    latest = {}
    for each in sorted(read_successions(statements), key=lambda each: each.number):
        latest[each.type.value] = each.keys
    return frozenset(latest.items())
