"""How long the way from `helm install` to the first session takes, and its parts."""

from __future__ import annotations

import time


class Phases:
    """Parts of one way, in their order."""

    def __init__(self) -> None:
        self._started = self._last = time.monotonic()
        self._ended: list[tuple[str, float]] = []

    def begin(self) -> None:
        """Start now."""
        self._started = self._last = time.monotonic()

    def end(self, name: str) -> None:
        """Note that a part is done."""
        now = time.monotonic()
        self._ended.append((name, now - self._last))
        self._last = now

    def __str__(self) -> str:
        lines = [f"  {seconds:6.1f} s  {name}" for name, seconds in self._ended]
        return "\n".join(["", *lines, f"  {self._last - self._started:6.1f} s  in all"])
