"""Conversations with those who call auth's port, for as long as what let them in is believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from runtime.api.dial import SUBSYSTEM
from runtime.api.session import Serve, Session, Stream
from runtime.auth.authorities import LiveAuthorities
from runtime.core.callers import Caller, CallerKind
from runtime.pki.certificate import read_certificate
from runtime.transport.capture import Proved
from runtime.transport.server import Handler
from runtime.transport.subsystem import SubsystemSession

LAST_ANSWER_SECONDS = 2.0
"""How long a conversation whose caller is believed no more may take to answer what was asked before, in seconds."""


class Conversations:
    """The open ones. A connection outlives a rotation of the host CA, the rights that came with it do not."""

    def __init__(self, live: LiveAuthorities, serve: Callable[[Caller], Serve]) -> None:
        self._live = live
        self._serve = serve
        self._open: dict[Session, tuple[asyncio.Task[None], bytes | None]] = {}
        """Each with what runs it and the key that signed the caller's certificate; None: the caller is nobody."""

    def connected(self, proved: Proved[Caller], _: object) -> Handler:
        """Return what serves a connection."""
        return _Api(self, proved)

    def answering(self) -> set[asyncio.Task[None]]:
        """Return the requests that wait for their answer."""
        return {task for session in self._open for task in session.answering()}

    async def run(self) -> None:
        """End conversations with those whose certificate is believed no more, for ever."""
        async with asyncio.TaskGroup() as group, aclosing(self._live.follow()) as changes:
            async for _ in changes:
                for session, (_, signer) in self._open.items():
                    if not self._believes(signer):
                        group.create_task(self._end(session))

    async def hold(self, caller: Caller, signer: bytes | None, stream: Stream) -> None:
        """Have one conversation, to its end."""
        if not self._believes(signer):
            await stream.close()
            return
        session = Session(stream, self._serve(caller), peer=str(caller))
        running = asyncio.create_task(session.run())
        self._open[session] = running, signer
        try:
            await asyncio.wait([running])
        finally:
            running.cancel()
            await asyncio.wait([running])
            del self._open[session]
        if not running.cancelled():
            running.result()

    async def _end(self, session: Session) -> None:
        if answering := session.answering():
            await asyncio.wait(answering, timeout=LAST_ANSWER_SECONDS)
        if session in self._open:
            self._open[session][0].cancel()

    def _believes(self, signer: bytes | None) -> bool:
        return signer is None or self._live.trust.find(signer) is not None


class _Api(Handler):
    """One connection to auth: the API's subsystem and nothing else."""

    def __init__(self, conversations: Conversations, proved: Proved[Caller]) -> None:
        self._conversations = conversations
        self._caller = proved.identity
        nobody = proved.identity.kind is CallerKind.NOBODY
        self._signer = None if nobody else read_certificate(proved.certificate).signature.ca_key

    def session_requested(self) -> Any:
        """Offer the subsystem."""
        return SubsystemSession(SUBSYSTEM, self.serve)

    async def serve(self, stream: Stream) -> None:
        """Have a conversation in a channel of the connection."""
        await self._conversations.hold(self._caller, self._signer, stream)
