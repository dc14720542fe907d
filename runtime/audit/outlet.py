"""Passing the event log on: from the files to whoever takes events, exactly where it left off, whatever stops."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from runtime.audit.tail import Position, Tail
from runtime.core.errors import TeleportError

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
"""How often the log is looked at."""
MAX_LINES = 256
"""Events of one batch."""
MAX_PAUSE_SECONDS = 60.0


class Sink(Protocol):
    """Takes events."""

    @property
    def name(self) -> str:
        """What the log calls it; its position is kept under this name."""
        ...

    async def take(self, lines: Sequence[bytes]) -> None:
        """Take lines of the log. The same lines may come again after a crash. Raises Unavailable: try again."""
        ...


class Outlet:
    """Keeps one sink current. Its position lies in the log's folder, in `.NAME.position`."""

    def __init__(self, folder: Path, sink: Sink, *, rng: random.Random | None = None) -> None:
        self._tail = Tail(folder)
        self._sink = sink
        self._file = folder / f".{sink.name}.position"
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._position: Position | None = None

    async def run(self) -> None:
        """Pass events on, until cancelled. A sink that is away is tried again; the log says why, each reason once."""
        failures = 0
        reason = ""
        while True:
            try:
                while await self.step():
                    pass
            except (TeleportError, OSError) as error:
                failures += 1
                if str(error) != reason:
                    reason = str(error)
                    logger.error("audit events wait for %s: %s", self._sink.name, error)  # noqa: TRY400 - no bug of ours
                await asyncio.sleep(self._rng.uniform(0, min(MAX_PAUSE_SECONDS, 2.0 ** min(failures, 10))))
                continue
            if failures:
                logger.warning("%s takes audit events again", self._sink.name)
            failures, reason = 0, ""
            await asyncio.sleep(TICK_SECONDS)

    async def step(self) -> bool:
        """Pass one batch on; return whether there was one. Raises Unavailable, OSError."""
        if self._position is None:
            self._position = await asyncio.to_thread(self._where)
            if self._position is None:
                return False
        lines, position = await asyncio.to_thread(self._tail.read, self._position, limit=MAX_LINES)
        if lines:
            await self._sink.take(lines)
        if position != self._position:
            await asyncio.to_thread(self._keep, position)
            self._position = position
        return bool(lines)

    def _where(self) -> Position | None:
        try:
            return Position.load(self._file.read_bytes())
        except FileNotFoundError:
            return self._tail.begin()
        except ValueError as error:
            logger.error("%s: %s; all events are passed on again", self._file, error)  # noqa: TRY400 - no bug of ours
            return self._tail.begin()

    def _keep(self, position: Position) -> None:
        new = self._file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_bytes(position.dump())
        new.replace(self._file)
