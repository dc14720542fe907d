"""A JSON-RPC conversation over a byte stream: calls that wait for their answer, requests of the peer side by side."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

from runtime.api.failures import APPLICATION_ERROR, from_wire, to_wire
from runtime.api.wire import (
    INVALID_REQUEST,
    MAX_PENDING,
    Cancel,
    Connection,
    Failure,
    Json,
    Message,
    Piece,
    RemoteProtocolError,
    Reply,
    Request,
)
from runtime.core.errors import TeleportError, Unavailable

logger = logging.getLogger(__name__)

CALL_TIMEOUT_SECONDS = 15.0
"""How long a call waits for its answer, in seconds: more than a backend's request and its retry take."""

MAX_ASKED = MAX_PENDING // 2
"""Requests that one end has open at once; more wait their turn, within their time. Half of what the peer allows: what
was given up here is still open there until the peer has heard of it."""

MAX_UNREAD_PIECES = 1024
"""Pieces of one streamed answer that may wait for their reader; one that falls further behind is ended."""


class Stream(Protocol):
    """A two-way byte stream, as an SSH channel is."""

    async def read(self) -> bytes:
        """Return the next bytes; none at the end. Raises OSError when the connection is lost."""
        ...

    async def write(self, data: bytes) -> None:
        """Send bytes, waiting while the peer reads slowly. Raises OSError when the connection is lost."""
        ...

    async def close(self) -> None:
        """End both directions."""
        ...


Emit = Callable[[Json], Awaitable[None]]
Serve = Callable[[str, dict[str, Json], Emit], Awaitable[Json]]
"""Serves one request: method, params, and a function that sends a piece of the answer ahead of its result."""


async def refuse(method: str, params: dict[str, Json], emit: Emit) -> Json:
    """Serve nothing: for the end that only asks."""
    raise TeleportError(f"this side serves no methods, not {method!r} either")


class Session:
    """One end of a conversation. Nothing moves until `run` does; it returns when the conversation is over."""

    def __init__(self, stream: Stream, serve: Serve = refuse, *, peer: str = "the other side") -> None:
        self._stream = stream
        self._serve = serve
        self._peer = peer
        self._wire = Connection()
        self._answers: dict[int, asyncio.Queue[Piece | Reply | Failure]] = {}
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._streaming: set[int] = set()
        self._turns = asyncio.Semaphore(MAX_ASKED)
        self._writing = asyncio.Lock()
        self._over = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self.farewell = f"lost the connection to {peer}"
        """What is told to who still waits when the conversation ends."""
        self.heard = -math.inf
        """When the peer last sent anything, by the loop's clock."""

    @property
    def over(self) -> bool:
        """Whether the conversation has ended: nothing more is sent, and calls end as Unavailable at once."""
        return self._over

    async def run(self) -> None:
        """Read until the peer ends the conversation, breaks the protocol or is lost; then end all that was open."""
        clock = asyncio.get_running_loop()
        try:
            while data := await self._stream.read():
                self.heard = clock.time()
                for message in self._wire.receive(data):
                    await self._take(message)
        except RemoteProtocolError as error:
            logger.warning("%s broke the protocol: %s", self._peer, error)
        except OSError as error:
            logger.debug("lost %s: %s", self._peer, error)
        finally:
            self._over = True
            for task in self._serving.values():
                task.cancel()
            for request, answers in self._answers.items():
                _put_over(answers, _lost(request, self.farewell))
            try:
                await asyncio.gather(*self._serving.values(), return_exceptions=True)
            finally:
                await self._stream.close()

    def answering(self) -> set[asyncio.Task[None]]:
        """Return the requests of the peer that wait for their answer, but for those that are answered piece by piece.

        Each is done once its answer is with the stream.
        """
        return {task for request, task in self._serving.items() if request not in self._streaming}

    async def call(
        self,
        method: str,
        params: dict[str, Json],
        *,
        timeout: float = CALL_TIMEOUT_SECONDS,  # noqa: ASYNC109 - the error names the wait
    ) -> Json:
        """Ask, and return the result.

        Raises what the peer raised, or Unavailable after `timeout` seconds; the outcome is then unknown.
        """
        self._calls += 1
        self._idle.clear()
        try:
            async with asyncio.timeout(timeout), aclosing(self._exchange(method, params)) as answers:
                async for answer in answers:
                    if isinstance(answer, Reply):
                        return answer.result
        except TimeoutError as error:
            raise Unavailable(
                f"{self._peer} did not answer {method} within {round(timeout, 1):g} s",
                hint="Look whether it is overloaded, then try again.",
            ) from error
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()
        raise AssertionError("an exchange ends with a reply or raises")

    async def wait_answered(self) -> None:
        """Wait until no call waits for its answer; what is answered piece by piece is not waited for."""
        await self._idle.wait()

    async def stream(self, method: str, params: dict[str, Json]) -> AsyncGenerator[Json, None]:
        """Ask, and yield each piece of the answer; ends with the reply. Closing it gives the request up."""
        async with aclosing(self._exchange(method, params)) as answers:
            async for answer in answers:
                if isinstance(answer, Piece):
                    yield answer.value

    async def _exchange(self, method: str, params: dict[str, Json]) -> AsyncGenerator[Piece | Reply, None]:
        async with self._turns:
            if self._over:
                raise Unavailable(f"lost the connection to {self._peer}")
            request, data = self._wire.request(method, params)
            answers = self._answers[request] = asyncio.Queue(MAX_UNREAD_PIECES)
            try:
                await self._send(data)
                while True:
                    answer = await answers.get()
                    if isinstance(answer, Failure):
                        raise from_wire(answer)
                    yield answer
                    if isinstance(answer, Reply):
                        return
            finally:
                self._answers.pop(request, None)
                if not self._over and (farewell := self._wire.cancel(request)):
                    await self._send(farewell)

    async def _send(self, data: bytes) -> None:
        async with self._writing:
            try:
                await self._stream.write(data)
            except OSError as error:
                raise Unavailable(f"lost the connection to {self._peer}: {error}") from error

    async def _take(self, message: Message) -> None:
        match message:
            case Request():
                task = asyncio.create_task(self._answer(message))
                self._serving[message.id] = task
                task.add_done_callback(lambda _: self._served(message.id))
            case Cancel(request):
                if task_or_none := self._serving.get(request):
                    task_or_none.cancel()
            case Piece() | Reply() | Failure():
                if answers := self._answers.get(message.id):
                    if answers.full():
                        message = _lost(message.id, f"fell {MAX_UNREAD_PIECES} messages behind {self._peer}")
                    _put_over(answers, message)

    def _served(self, request: int) -> None:
        self._serving.pop(request, None)
        self._streaming.discard(request)

    async def _answer(self, request: Request) -> None:
        async def emit(value: Json) -> None:
            self._streaming.add(request.id)
            await self._send(self._wire.piece(request.id, value))

        try:
            data = self._wire.reply(request.id, await self._serve(request.method, request.params, emit))
        except asyncio.CancelledError:
            if self._over:
                raise
            data = self._wire.failure(request.id, INVALID_REQUEST, "given up", {})
        except Exception as error:
            if not isinstance(error, TeleportError):
                logger.exception("%s failed", request.method)
            data = self._wire.failure(request.id, *to_wire(error))
        try:
            await self._send(data)
        except Unavailable as error:
            logger.debug("no answer to %s: %s", request.method, error)


def _lost(request: int, why: str) -> Failure:
    return Failure(request, APPLICATION_ERROR, why, {"kind": Unavailable.__name__})


def _put_over(answers: asyncio.Queue[Piece | Reply | Failure], message: Piece | Reply | Failure) -> None:
    """Put a message even where the queue is full: the oldest unread piece makes room, for a failure follows anyway."""
    if answers.full():
        answers.get_nowait()
    answers.put_nowait(message)
