"""The recent changes of each space, by revision. Pure: whoever follows them asks for the revision it needs next."""

from __future__ import annotations

from runtime.backend.base import Delete, Put

HISTORY_CHANGES = 10_000
HISTORY_BYTES = 16 * 1024 * 1024
"""What one space may take of memory; who is further behind reads the log by itself."""


class History:
    """Changes of one space, the newest of them."""

    def __init__(self) -> None:
        self._changes: dict[int, Put | Delete] = {}
        self._bytes = 0

    def add(self, change: Put | Delete) -> None:
        """Keep a change above all others, dropping the oldest when there is no more room."""
        self._changes[change.revision] = change
        self._bytes += size(change)
        while len(self._changes) > HISTORY_CHANGES or self._bytes > HISTORY_BYTES:
            self._bytes -= size(self._changes.pop(next(iter(self._changes))))

    def get(self, revision: int) -> Put | Delete | None:
        """Return the change of that revision, if it is here."""
        return self._changes.get(revision)


def key_of(change: Put | Delete) -> str:
    """Return the key that was changed."""
    return change.item.key if isinstance(change, Put) else change.key


def size(change: Put | Delete) -> int:
    """Return about how many bytes the change takes."""
    return 200 + len(key_of(change)) + (len(change.item.value) if isinstance(change, Put) else 0)
