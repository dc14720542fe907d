"""The watches on the backend and on Secrets, for as long as kopf runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import kopf

from teleport_operator.context import Context
from teleport_operator.following.drift import Drift
from teleport_operator.following.looking import Looking
from teleport_operator.following.occasions import follow_deadlines, follow_public
from teleport_operator.following.secret_watch import SecretWatch
from teleport_operator.kubernetes.watches import Watches
from teleport_operator.settings import OperatorSettings

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
"""Before they are begun anew after an error that nobody foresaw."""


@kopf.on.startup()
async def follow(memo: kopf.Memo, **_: Any) -> None:
    """Begin to follow."""
    memo.following = asyncio.create_task(_follow(memo.context, memo.own_settings, memo.operator.watches))


@kopf.on.cleanup()
async def leave(memo: kopf.Memo, **_: Any) -> None:
    """Stop it."""
    memo.following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await memo.following


async def _follow(context: Context, settings: OperatorSettings, watches: Watches) -> None:
    while True:
        looking = Looking(context)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(looking.run())
                group.create_task(Drift(context, looking).run())
                group.create_task(follow_public(context, looking))
                group.create_task(follow_deadlines(context, looking))
                for namespace in settings.namespaces or ("",):
                    watch = SecretWatch(context, looking, watches, namespace=namespace, silence=settings.watch_silence)
                    group.create_task(watch.run())
        except Exception:
            logger.exception("the backend and the Secrets are followed anew")
        await asyncio.sleep(AGAIN_SECONDS)
