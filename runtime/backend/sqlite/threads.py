"""The threads that may wait for the disk and for locks, so that the event loop does not."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

import apsw

from runtime.backend.base import closed
from runtime.backend.sqlite.database import pause, translated
from runtime.core.errors import TeleportError

BATCH = 256
"""Operations of one transaction at most: bounds how long another process waits for the lock."""

POLL_SECONDS = 0.035
"""How often the file is asked whether another process changed it, in seconds."""

T = TypeVar("T")


class Pending(Protocol):
    """A call as its thread sees it, whatever it returns."""

    @property
    def wanted(self) -> bool:
        """Whether the caller still waits."""
        ...

    def run(self, connection: apsw.Connection) -> None:
        """Carry it out within a transaction, and keep what comes of it."""
        ...

    def fail(self, error: Exception) -> None:
        """Replace what came of it by this error."""
        ...

    def acknowledge(self) -> None:
        """Tell the caller; runs in the event loop."""
        ...


class Call(Generic[T]):
    """One operation on its way to a thread and back."""

    def __init__(self, operation: Callable[[apsw.Connection], T]) -> None:
        self._operation = operation
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._outcome: list[T] = []
        self._error: Exception | None = None

    @property
    def wanted(self) -> bool:
        """Whether the caller still waits."""
        return not self.future.done()

    def run(self, connection: apsw.Connection) -> None:
        """Keep what the operation returns, or the refusal that it raises, until it is acknowledged."""
        try:
            self._outcome = [self._operation(connection)]
        except TeleportError as error:
            self._error = error

    def fail(self, error: Exception) -> None:
        """Replace what came of it by this error."""
        self._error = error

    def acknowledge(self) -> None:
        """Tell the caller, unless it has given up."""
        if not self.wanted:
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._outcome[0])


class Worker:
    """A thread with a connection of its own. It carries out in one transaction all calls that wait when it begins.

    They are acknowledged after the commit. For writers that is a group commit: one flush to the disk serves them all.
    """

    def __init__(self, path: Path, connection: apsw.Connection, *, begin: str) -> None:
        """Start the thread; `begin` starts each transaction, `path` is for messages."""
        self._path = path
        self._connection = connection
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[Pending | None] = SimpleQueue()
        self._batch: list[Pending] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"sqlite {begin}", daemon=True)
        self._thread.start()

    async def call(self, operation: Callable[[apsw.Connection], T]) -> T:
        """Return what the operation returns. It is left out if the caller gives up before its transaction begins."""
        call = Call(operation)
        self._queue.put(call)
        return await call.future

    def stop(self) -> None:
        """End the thread and close the connection; blocks until then. Calls that have not begun end as Unavailable."""
        self._stopping = True
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        # While somebody else holds the lock, try again as long as anybody here waits for it.
        self._connection.set_busy_handler(lambda attempt: self._wanted() and pause(attempt))
        while not self._stopping:
            self._batch = self._next_batch()
            try:
                self._carry_out()
            except Exception as error:
                # What is not SQLite's is a defect of ours, and the callers get to see it.
                self._fail_batch(error)
            self._acknowledge_batch()
        self._batch = [call for call in self._drain(None) if call is not None]
        self._fail_batch(closed(f"the sqlite database {self._path}"))
        self._acknowledge_batch()

    def _next_batch(self) -> list[Pending]:
        waiting = [self._queue.get(), *self._drain(BATCH - 1)]
        return [call for call in waiting if call is not None]

    def _drain(self, limit: int | None) -> list[Pending | None]:
        found: list[Pending | None] = []
        with contextlib.suppress(Empty):
            while limit is None or len(found) < limit:
                found.append(self._queue.get_nowait())
        return found

    def _carry_out(self) -> None:
        if not self._wanted():
            return
        try:
            self._connection.execute(self._begin)
            for call in self._batch:
                if call.wanted:
                    call.run(self._connection)
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _wanted(self) -> bool:
        return not self._stopping and any(call.wanted for call in self._batch)

    def _fail_batch(self, error: Exception) -> None:
        for call in self._batch:
            call.fail(translated(error, self._path) if isinstance(error, apsw.Error) else error)

    def _acknowledge_batch(self) -> None:
        batch, self._batch = self._batch, []
        with contextlib.suppress(RuntimeError):  # the loop was closed, and nobody waits any more
            self._loop.call_soon_threadsafe(_acknowledge, batch)


class Poller:
    """A thread that notices commits of any process, while `active` is set, within POLL_SECONDS."""

    def __init__(self, connection: apsw.Connection, changed: Callable[[], None]) -> None:
        """Start the thread; `changed` is called in the running event loop after somebody changed the file."""
        self._connection = connection
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        self.active = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sqlite poll", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close the connection; blocks until then."""
        self._stopping = True
        self.active.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        known: int | None = None
        while self.active.wait() and not self._stopping:
            try:
                version = self._connection.pragma("data_version")
            except apsw.Error:
                version = None  # the watches read, meet the same error and tell of it
            if version is None or version != known:
                known = version
                with contextlib.suppress(RuntimeError):  # the loop was closed
                    self._loop.call_soon_threadsafe(self._changed)
            # Half the cost of an Event's wait with a timeout; stop waits for it.
            time.sleep(POLL_SECONDS)


def _acknowledge(batch: list[Pending]) -> None:
    for call in batch:
        call.acknowledge()
