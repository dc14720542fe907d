"""The life of a process: its parts start, work and stop, and signals say when.

    start    each part in order; a signal to stop ends even a start that waits for somebody
    work     until SIGTERM or SIGINT; SIGHUP reloads; a part that fails ends the process
    drain    the parts that started, the last one first; each has a deadline

The second SIGTERM or SIGINT ends the process at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Protocol

from runtime.core import defaults
from runtime.core.errors import TeleportError

logger = logging.getLogger(__name__)

DRAIN_SECONDS = defaults.DRAIN.total_seconds()
"""How long one part may take to stop without `teleport.drain_timeout`; systemd kills after 90 (TimeoutStopSec)."""

STOPPING = (signal.SIGTERM, signal.SIGINT)


class Part(Protocol):
    """One part of the process."""

    @property
    def name(self) -> str:
        """What the log calls it."""
        ...

    @property
    def where(self) -> str:
        """What it serves, and where, once it has started; empty if nothing."""
        ...

    async def start(self) -> None:
        """Get ready; it serves once this returns. Raises TeleportError. Cleans up after itself when it fails."""
        ...

    async def run(self) -> None:
        """Do what goes on all the time, until cancelled."""
        ...

    async def reload(self) -> None:
        """Read again what may be read again while it runs. Raises TeleportError, and goes on as it was."""
        ...

    async def stop(self) -> None:
        """Accept nothing more, finish what was accepted, and let go of everything."""
        ...


async def live(
    parts: Sequence[Part],
    *,
    ready: Callable[[], None] = lambda: None,
    reload: Callable[[], None] = lambda: None,
    stopping: Callable[[], None] = lambda: None,
    drain_seconds: float = DRAIN_SECONDS,
) -> None:
    """Run the parts until a signal ends them, or one of them fails: then raise what it raised.

    `ready` is called once all have started, `reload` before the parts' own at each SIGHUP, `stopping` before the drain.
    """
    stop, reloads = asyncio.Event(), asyncio.Event()
    started: list[Part] = []
    with _signals(stop, reloads):
        try:
            if await _unless(stop, _start(parts, started)):
                ready()
                notify("READY=1")
                await _unless(stop, _work(parts, reloads, reload))
        finally:
            notify("STOPPING=1")
            stopping()
            await _drain(started, drain_seconds)


async def _start(parts: Sequence[Part], started: list[Part]) -> None:
    for part in parts:
        await part.start()
        started.append(part)


async def _work(parts: Sequence[Part], reloads: asyncio.Event, reload: Callable[[], None]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(part.run(), name=part.name)
            group.create_task(_reload(parts, reloads, reload))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None  # the first is why the others were cancelled


async def _reload(parts: Sequence[Part], reloads: asyncio.Event, reload: Callable[[], None]) -> None:
    while True:
        await reloads.wait()
        reloads.clear()
        notify("RELOADING=1")
        try:
            await asyncio.to_thread(reload)
            for part in parts:
                await part.reload()
            logger.info("reloaded")
        except TeleportError as error:
            logger.error("not reloaded, going on as before: %s", error.in_full)  # noqa: TRY400 - no bug of ours
        notify("READY=1")


async def _drain(started: Sequence[Part], seconds: float) -> None:
    for part in reversed(started):
        try:
            async with asyncio.timeout(seconds):
                await part.stop()
        except TimeoutError:
            logger.warning("%s did not stop within %g s; it is left behind", part.name, seconds)
        except Exception:  # one part's failure keeps no other from stopping
            logger.exception("%s failed to stop", part.name)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, unless `stop` comes first: then cancel it. Return whether it was finished; raise what it raised."""
    async with _background(stop.wait()) as stopped, _background(work) as working:
        await asyncio.wait([stopped, working], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    """Run a task beside the body; cancel what is left of it, and wait for its end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextmanager
def _signals(stop: asyncio.Event, reloads: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def stopping(number: signal.Signals) -> None:
        logger.info("%s: stopping", number.name)
        for each in STOPPING:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)  # the next one ends the process at once
        stop.set()

    for number in STOPPING:
        loop.add_signal_handler(number, stopping, number)
    loop.add_signal_handler(signal.SIGHUP, reloads.set)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        for number in STOPPING:
            loop.remove_signal_handler(number)


def notify(state: str) -> None:
    """Tell systemd how we are, where it asks for that (sd_notify(3), NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode(), f"\0{address[1:]}" if address.startswith("@") else address)
