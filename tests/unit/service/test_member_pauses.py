"""How soon a member tries again after auth did not take its heartbeat."""

from __future__ import annotations

import asyncio
import logging
import random
import uuid
from pathlib import Path

import pytest
from pydantic import SecretStr

from runtime.api.client import AuthClient
from runtime.api.member_messages import Presence
from runtime.api.session import Stream
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.core.errors import Unavailable
from runtime.service.identity import DataDir, StoredIdentity
from runtime.service.member import HEARTBEAT_SECONDS, Member


class Bounds(random.Random):
    """Randomness that notes the bounds asked for, gives the lower one, and says when it was asked often enough."""

    def __init__(self, enough: int) -> None:
        super().__init__()
        self.asked: list[tuple[float, float]] = []
        self.done = asyncio.Event()
        self._enough = enough

    def uniform(self, a: float, b: float) -> float:
        """Return the lower bound."""
        self.asked.append((a, b))
        if len(self.asked) == self._enough:
            self.done.set()
        return a


async def test_pauses_after_failures_are_random_parts_of_a_growing_bound(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """2, 4, 8 seconds, then a heartbeat's own time for as long as auth is away; the log says so once."""

    async def away(server: str) -> Stream:
        raise Unavailable(f"{server} refused the connection")

    nobody = Presence(id=uuid.uuid4(), kind=CallerKind.NODE, name="db1", addr="127.0.0.1:3022")
    bounds = Bounds(enough=1100)  # two hours of failures, past the powers of two that a float holds
    member = Member(
        StoredIdentity(
            id=nobody.id,
            role=CallerKind.NODE,
            cluster="main",
            key=SecretStr(""),
            host_certificate="",
            member_certificate="",
            expires=SystemClock().now(),
            authorities=(),
        ),
        data_dir=DataDir(tmp_path),
        servers=None,
        presence=lambda: nobody,
        advertised=[],
        clock=SystemClock(),
        auth=AuthClient(away, lambda: ["one:3025"]),
        rng=bounds,
    )
    running = asyncio.create_task(member.run())
    waiting = asyncio.create_task(bounds.done.wait())
    await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=60)
    running.cancel()
    assert bounds.asked[:5] == [(0, 2), (0, 4), (0, 8), (0, HEARTBEAT_SECONDS), (0, HEARTBEAT_SECONDS)]
    assert len(bounds.asked) >= 1100
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
