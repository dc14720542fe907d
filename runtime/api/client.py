"""Calls to auth, typed: one of several auth servers, another when it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from runtime.api import methods
from runtime.api.messages import Message
from runtime.api.methods import Method
from runtime.api.resource_messages import ResourceEvent, ResourceQuery
from runtime.api.session import CALL_TIMEOUT_SECONDS, Session, Stream
from runtime.api.wire import Json
from runtime.core.errors import TeleportError, Unavailable

logger = logging.getLogger(__name__)

Params = TypeVar("Params", bound=Message)
Result = TypeVar("Result", bound=Message)

T = TypeVar("T")

Dial = Callable[[str], Coroutine[Any, Any, Stream]]
"""Opens a stream to the auth server at host:port. Raises Unavailable, or AccessDenied when either end is refused."""

_AWAY_HINT = "Are the auth servers running, and is their port (3025) open from here?"

MAX_PAUSE_SECONDS = 5.0
"""Longest pause before a lost auth server is tried again; each is a random part of a bound that doubles up to it.

What was taken away while auth was away is known within 10 s after it is back."""
FIRST_PAUSE_SECONDS = 1.0
"""Bound of the first pause: thousands lose a server in the same moment, and what is left of auth has to take them."""

HEAD_START_SECONDS = 1.0
"""How long a server may take to let us in before the next is asked as well (RFC 8305 §5): one that is frozen or behind
a cut cable costs this once, not the whole time that dialling may take."""

FAILED_SECONDS = 60.0
"""How long a server that failed is asked after all others."""


@dataclass(frozen=True, eq=False, slots=True)
class _Conversation:
    """One open session, the server that it is with, and the task that runs it."""

    server: str
    session: Session
    running: asyncio.Task[None]


class AuthClient:
    """The auth service as others see it.

    Keeps one conversation with one of the servers and opens the next when it is lost, or when the server was silent for
    as long as a call waited. `servers` gives them in the order to try them, and is asked each time: a list that
    heartbeats keep current takes effect.
    """

    def __init__(self, dial: Dial, servers: Callable[[], Sequence[str]], *, rng: random.Random | None = None) -> None:
        self._dial = dial
        self._servers = servers
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._current: _Conversation | None = None
        self._opening: asyncio.Task[_Conversation] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._farewells: set[asyncio.Task[Any]] = set()
        self._retired: set[_Conversation] = set()
        self._failed: dict[str, float] = {}
        """When each server last failed, by the loop's clock."""

    @property
    def server(self) -> str | None:
        """The server (host:port) that the conversation is with; None while there is none."""
        return self._current.server if self._current is not None and not self._current.session.over else None

    async def call(
        self,
        method: Method[Params, Result],
        params: Params,
        *,
        timeout: float = CALL_TIMEOUT_SECONDS,  # noqa: ASYNC109 - the error names the wait
    ) -> Result:
        """Call a method and return its result.

        Raises what auth raised; Unavailable when no server can be reached or none answers within `timeout` seconds, in
        all. A call that was sent is never sent again: whether it was carried out is then unknown.
        """
        clock = asyncio.get_running_loop()
        deadline = clock.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                conversation = await self._connected()
        except TimeoutError as error:
            raise Unavailable(f"no auth server let us in within {timeout:g} s", hint=_AWAY_HINT) from error
        asked = clock.time()
        session = conversation.session
        try:
            answer = await session.call(method.name, _write(params), timeout=max(0.0, deadline - asked))
        except Unavailable:
            # Slow in one thing is not dead: only a server that sent nothing at all since we asked is given up, with
            # all else that waits for it. SSH's keepalive would take four times as long to find out.
            if session.heard < asked:
                self._give_up(conversation)
            raise
        return _read(method.result, answer)

    async def watch(self, kind: str) -> AsyncGenerator[ResourceEvent, None]:
        """Follow the resources of one kind for ever: a snapshot, then changes; a new snapshot after auth was lost."""
        pause = 0.0
        while True:
            try:
                session = (await self._connected()).session
                query = _write(ResourceQuery(kind=kind))
                async with aclosing(session.stream(methods.RESOURCES_WATCH.name, query)) as pieces:
                    async for piece in pieces:
                        pause = 0.0
                        yield _read(ResourceEvent, piece)
            except Unavailable as error:
                logger.info("watching %s: %s", kind, error)
            pause = min(MAX_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, 2 * pause))
            await asyncio.sleep(self._rng.uniform(0, pause))

    async def pieces(
        self, method: Method[Params, Any], params: Params, piece: type[Result]
    ) -> AsyncGenerator[Result, None]:
        """Call a method that answers in pieces, and yield them. Raises what auth raised, and Unavailable."""
        session = (await self._connected()).session
        async with aclosing(session.stream(method.name, _write(params))) as pieces:
            async for each in pieces:
                yield _read(piece, each)

    def retire(self) -> None:
        """Ask what is asked from now on in a new conversation, as who we are now: our certificates were renewed.

        The old one ends once its calls are answered. What it answers piece by piece ends as Unavailable, as when auth
        is lost, and is begun anew by whoever follows it.
        """
        conversation, self._current = self._current, None
        if conversation is not None and not conversation.session.over:
            conversation.session.farewell = "certificates were renewed; it goes on in a new conversation"
            self._retired.add(conversation)
            self._start(self._wind_up(conversation))

    async def _wind_up(self, conversation: _Conversation) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(CALL_TIMEOUT_SECONDS):
                await conversation.session.wait_answered()
        conversation.running.cancel()

    async def close(self) -> None:
        """End the conversation."""
        while tasks := self._tasks | self._farewells:
            for task in self._tasks:
                task.cancel()
            # Farewells end with the dials that they wait for: cancelled, they would leave a connection open.
            await asyncio.wait(tasks)

    async def _connected(self) -> _Conversation:
        if self._current is not None and not self._current.session.over:
            return self._current
        if self._opening is None or self._opening.done():
            self._opening = self._start(self._open())
        opening = self._opening
        # Not awaited itself: whoever gives up waiting leaves it to the others.
        await asyncio.wait([opening])
        if opening.cancelled():
            raise Unavailable("the client of auth was closed")
        return opening.result()

    async def _open(self) -> _Conversation:
        stream, server = await self._race()
        session = Session(stream, peer=f"the auth server at {server}")
        running = self._start(session.run())
        conversation = self._current = _Conversation(server, session, running)
        running.add_done_callback(lambda _: self._give_up(conversation))
        self._failed.pop(server, None)
        return conversation

    async def _race(self) -> tuple[Stream, str]:
        """Ask the servers one after the other, the next when one failed or took its time; the first that opens wins."""
        waiting = self._in_turn()
        if not waiting:
            raise Unavailable(
                "no auth server is known", hint="Name one with --auth-server or auth_servers in teleport.yaml."
            )
        dialled: dict[asyncio.Task[Stream], str] = {}
        failures: list[TeleportError] = []
        try:
            while waiting or dialled:
                if waiting:
                    server = waiting.pop(0)
                    dialled[self._start(self._dial(server))] = server
                patience = HEAD_START_SECONDS if waiting else None
                done, _ = await asyncio.wait(dialled, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    server = dialled.pop(task)
                    try:
                        return task.result(), server
                    except TeleportError as error:
                        self._note_failure(server)
                        failures.append(error)
        finally:
            for task in dialled:
                self._start(self._dismiss(task, dialled[task]), among=self._farewells)
        raise _none_of(failures)

    async def _dismiss(self, dialling: asyncio.Task[Stream], server: str) -> None:
        """Let a server that came too late finish, then hang up: breaking a login off counts against our address."""
        try:
            stream = await dialling
        except TeleportError:
            self._note_failure(server)
        else:
            await stream.close()

    def _in_turn(self) -> list[str]:
        """Return the servers in the order to ask them: as given, but those that failed lately last."""
        long_ago = asyncio.get_running_loop().time() - FAILED_SECONDS
        return sorted(self._servers(), key=lambda server: max(self._failed.get(server, long_ago), long_ago))

    def _give_up(self, conversation: _Conversation) -> None:
        """End a conversation, if it has not ended, and ask its server last next time, unless it was us who ended it."""
        if conversation in self._retired:
            self._retired.discard(conversation)
        else:
            self._note_failure(conversation.server)
        if not conversation.session.over:
            conversation.running.cancel()
        if self._current is conversation:
            self._current = None

    def _note_failure(self, server: str) -> None:
        self._failed[server] = asyncio.get_running_loop().time()

    def _start(self, work: Coroutine[Any, Any, T], *, among: set[asyncio.Task[Any]] | None = None) -> asyncio.Task[T]:
        tasks = self._tasks if among is None else among
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)

        def ended(task: asyncio.Task[T]) -> None:
            tasks.discard(task)
            if not task.cancelled():
                task.exception()  # whoever waited for it has it; when nobody did, it is of no interest

        task.add_done_callback(ended)
        return task


def _none_of(failures: Sequence[TeleportError]) -> TeleportError:
    """Return the error of all servers having failed: being refused says more than finding nobody."""
    refused = [error for error in failures if not isinstance(error, Unavailable)]
    if refused or len(failures) == 1:
        return (*refused, *failures)[0]
    error = Unavailable(
        f"none of {len(failures)} auth servers can be reached: " + "; ".join(map(str, failures)), hint=failures[0].hint
    )
    error.__cause__ = failures[0]
    return error


def _write(message: Message) -> dict[str, Json]:
    """Return a message as the wire takes it."""
    return message.model_dump(mode="json")


def _read(kind: type[Result], value: Json) -> Result:
    """Return the message that a value of the wire is. Raises TeleportError when it is none."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise TeleportError(
            f"auth answered something that is not a {kind.__name__}",
            hint="Run the same version of teleport on both sides.",
        ) from error
