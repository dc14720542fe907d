"""Gives the writes of one space their revisions: the next ones of its counter, in one transaction with it and the log.

Writes that wait while a transaction is under way go together in the next one, so that a process does not pay a round
trip, and a race for the counter with other processes, for each of them.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from runtime.backend.base import already_exists, compare_failed, not_found, to_millis
from runtime.backend.dynamodb import changelog, failures
from runtime.backend.dynamodb.connection import Connection, jitter
from runtime.backend.dynamodb.items import Counter, If, Write, read_counter, transaction
from runtime.backend.dynamodb.reads import counter
from runtime.core.clock import Clock
from runtime.core.errors import TeleportError, Unavailable

logger = logging.getLogger(__name__)

TRANSACTION_WRITES = 50
"""Of the 100 items that AWS allows; a longer transaction is more likely to meet another one."""

TRANSACTION_BYTES = 3 * 1024 * 1024 // 2
"""Of the 4 MB that AWS allows: each write is there twice, as the item and in the log, and names need room as well."""


@dataclass(eq=False, slots=True)
class _Pending:
    write: Write
    revision: asyncio.Future[int]


class SpaceWriter:
    """The writes of this process to one space, one transaction at a time; `written` is called after each."""

    def __init__(self, connection: Connection, space: str, clock: Clock, written: Callable[[], None]) -> None:
        self._connection = connection
        self._space = space
        self._clock = clock
        self._written = written
        self._queue: deque[_Pending] = deque()
        self._known: Counter | None = None  # the counter when we last saw it; a wrong guess costs one more try
        self._task: asyncio.Task[None] | None = None

    async def write(self, write: Write) -> int:
        """Carry the write out and return its revision.

        Raises AlreadyExists, NotFound or CompareFailed when its condition does not hold, and Unavailable.
        """
        pending = _Pending(write, asyncio.get_running_loop().create_future())
        self._queue.append(pending)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name=f"dynamodb writer of {self._space}")
        try:
            async with asyncio.timeout(self._connection.timeout):
                return await pending.revision
        except TimeoutError as error:
            raise Unavailable(
                f"the dynamodb table {self._connection.table} took no write within {self._connection.timeout:g} s",
                hint="It may yet be done, or not: read before deciding. Check the network, or who else writes so much.",
            ) from error

    async def close(self) -> None:
        """Return when nothing waits any more, which is soon once the connection is closed."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        while batch := self._next_batch():
            try:
                await self._commit(batch)
            except TeleportError as error:
                self._known = None
                for pending in batch:
                    _fail(pending, error)

    def _next_batch(self) -> list[_Pending]:
        """Take what waits, of each key its oldest write: a transaction cannot hold two of one item."""
        batch: list[_Pending] = []
        keys: set[str] = set()
        size = 0
        later: deque[_Pending] = deque()
        while self._queue and len(batch) < TRANSACTION_WRITES:
            pending = self._queue.popleft()
            if pending.revision.done():  # its caller has given up
                continue
            if pending.write.key in keys or (batch and size + pending.write.size > TRANSACTION_BYTES):
                later.append(pending)
                keys.add(pending.write.key)  # nor may a later write of the key go first
                continue
            batch.append(pending)
            keys.add(pending.write.key)
            size += pending.write.size
        self._queue.extendleft(reversed(later))
        return batch

    async def _commit(self, batch: list[_Pending]) -> None:
        """Carry the batch out, less what its conditions forbid or whose caller gave up. Raises TeleportError."""
        attempt = 0
        while batch := [pending for pending in batch if not pending.revision.done()]:
            if self._known is None:
                self._known = await counter(self._connection, self._space)
            name = str(uuid.uuid4())
            reasons = await self._transact([pending.write for pending in batch], self._known, name)
            if reasons is None:
                for revision, pending in enumerate(batch, self._known.revision + 1):
                    if not pending.revision.done():
                        pending.revision.set_result(revision)
                self._known = Counter(self._known.revision + len(batch), name)
                self._written()
                return
            if _failed(reasons[0]):
                self._known = read_counter(reasons[0].get("Item"))
            for pending, reason in zip(batch, reasons[1:], strict=False):  # after them come those of the log
                if _failed(reason):
                    _fail(pending, _condition_error(pending.write))
            if any(reason.get("Code") in failures.THROTTLED for reason in reasons):
                self._connection.count_throttling("a transaction")
            # Losing to another process, or meeting it half-way (TransactionConflict), is what the pause is for.
            if reasons[0].get("Code") != "None" or not any(_failed(reason) for reason in reasons[1:]):
                await asyncio.sleep(jitter(attempt))
                attempt += 1

    async def _transact(self, writes: list[Write], after: Counter, name: str) -> list[Mapping[str, Any]] | None:
        """Return None when all is done, else AWS's reasons: for the counter, for each write and for the log."""
        table, now = self._connection.table, to_millis(self._clock.now())
        parts = transaction(table, self._space, writes, after=after, name=name, now=now)
        parts += changelog.entries(
            table,
            self._space,
            writes,
            after=after.revision,
            transaction=name,
            previous=after.transaction,
            now=now,
        )
        try:
            await self._connection.request(
                lambda client: client.transact_write_items(TransactItems=parts, ClientRequestToken=name)
            )
        except ClientError as error:
            reasons: list[Mapping[str, Any]] | None = error.response.get("CancellationReasons")  # type: ignore[assignment]  # not in the stubs' response
            if not reasons:
                raise failures.translated(error, self._connection.table) from error
            return reasons
        return None


def _failed(reason: Mapping[str, Any]) -> bool:
    return reason.get("Code") == "ConditionalCheckFailed"


def _fail(pending: _Pending, error: TeleportError) -> None:
    if not pending.revision.done():
        pending.revision.set_exception(error)


def _condition_error(write: Write) -> TeleportError:
    match write.condition:
        case If.ABSENT:
            return already_exists(write.key)
        case If.PRESENT:
            return not_found(write.key)
        case _:
            return compare_failed(write.key, write.revision)
