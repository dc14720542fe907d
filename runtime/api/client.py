"""Calls to auth, typed: one of several auth servers, another when it is lost."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

from pydantic import ValidationError

from runtime.api import methods
from runtime.api.messages import Message, ResourceEvent, ResourceQuery
from runtime.api.methods import Method
from runtime.api.session import CALL_TIMEOUT_SECONDS, Session, Stream
from runtime.api.wire import Json
from runtime.core.errors import TeleportError, Unavailable

logger = logging.getLogger(__name__)

Params = TypeVar("Params", bound=Message)
Result = TypeVar("Result", bound=Message)

Dial = Callable[[str], Awaitable[Stream]]
"""Opens a stream to the auth server at host:port. Raises Unavailable, or AccessDenied when either end is refused."""

MAX_PAUSE_SECONDS = 15.0
"""Longest pause before a lost auth server is tried again."""


class AuthClient:
    """The auth service as others see it.

    Keeps one conversation with one of the servers and opens the next when it is lost. `servers` is asked for each time,
    so that a list that heartbeats keep current takes effect.
    """

    def __init__(self, dial: Dial, servers: Callable[[], Sequence[str]], *, rng: random.Random | None = None) -> None:
        self._dial = dial
        self._servers = servers
        self._rng = rng or random.Random()  # noqa: S311 - spreads load and retries, guards nothing
        self._session: Session | None = None
        self._running: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def call(
        self,
        method: Method[Params, Result],
        params: Params,
        *,
        timeout: float = CALL_TIMEOUT_SECONDS,  # noqa: ASYNC109 - the error names the wait
    ) -> Result:
        """Call a method and return its result.

        Raises what auth raised; Unavailable when no server can be reached or none answers within `timeout` seconds. A
        call that was sent is never sent again: whether it was carried out is then unknown.
        """
        session = await self._connected()
        return _read(method.result, await session.call(method.name, _write(params), timeout=timeout))

    async def watch(self, kind: str) -> AsyncGenerator[ResourceEvent, None]:
        """Follow the resources of one kind for ever: a snapshot, then changes; a new snapshot after auth was lost."""
        pause = 0.0
        while True:
            try:
                session = await self._connected()
                query = _write(ResourceQuery(kind=kind))
                async with aclosing(session.stream(methods.RESOURCES_WATCH.name, query)) as pieces:
                    async for piece in pieces:
                        pause = 0.0
                        yield _read(ResourceEvent, piece)
            except Unavailable as error:
                logger.info("watching %s: %s", kind, error)
            pause = min(MAX_PAUSE_SECONDS, 2 * pause + 0.25)
            await asyncio.sleep(self._rng.uniform(0, pause))

    async def close(self) -> None:
        """End the conversation."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def _connected(self) -> Session:
        async with self._opening:
            if self._session is None or self._running is None or self._running.done():
                self._session = await self._open()
                self._running = asyncio.create_task(self._session.run())
            return self._session

    async def _open(self) -> Session:
        servers = list(self._servers())
        if not servers:
            raise Unavailable(
                "no auth server is known", hint="Name one with --auth-server or auth_servers in teleport.yaml."
            )
        self._rng.shuffle(servers)
        failures = []
        for server in servers:
            try:
                return Session(await self._dial(server), peer=f"the auth server at {server}")
            except Unavailable as error:
                failures.append(error)
        if len(failures) == 1:
            raise failures[0]
        raise Unavailable(
            f"none of {len(failures)} auth servers can be reached: " + "; ".join(map(str, failures)),
            hint=failures[0].hint,
        ) from failures[0]


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
