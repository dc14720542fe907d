"""The store `sqlite`: a database file. What freezes is another process in the middle of a write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import apsw

from runtime.backend.base import Backend
from runtime.backend.options import SqliteOptions
from runtime.backend.sqlite import SqliteBackend
from runtime.core.clock import Clock, SystemClock
from tests.contract.backend.harness import REQUEST_SECONDS, Store

_HOLD_WRITE_LOCK = """
import apsw, sys
connection = apsw.Connection(sys.argv[1])
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


class SqliteStore:
    """See Store."""

    name = "sqlite"

    def __init__(self, path: Path) -> None:
        self.options = SqliteOptions(path=str(path), timeout=REQUEST_SECONDS)
        self.opened: list[Backend] = []
        self._holder: subprocess.Popen[bytes] | None = None

    async def open(self, clock: Clock | None = None, *, timeout: float | None = None) -> Backend:  # noqa: ASYNC109  # see Store.open
        """Open one more backend on the same file."""
        options = self.options if timeout is None else replace(self.options, timeout=timeout)
        backend = await SqliteBackend.open(options, clock=clock or SystemClock())
        self.opened.append(backend)
        return backend

    async def restart(self) -> None:
        """Refuse: there is no server, and no test asks for it."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Start a process that takes the write lock, and stop it there."""
        self._holder = subprocess.Popen(
            [sys.executable, "-c", _HOLD_WRITE_LOCK, self.options.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"locked\n"
        os.kill(self._holder.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it end."""
        if self._holder is not None:
            os.kill(self._holder.pid, signal.SIGCONT)
            self._holder.communicate()  # closes its input, which ends it
            self._holder = None

    async def forget_history(self) -> None:
        """Drop all changes, as the sweep does with old ones."""
        connection = apsw.Connection(self.options.path)
        connection.set_busy_timeout(5000)
        connection.execute("""
            BEGIN IMMEDIATE;
            UPDATE meta SET forgotten = coalesce((SELECT max(revision) FROM changes), forgotten);
            DELETE FROM changes;
            COMMIT;
        """)
        connection.close()


def server(folder: Path) -> AbstractContextManager[None]:
    """Start nothing."""
    return nullcontext()


@asynccontextmanager
async def open_store(server: None, folder: Path) -> AsyncIterator[Store]:
    """Give an empty store."""
    store = SqliteStore(folder / "state" / "teleport.db")
    try:
        yield store
    finally:
        store.thaw()
        for backend in store.opened:
            await backend.close()
