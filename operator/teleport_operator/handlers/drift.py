"""The watch on the backend, for as long as kopf runs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import kopf

from teleport_operator.drift import Drift

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 5.0
"""Before it is begun anew after an error that nobody foresaw."""


@kopf.on.startup()
async def follow_backend(memo: kopf.Memo, **_: Any) -> None:
    """Begin to follow the backend."""
    memo.following = asyncio.create_task(_follow(memo))


@kopf.on.cleanup()
async def leave_backend(memo: kopf.Memo, **_: Any) -> None:
    """Stop it."""
    memo.following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await memo.following


async def _follow(memo: kopf.Memo) -> None:
    while True:
        try:
            await Drift(memo.context).run()
        except Exception:
            logger.exception("the backend is followed anew")
        await asyncio.sleep(AGAIN_SECONDS)
