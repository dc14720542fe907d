"""Text search over recordings: a process of its own looks through them, one search at a time (docs/adr/0010)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from runtime.api.recording_messages import MAX_RECORDING_BYTES, RecordingEntry, RecordingRead
from runtime.api.search_messages import RecordingFinding, RecordingMatch, RecordingSearch
from runtime.audit.text_search import NO_END
from runtime.auth.recordings import Recordings
from runtime.core.errors import InvalidInput, TeleportError, Unavailable, name_of_kind

MAX_WAITING = 8
"""Searches that wait for the one that runs."""
MATCHES_AT_A_TIME = 200
"""As many as surely are one message."""
STALLED_SECONDS = 30.0
"""How long the process may take for a piece of a recording before it is given up: an expression can take for ever."""

_COMMAND = (sys.executable, "-I", "-m", "runtime.audit.search_process")
_LONGEST_MESSAGE = 8 * 1024 * 1024
"""As many matches as there may be, with lines as long as they are told."""


class TextSearch:
    """Looks through recordings."""

    def __init__(self, recordings: Recordings, *, stalled_seconds: float = STALLED_SECONDS) -> None:
        self._recordings = recordings
        self._stalled_seconds = stalled_seconds
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def search(
        self, wanted: RecordingSearch, entries: Iterable[RecordingEntry]
    ) -> AsyncGenerator[RecordingFinding, None]:
        """Yield what is found in each of these recordings, and in the end how much was looked through.

        Of recordings in which nothing is found and with which nothing is wrong nothing is told. Closing it ends the
        search. Raises InvalidInput for an expression that is none, Unavailable while too many others wait, and when
        the search gets nowhere.
        """
        async with self._in_turn(), _process(wanted, self._stalled_seconds) as process:
            left, searched, size = wanted.limit, 0, 0
            for entry in entries:
                if not left:
                    break
                found = await self._one(process, entry, left)
                searched += not found["error"]
                size += found["bytes"]
                matches = tuple(RecordingMatch(ms=ms, line=line) for ms, line in found["found"])
                left -= len(matches)
                problem = found["error"] or found["problem"]
                if problem == NO_END and not entry.over:
                    problem = ""
                if matches or problem:
                    for start in range(0, len(matches) or 1, MATCHES_AT_A_TIME):
                        yield RecordingFinding(
                            recording=entry,
                            matches=matches[start : start + MATCHES_AT_A_TIME],
                            problem=problem if start + MATCHES_AT_A_TIME >= len(matches) else "",
                            searched=not found["error"],
                            recordings=searched,
                            bytes=size,
                        )
            yield RecordingFinding(recordings=searched, bytes=size, limited=not left)

    async def _one(self, process: _Process, entry: RecordingEntry, limit: int) -> dict[str, Any]:
        """Look through one recording: give the process what it wants to read, until it says what it has found."""
        sid = entry.session.sid
        await process.say({"limit": limit})
        while True:
            message = await process.hear(f"looking through recording {sid}")
            if "read" not in message:
                return message
            size = min(message["size"], MAX_RECORDING_BYTES)
            piece = RecordingRead(sid=sid, part=message["read"], offset=message["offset"], size=size)
            try:
                data = await self._recordings.read(piece)
            except TeleportError as error:
                await process.say({"error": str(error), "kind": name_of_kind(error)})
            else:
                await process.say({"size": len(data)}, data)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        if self._waiting >= MAX_WAITING:
            raise Unavailable(
                f"{self._waiting} searches through recordings wait for one another", hint="Try again in a while."
            )
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()


class _Process:
    """The process that searches (`runtime.audit.search_process`), while it runs."""

    def __init__(self, process: asyncio.subprocess.Process, stalled_seconds: float) -> None:
        if process.stdin is None or process.stdout is None:
            raise ValueError("a process with pipes is needed")
        self._stdin, self._stdout = process.stdin, process.stdout
        self._stalled_seconds = stalled_seconds

    async def say(self, message: dict[str, object], data: bytes = b"") -> None:
        """Send a message, and the bytes that go with it."""
        try:
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.write(data)
            await self._stdin.drain()
        except ConnectionError as error:
            raise Unavailable("the process that searches recordings has ended", hint="Try again.") from error

    async def hear(self, doing: str) -> dict[str, Any]:
        """Return what it says next. Raises Unavailable when it says nothing."""
        try:
            async with asyncio.timeout(self._stalled_seconds):
                line = await self._stdout.readline()
        except TimeoutError:
            raise Unavailable(
                f"{doing} got nowhere for {self._stalled_seconds:g} s",
                hint="Write a simpler expression, or leave --regex out to look for text as it is.",
            ) from None
        if not line.endswith(b"\n"):
            raise Unavailable(f"the process that searches recordings ended while {doing}", hint="See auth's log.")
        message: dict[str, Any] = json.loads(line)
        return message


@asynccontextmanager
async def _process(wanted: RecordingSearch, stalled_seconds: float) -> AsyncIterator[_Process]:
    """Yield a process that looks for something; it is gone afterwards. Raises InvalidInput, Unavailable."""
    try:
        started = await asyncio.create_subprocess_exec(
            *_COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LONGEST_MESSAGE,
            env={},
            cwd="/",
            start_new_session=True,  # Ctrl-C is the service's to handle
        )
    except OSError as error:
        raise Unavailable(f"no process can be started to search recordings: {error.strerror}") from error
    process = _Process(started, stalled_seconds)
    try:
        await process.say({"text": wanted.text, "regex": wanted.regex, "ignore_case": wanted.ignore_case})
        answer = await process.hear("starting")
        if refused := answer.get("refused"):
            raise InvalidInput(str(refused), hint=str(answer["hint"]))
        yield process
    finally:
        with suppress(ProcessLookupError):
            started.kill()
        await asyncio.shield(_ended(started))


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    await process.communicate()
