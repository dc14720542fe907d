"""Ids that sort by the time at which they were made: UUID version 7 (RFC 9562 §5.7)."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_COUNTS = 1 << 12
"""Ids of one millisecond: `rand_a` counts them (RFC 9562 §6.2, method 1)."""


class Uuid7:
    """Makes ids, each greater than the one before, also where the clock stands or goes back. Safe between threads."""

    def __init__(self, random_bits: Callable[[int], int]) -> None:
        self._random_bits = random_bits
        self._lock = threading.Lock()
        self._millisecond = -1
        self._count = 0

    def __call__(self, now: datetime) -> uuid.UUID:
        """Return the next id; `now` is aware."""
        with self._lock:
            millisecond = (now - _EPOCH) // _MILLISECOND
            if millisecond > self._millisecond:
                self._millisecond, self._count = millisecond, self._random_bits(11)  # room to count up
            else:
                self._count += 1
                if self._count == _COUNTS:
                    self._millisecond, self._count = self._millisecond + 1, 0
            high = self._millisecond << 16 | 7 << 12 | self._count
        return uuid.UUID(int=high << 64 | 0b10 << 62 | self._random_bits(62))
