"""Calls of boto3, which blocks, from an event loop: threads of our own, a time limit, retries, errors of the port."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from runtime.backend.base import closed
from runtime.backend.dynamodb import failures
from runtime.backend.options import DynamoDBOptions
from runtime.core.errors import InvalidSettings, Unavailable

if TYPE_CHECKING:  # the stubs are there for the type checkers only
    from mypy_boto3_dynamodb import DynamoDBClient

logger = logging.getLogger(__name__)

REQUEST_THREADS = 16
CLOSE_SECONDS = 2.0

RETRY_BASE_SECONDS = 0.025
RETRY_CAP_SECONDS = 1.0

_Result = TypeVar("_Result")


def jitter(attempt: int) -> float:
    """Return how long to pause before try number `attempt` + 2, in seconds: anything up to a bound that doubles.

    Full jitter spreads those who lost together (M. Brooker, Exponential Backoff And Jitter).
    """
    return random.uniform(0, min(RETRY_CAP_SECONDS, RETRY_BASE_SECONDS * 2 ** min(attempt, 10)))  # noqa: S311 - no secret


class Connection:
    """The client of one table. `throttled` counts how often AWS has asked to come back later."""

    def __init__(self, options: DynamoDBOptions, client: DynamoDBClient) -> None:
        self.table = options.table_name
        self.timeout = options.timeout
        self.throttled = 0
        self._client = client
        self._threads = ThreadPoolExecutor(REQUEST_THREADS, "dynamodb")
        self._running: set[asyncio.Future[Any]] = set()  # of calls, whatever they give
        self._closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, options: DynamoDBOptions) -> Connection:
        """Prepare the client; nothing is sent yet. Raises InvalidSettings."""
        loader = ThreadPoolExecutor(1, "dynamodb-open")  # reading the service model takes a good part of a second
        try:
            client = await asyncio.get_running_loop().run_in_executor(loader, _client, options)
        finally:
            loader.shutdown(wait=False)
        return cls(options, client)

    async def request(self, call: Callable[[DynamoDBClient], _Result]) -> _Result:
        """Run the call in a thread and return what it gives; what can be repeated safely is, until the time is up.

        Raises Unavailable, AccessDenied, InvalidSettings; and ClientError for the answers that its caller decides on
        (`_DECISIONS`).
        """
        refused: list[Unavailable] = []
        try:
            async with asyncio.timeout(self.timeout):
                return await self._repeat(lambda: call(self._client), refused)
        except TimeoutError as error:
            if refused:
                raise refused[-1] from error
            raise Unavailable(
                f"the dynamodb table {self.table} did not answer within {self.timeout:g} s",
                hint="Check region and endpoint of the storage section and the network.",
            ) from error

    def count_throttling(self, what: str) -> None:
        """Note that AWS throttled; the log tells at the 1st, 2nd, 4th, 8th, … time."""
        self.throttled += 1
        if self.throttled & (self.throttled - 1) == 0:
            logger.warning(
                "AWS throttles the dynamodb table %s: %s (%d times so far)", self.table, what, self.throttled
            )

    async def close(self) -> None:
        """End what waits, as Unavailable, and the threads: a call under way is given CLOSE_SECONDS to be answered.

        Safe to call twice.
        """
        if not self._closing.done():
            self._closing.set_result(None)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._running:
            await asyncio.wait(self._running, timeout=CLOSE_SECONDS)
        self._client.close()

    async def _repeat(self, call: Callable[[], _Result], refused: list[Unavailable]) -> _Result:
        """Repeat the call until it is done or must not be repeated; `refused` tells why the tries so far were not."""
        uncertain = False
        attempt = 0
        while True:
            try:
                return await self._in_thread(call)
            except ClientError as error:
                if failures.code(error) in _DECISIONS and not uncertain:
                    raise
                why = failures.translated(error, self.table)
                if failures.is_throttling(error):
                    self.count_throttling(failures.code(error))
                elif not failures.is_transient(error):
                    # After a try whose answer was lost, "the condition failed" may be that try's own doing.
                    raise why from error
            except BotoCoreError as error:
                why = failures.translated(error, self.table)
                if not isinstance(why, Unavailable):
                    raise why from error
                # Each write carries a ClientRequestToken, by which AWS knows the repetition of one it has done.
                uncertain = uncertain or not failures.never_sent(error)
            if isinstance(why, Unavailable):
                refused.append(why)
            await asyncio.sleep(jitter(attempt))
            attempt += 1

    async def _in_thread(self, call: Callable[[], _Result]) -> _Result:
        if self._closing.done():
            raise closed(f"the dynamodb table {self.table}")
        future = self._threads.submit(call)
        waiting = asyncio.wrap_future(future)
        self._running.add(waiting)
        waiting.add_done_callback(self._ended)
        try:
            # Whoever waits may give up (time limit, cancellation, close); a thread that has begun goes on to its end.
            await asyncio.wait((waiting, self._closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            future.cancel()  # where no thread has taken it yet, it is never sent
        if waiting.cancelled() or not waiting.done():
            raise closed(f"the dynamodb table {self.table}")
        return waiting.result()

    def _ended(self, work: asyncio.Future[Any]) -> None:
        self._running.discard(work)
        if not work.cancelled():
            work.exception()  # seen: nobody may be left to see it


_DECISIONS = frozenset(
    {
        "ResourceInUseException",
        "ResourceNotFoundException",
        "TransactionCanceledException",
        "ValidationException",
    }
)


def _client(options: DynamoDBOptions) -> DynamoDBClient:
    if (options.access_key is None) != (options.secret_key is None):
        missing = "secret_key" if options.secret_key is None else "access_key"
        raise InvalidSettings(
            f"the storage section has no {missing}", hint="Give access_key and secret_key both, or neither."
        )
    # botocore writes whole requests to its debug log, and they hold private keys.
    logging.getLogger("botocore").setLevel(logging.INFO)
    config = Config(
        connect_timeout=options.timeout,
        read_timeout=options.timeout,
        retries={"total_max_attempts": 1},  # ours are counted, logged and end in time
        max_pool_connections=REQUEST_THREADS,
        parameter_validation=False,
    )
    try:
        session = boto3.session.Session(
            aws_access_key_id=options.access_key,
            aws_secret_access_key=options.secret_key,
            region_name=options.region,
        )
        return session.client("dynamodb", endpoint_url=options.endpoint, config=config)
    except BotoCoreError as error:
        raise InvalidSettings(f"region or profile for DynamoDB is not valid: {error}") from error
    except ValueError as error:
        raise InvalidSettings(
            f"the DynamoDB endpoint or region is not valid: {error}",
            hint="An endpoint is written as https://HOST:PORT.",
        ) from error
