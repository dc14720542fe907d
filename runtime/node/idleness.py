"""The end of a session in which nothing happens (idleTimeout of roles)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from runtime.core.durations import format_duration


class Idleness:
    """Watches one session, once it has begun."""

    def __init__(self, end: Callable[[str], None]) -> None:
        """`end` is told why it ends."""
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def touch(self) -> None:
        """Note that somebody did something."""
        self._last = self._loop.time()

    def watch(self, limit: timedelta | None) -> None:
        """End the session after so long without anything; never, if there is no limit."""
        self.touch()
        if limit is not None:
            self._look(limit)

    def stop(self) -> None:
        """Watch no more. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, limit: timedelta) -> None:
        left = self._last + limit.total_seconds() - self._loop.time()
        if left <= 0:
            self._end(f"the session ends: no input for {format_duration(limit)} (idleTimeout of your roles)")
        else:
            self._timer = self._loop.call_later(left, self._look, limit)
