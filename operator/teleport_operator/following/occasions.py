"""Occasions to look at objects that nobody has edited: something of them ends, or the cluster tells more of itself."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing

from runtime.backend.base import Delete, Put, Snapshot
from runtime.core.errors import TeleportError
from runtime.core.keys import CLUSTER_FACTS, PUBLIC, SEALING_KEY
from teleport_operator.context import Context
from teleport_operator.following.looking import SECRETS, Looking
from teleport_operator.verdicts.trust import cluster_of

logger = logging.getLogger(__name__)

ENDED = "ended"
FACTS = "facts"
TRUST = "trust"
AGAIN_SECONDS = 60.0
"""Before what could not be followed is tried again: a right is missing, and nothing else waits for it."""
TICK_SECONDS = 2.0
"""How late it may be noticed that something has ended."""


async def follow_deadlines(context: Context, looking: Looking) -> None:
    """Have objects looked at when something of them has ended, for ever."""
    while True:
        now = context.clock.now()
        for ref, end in list(context.deadlines.items()):
            if end <= now:
                del context.deadlines[ref]
                looking.look(ref, ENDED)
        await asyncio.sleep(TICK_SECONDS)


async def follow_public(context: Context, looking: Looking) -> None:
    """Follow for ever what auth tells of the cluster: how it is reached, what to seal to, what became of trust.

    One watch for all, since each costs requests. Without the right to it the rest of the operator works.
    """
    while True:
        try:
            await _follow_public(context, looking)
        except TeleportError as error:
            logger.warning("links and pins may be missing or old, for public/ in the storage cannot be read: %s", error)
            await asyncio.sleep(AGAIN_SECONDS)


async def _follow_public(context: Context, looking: Looking) -> None:
    async with aclosing(context.backend.watch(f"{PUBLIC}/")) as events:
        async for event in events:
            match event:
                case Snapshot(items):
                    told: dict[str, bytes | None] = {item.key: item.value for item in items}
                case Put(item):
                    told = {item.key: item.value}
                case Delete(key):
                    told = {key: None}
            if (facts := told.get(CLUSTER_FACTS)) is not None and context.facts.learn(facts):
                for ref, _ in context.objects.all():
                    if ref.kind == "Token" or ref in context.deadlines:
                        looking.look(ref, FACTS)
            if told.get(SEALING_KEY) is not None:
                for ref, _ in context.objects.references():
                    if ref.kind in ("User", "TrustedCluster"):
                        looking.look(ref, SECRETS)
            for name in {cluster_of(key) for key in told} - {""}:
                for ref, _ in context.objects.called("TrustedCluster", name):
                    looking.look(ref, TRUST)
