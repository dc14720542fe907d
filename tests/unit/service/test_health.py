"""The diagnostics address, asked over HTTP."""

from __future__ import annotations

import asyncio

import aiohttp

from runtime.service.health import Diagnostics
from runtime.service.metrics import Metrics
from runtime.service.values import Address


async def asked(diagnostics: Diagnostics, path: str) -> tuple[int, str]:
    """Return the status and the text of one answer."""
    url = diagnostics.where.removeprefix("diagnostics on ")
    async with aiohttp.ClientSession() as session, session.get(f"{url}/{path}") as answer:
        return answer.status, await answer.text()


async def test_alive_and_ready_are_two_things() -> None:
    """What is wrong with being ready is no reason to start the process anew."""
    dead = ""

    async def alive() -> str:
        return dead

    async def ready() -> str:
        return "auth is away"

    diagnostics = Diagnostics(Address("127.0.0.1", 0), Metrics(), alive=[alive])
    await diagnostics.start()
    try:
        diagnostics.ready([ready])
        assert await asked(diagnostics, "healthz") == (200, "ok\n")
        assert await asked(diagnostics, "readyz") == (503, "auth is away\n")
        dead = "nothing was heard\nof users"
        assert await asked(diagnostics, "healthz") == (503, "nothing was heard\\nof users\n")
    finally:
        await diagnostics.stop()


async def test_a_check_that_hangs_is_a_no() -> None:
    """Without an answer in time the probe does not wait."""

    async def hangs() -> str:
        await asyncio.Event().wait()
        return ""

    diagnostics = Diagnostics(Address("127.0.0.1", 0), Metrics(), alive=[hangs])
    await diagnostics.start()
    try:
        assert await asked(diagnostics, "healthz") == (503, "no answer within 2 s\n")
    finally:
        await diagnostics.stop()
