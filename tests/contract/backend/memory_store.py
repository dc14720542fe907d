"""The store `memory`: one state of this process, shared by every backend opened on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path

from runtime.backend.base import Backend
from runtime.backend.memory import MemoryBackend, MemoryState
from runtime.core.clock import Clock, SystemClock
from tests.contract.backend.harness import Store


class MemoryStore:
    """See Store. It has no server: nothing to restart or to freeze, and no test asks for it."""

    name = "memory"
    options = None

    def __init__(self) -> None:
        self._state = MemoryState()
        self.opened: list[Backend] = []

    async def open(self, clock: Clock | None = None, *, timeout: float | None = None) -> Backend:  # noqa: ASYNC109  # see Store.open
        """Open one more backend on the same state. No request takes time."""
        backend = MemoryBackend(clock=clock or SystemClock(), state=self._state)
        self.opened.append(backend)
        return backend

    async def restart(self) -> None:
        """Refuse: there is no server, and no test asks for it."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Refuse: there is no server, and no test asks for it."""
        raise NotImplementedError

    def thaw(self) -> None:
        """Refuse: there is no server, and no test asks for it."""
        raise NotImplementedError

    async def forget_history(self) -> None:
        """Drop all changes."""
        self._state.history.clear()


def server(folder: Path) -> AbstractContextManager[None]:
    """Start nothing."""
    return nullcontext()


@asynccontextmanager
async def open_store(server: None, folder: Path) -> AsyncIterator[Store]:
    """Give an empty store."""
    store = MemoryStore()
    yield store
    for backend in store.opened:
        await backend.close()
