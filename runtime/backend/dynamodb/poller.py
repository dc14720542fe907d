"""Polls the logs of the spaces that somebody watches: one poller a space, whatever the number of its watches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager

from runtime.backend.base import Delete, Put
from runtime.backend.dynamodb.changelog import Entry, between, read_entry
from runtime.backend.dynamodb.connection import Connection
from runtime.backend.dynamodb.history import History
from runtime.backend.dynamodb.items import Counter
from runtime.backend.dynamodb.reads import counter, pages
from runtime.core.errors import TeleportError, Unavailable

logger = logging.getLogger(__name__)

BUSY_SECONDS = 0.05
IDLE_SECONDS = 1.0
SLOWING = 4
"""Between two looks passes a quarter of the time since the last change, but no less and no more than these seconds.

A look at a space without changes is one read request unit: docs/adr/0011 has the price.
"""

HOLE_SECONDS = 1.5
"""How long an entry may be missing that the counter says is there, before it counts as gone."""

RETRY_SECONDS = 0.25
MAX_RETRY_SECONDS = 5.0
"""Between two looks while the store is away: more each time, up to this."""


class Poller:
    """Follows one space while `run` runs.

    `generation` counts the histories that it has begun, 0 meaning none yet. Within one, `history` gets every change
    above the revision at which it began, in order and without a gap. A new one begins where that cannot go on: entries
    are gone, or the table is another one with revisions of its own.
    """

    def __init__(
        self,
        connection: Connection,
        space: str,
        *,
        heard: Callable[[Put | Delete], None],
        begun: Callable[[str], None],
    ) -> None:
        self.space = space
        self.generation = 0
        self.newest = 0
        self.history = History()
        self.refusal: TeleportError | None = None  # why the space cannot be read, where waiting does not help
        self._connection = connection
        self._heard = heard
        self._begun = begun
        self._transaction = ""  # the one that gave the newest revision
        self._changed_at = time.monotonic()
        self._hole_since: float | None = None
        self._hurry = asyncio.Event()
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Poll until cancelled. Losing the store is logged once and waited for."""
        lost = 0
        while True:
            self._hurry.clear()
            try:
                await self._look()
            except TeleportError as error:
                if not lost:
                    logger.warning("lost the log of %s in DynamoDB: %s", self.space, error)
                lost += 1
                self.refusal = None if isinstance(error, Unavailable) else error
                self.wake()
                await asyncio.sleep(retry_pause(lost))
                continue
            if lost:
                logger.info("the log of %s in DynamoDB is read again", self.space)
                lost, self.refusal = 0, None
            quiet = time.monotonic() - self._changed_at
            await wait_for(self._hurry, pause(quiet) if self._hole_since is None else BUSY_SECONDS)

    def hurry(self) -> None:
        """Have it look at once: there is something new."""
        self._hurry.set()

    async def news(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the end of the time is no error here
        """Wait until there is a change, a new generation, a refusal or `wake` was called, or `timeout` seconds pass."""
        await wait_for(self._news, timeout)

    def wake(self) -> None:
        """Let all who wait for news look again."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def entries(self, after: int, upto: int) -> AsyncGenerator[Entry, None]:
        """Give the entries of the log with changes above `after` up to `upto`. Raises Unavailable, AccessDenied."""
        async with aclosing(pages(self._connection, between(self.space, after, upto))) as found:
            async for page in found:
                for attributes in page:
                    yield read_entry(attributes)

    async def _look(self) -> None:
        now = await counter(self._connection, self.space)
        if not self.generation:
            self._begin(now)
        elif now.revision < self.newest or (now.revision == self.newest and now.transaction != self._transaction):
            self._begin_anew(now, "it is not the table that it was")
        elif now.revision > self.newest:
            await self._read_on(now)

    async def _read_on(self, now: Counter) -> None:
        """Read what the log has up to the counter. An entry counts only if it goes on where the last one ended."""
        async with aclosing(self.entries(self.newest, now.revision)) as found:
            async for entry in found:
                if entry.first != self.newest + 1:
                    break
                if entry.previous != self._transaction:
                    return self._begin_anew(now, "it is not the table that it was")
                for change in entry.changes:
                    self.history.add(change)
                    self._heard(change)
                self._moved(entry.last, entry.transaction)
        if self.newest == now.revision:
            return None
        # A reader may meet a transaction half-way: the counter moved, the entry not yet there.
        since = self._hole_since = time.monotonic() if self._hole_since is None else self._hole_since
        if time.monotonic() - since > HOLE_SECONDS:
            return self._begin_anew(now, f"the changes after revision {self.newest} are gone")
        return None

    def _begin_anew(self, now: Counter, why: str) -> None:
        logger.warning("the watches of %s in DynamoDB start anew: %s", self.space, why)
        self._begin(now)

    def _begin(self, now: Counter) -> None:
        self.generation += 1
        self.history = History()
        self._moved(now.revision, now.transaction)
        self._begun(self.space)

    def _moved(self, revision: int, transaction: str) -> None:
        self.newest, self._transaction = revision, transaction
        self._changed_at, self._hole_since = time.monotonic(), None
        self.wake()


class Pollers:
    """The pollers of the spaces that are being watched. `heard` is told of every change, `begun` of every beginning."""

    def __init__(
        self, connection: Connection, *, heard: Callable[[Put | Delete], None], begun: Callable[[str], None]
    ) -> None:
        self._connection = connection
        self._heard = heard
        self._begun = begun
        self._running: dict[str, tuple[Poller, asyncio.Task[None]]] = {}
        self._watches: dict[str, int] = {}

    @contextmanager
    def follow(self, space: str) -> Iterator[Poller]:
        """Give the poller of the space, which runs as long as anybody follows the space."""
        if space not in self._running:
            poller = Poller(self._connection, space, heard=self._heard, begun=self._begun)
            task = asyncio.create_task(poller.run(), name=f"dynamodb log of {space}")
            task.add_done_callback(tell_of_a_bug)
            self._running[space] = poller, task
        self._watches[space] = self._watches.get(space, 0) + 1
        poller, task = self._running[space]
        try:
            yield poller
        finally:
            self._watches[space] -= 1
            if not self._watches[space]:
                del self._running[space]
                task.cancel()

    def hurry(self, space: str) -> None:
        """Have the space looked at at once, if anybody follows it."""
        if space in self._running:
            self._running[space][0].hurry()

    async def close(self) -> None:
        """End all pollers; their watches are woken to see it."""
        running = list(self._running.values())
        for poller, task in running:
            task.cancel()
            poller.wake()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)


def pause(quiet: float) -> float:
    """Return how long to pause after a look, when the last change was `quiet` seconds ago."""
    return min(IDLE_SECONDS, max(BUSY_SECONDS, quiet / SLOWING))


def retry_pause(attempt: int) -> float:
    """Return how long to pause after so many tries in a row at a store that is away."""
    return min(RETRY_SECONDS * 2.0 ** min(attempt, 8), MAX_RETRY_SECONDS)


async def wait_for(event: asyncio.Event, timeout: float | None) -> None:  # noqa: ASYNC109 - the end of the time is no error here
    """Wait until the event is set or the time is up."""
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        pass


def tell_of_a_bug(task: asyncio.Task[None]) -> None:
    """Log why a task of ours ended that has no reason to."""
    if not task.cancelled() and (error := task.exception()):
        logger.error("the task %s has failed", task.get_name(), exc_info=error)
