"""How long to wait before dialling again: full jitter, so that thousands who lost one proxy do not come as one."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.5
LONGEST_SECONDS = 4.0
"""With the agent's DIAL_SECONDS, which one in vain lasts, a tunnel is back within ten seconds of the network."""
REFUSED_SECONDS = 10.0
"""The longest where the root answers and refuses: nothing but somebody's hand will change that."""


class Backoff:
    """The pauses of one who dials. Each is a random part of a bound that doubles."""

    def __init__(self, rng: random.Random, *, first: float = FIRST_SECONDS, longest: float = LONGEST_SECONDS) -> None:
        """Pauses are in seconds."""
        self._rng = rng
        self._first = first
        self._longest = longest
        self._bound = 0.0

    def pause(self, *, longest: float | None = None) -> float:
        """Return how long to wait now, after another failure."""
        limit = self._longest if longest is None else longest
        self._bound = min(limit, max(self._first, 2 * self._bound))
        return self._rng.uniform(0, self._bound)

    def reset(self) -> None:
        """Begin anew, after a success."""
        self._bound = 0.0
