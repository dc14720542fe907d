"""The node service's end of the control socket, on its event loop. The spawner itself does not import this file."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Self

from runtime.core.errors import Unavailable
from runtime.node.spawning.protocol import READY, Request, raise_from_message, receive, request_to_file, send

logger = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""How long a spawner may take to remove its listeners and end; it is killed then."""

Status = asyncio.Future[int | None]
"""How a process ended, as wait(2) says it; None when the spawner ended first, so that nobody can know."""


class Started(NamedTuple):
    """A request that was carried out."""

    number: int
    pid: int
    descriptors: list[int]
    ended: Status


class Link:
    """One spawner process, and the control socket to it."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket, start_seconds: float) -> None:
        self.lost = False
        self._process = process
        self._control = control
        self._start_seconds = start_seconds
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(READY + 1)
        self._ends: dict[int, Status] = {READY: self._loop.create_future()}
        self._unsent: deque[tuple[dict[str, object], list[int]]] = deque()
        self._loop.add_reader(control, self._read)

    @classmethod
    async def open(cls, command: Sequence[str], start_seconds: float) -> Self:
        """Start a spawner process. Raises Unavailable."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    env={},
                    cwd="/",
                    start_new_session=True,  # Ctrl-C is the service's to handle
                )
        except OSError as error:
            ours.close()
            raise Unavailable(f"the node's spawner cannot be started: {error.strerror}") from error
        ours.setblocking(False)
        link = cls(process, ours, start_seconds)
        try:
            async with asyncio.timeout(start_seconds):
                status = await link._ends[READY]
        except BaseException as error:
            await link.stop()
            if isinstance(error, TimeoutError):
                raise Unavailable(f"the node's spawner had not started after {start_seconds:g} s") from error
            raise
        if status is None:
            code = await process.wait()
            raise Unavailable(f"the node's spawner ended with {code} as it started", hint="the service's log says why")
        return link

    @property
    def pid(self) -> int:
        """The spawner's process id."""
        return self._process.pid

    async def stop(self) -> None:
        """Close the control socket, and return when the process has ended."""
        self._lose()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def request(self, request: Request) -> Started:
        """Have a request carried out, and return what came of it. Raises TeleportError; nothing is left then."""
        number = next(self._numbers)
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                ours.setblocking(False)
                file = request_to_file(request)
                ended = self._ends[number] = self._loop.create_future()
                self._send({"do": "start", "id": number}, [theirs.detach(), file])
                async with asyncio.timeout(self._start_seconds):
                    pid, descriptors = await _answer(ours)
        except BaseException as error:
            self.signal(number, signal.SIGKILL)
            self.remove(number)
            if isinstance(error, TimeoutError):
                text = f"nothing had started for {request.login} after {self._start_seconds:g} s"
                raise Unavailable(text, hint="is the user's home, or the directory of users, away?") from error
            if isinstance(error, OSError):
                raise Unavailable(f"nothing can be started for {request.login}: {error.strerror}") from error
            raise
        return Started(number, pid, descriptors, ended)

    def signal(self, number: int, signal_number: int) -> None:
        """Send a signal to the process group of a request's process; nothing happens once it has ended."""
        if number in self._ends:
            self._send({"do": "signal", "id": number, "signal": int(signal_number)})

    def remove(self, number: int) -> None:
        """Remove what a request to listen has left; nothing happens if there is nothing."""
        self._send({"do": "remove", "id": number})

    def _send(self, message: dict[str, object], descriptors: Iterable[int] = ()) -> None:
        """Send a message, now or when there is room; its descriptors are closed then."""
        self._unsent.append((message, list(descriptors)))
        self._write()

    def _write(self) -> None:
        try:
            while self._unsent and not self.lost:
                send(self._control, *self._unsent[0])
                close_all(self._unsent.popleft()[1])
        except BlockingIOError:
            self._loop.add_writer(self._control, self._write)
        except OSError as error:
            logger.debug("the spawner's socket: %s", error)
            self._lose()
        else:
            if self.lost:
                self._forget_unsent()
            else:
                self._loop.remove_writer(self._control)

    def _read(self) -> None:
        try:
            while (message := receive(self._control)) is not None:
                ended = self._ends.pop(message[0]["id"], None)
                if ended is not None:
                    ended.set_result(message[0]["status"])
        except BlockingIOError:
            return
        except OSError as error:
            logger.debug("the spawner's socket: %s", error)
        self._lose()

    def _lose(self) -> None:
        if self.lost:
            return
        self.lost = True
        self._loop.remove_reader(self._control)
        self._loop.remove_writer(self._control)
        self._control.close()
        self._forget_unsent()
        for ended in self._ends.values():
            if not ended.done():
                ended.set_result(None)
        self._ends.clear()

    def _forget_unsent(self) -> None:
        while self._unsent:
            close_all(self._unsent.popleft()[1])


def close_all(descriptors: Iterable[int]) -> None:
    """Close file descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)


async def _answer(channel: socket.socket) -> tuple[int, list[int]]:
    """Return the process id and the descriptors that answer a request. Raises the error that the answer tells of."""
    pid: int | None = None
    descriptors: list[int] = []
    try:
        while (answer := await _receive(channel)) is not None:
            message, received = answer
            descriptors += received
            if "error" in message:
                raise_from_message(message)
            pid = message["pid"]
        if pid is None:
            raise Unavailable("the process ended before it had begun its work", hint="try again")
    except BaseException:
        close_all(descriptors)
        raise
    return pid, descriptors


async def _receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(channel, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(channel)
    return receive(channel)
