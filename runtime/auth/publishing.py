"""Keeps the public record of the cluster as it is: its name, its host CA, and where its proxies are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

from pydantic import ValidationError

from runtime.api.member_messages import Presence, PresenceEntry
from runtime.auth.presence import PresenceStore
from runtime.backend.base import Backend
from runtime.core.callers import CallerKind
from runtime.core.cluster_facts import ClusterFacts, ProxyAddresses
from runtime.core.errors import AlreadyExists, CompareFailed, NotFound, TeleportError
from runtime.core.keys import CLUSTER_FACTS
from runtime.core.resources import decode, encode

logger = logging.getLogger(__name__)

WEB_LABEL = "web"
"""The label in which a proxy tells its HTTPS address."""


class Publisher:
    """Writes the record when something in it is new. Auth servers that do so at once write the same."""

    def __init__(
        self,
        backend: Backend,
        presence: PresenceStore,
        *,
        cluster: str,
        ca_pins: Callable[[], tuple[str, ...]],
        changes: Callable[[], AsyncGenerator[object, None]],
    ) -> None:
        """Take what the record is made of; `changes` yields whenever the pins may have changed."""
        self._backend = backend
        self._presence = presence
        self._cluster = cluster
        self._ca_pins = ca_pins
        self._changes = changes

    async def run(self) -> None:
        """Follow the proxies, each of whose heartbeats is an occasion, and the pins, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_proxies())
            group.create_task(self._follow_pins())

    async def _follow_proxies(self) -> None:
        async with aclosing(self._presence.follow(CallerKind.PROXY)) as listed:
            async for proxies in listed:
                await self._try(proxies)

    async def _follow_pins(self) -> None:
        async with aclosing(self._changes()) as changes:
            async for _ in changes:
                await self._try(None)

    async def _try(self, proxies: Iterable[PresenceEntry] | None) -> None:
        try:
            await self.publish(await self._presence.list(CallerKind.PROXY) if proxies is None else proxies)
        except TeleportError as error:
            logger.warning("the cluster's public record is not written yet: %s", error)

    async def publish(self, proxies: Iterable[PresenceEntry]) -> None:
        """Have the record say this. Raises Unavailable, InvalidResource for what a newer version wrote."""
        addresses = {(found.web, found.ssh): found for each in proxies if (found := _addresses(each.presence))}
        facts = ClusterFacts(
            name=self._cluster,
            ca_pins=self._ca_pins(),
            proxies=tuple(addresses[key] for key in sorted(addresses)),
        )
        try:
            item = await self._backend.get(CLUSTER_FACTS)
        except NotFound:
            try:
                await self._backend.create(CLUSTER_FACTS, encode(facts))
            except AlreadyExists:
                logger.debug("another auth server has written the public record")
            return
        before = decode(ClusterFacts, item.value)
        if not facts.proxies:
            facts = facts.model_copy(update={"proxies": before.proxies})
        if facts != before:
            try:
                await self._backend.compare_and_swap(CLUSTER_FACTS, encode(facts), revision=item.revision)
            except CompareFailed:
                logger.debug("another auth server has written the public record")


def web_address(presence: Presence) -> str:
    """Return the HTTPS address of a proxy."""
    return presence.labels.get(WEB_LABEL, presence.addr)


def _addresses(presence: Presence) -> ProxyAddresses | None:
    try:
        return ProxyAddresses(web=web_address(presence), ssh=presence.addr)
    except ValidationError:
        logger.warning("a proxy says that it is at %a, which is no address", web_address(presence))
        return None
