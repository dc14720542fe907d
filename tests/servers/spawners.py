"""Spawners for tests, and the children that they start."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from runtime.core.errors import TeleportError
from runtime.node.spawner import Child, Exit, Program, Spawner, spawner_command
from tests.servers.osusers import OsUser

SECONDS = 20.0
AS_USER = Path(__file__).with_name("spawner_as.py")


@dataclass(frozen=True, slots=True)
class World:
    """A node, and the user whose sessions it starts."""

    user: OsUser
    other: OsUser | None
    """A user of whom nothing may be touched; an ordinary user cannot make one."""
    made_user: bool
    """Whether root has made its spawner that user."""

    def command(self, etc: Path = Path("/etc")) -> tuple[str, ...]:
        """Return the command of the node's spawner."""
        if not self.made_user:
            return spawner_command(etc)
        return sys.executable, "-I", "-S", str(AS_USER), self.user.name, str(etc)

    def new_path(self) -> Path:
        """Return a path where nothing is, in a folder where every user may write."""
        return Path(tempfile.gettempdir()) / f"spawner-{secrets.token_hex(6)}"


@asynccontextmanager
async def spawning(command: tuple[str, ...], seconds: float = SECONDS) -> AsyncIterator[Spawner]:
    """Run a spawner. At the end, as many descriptors are open as at the start."""
    await asyncio.to_thread(int)  # what the loop opens for itself is open
    before = open_descriptors()
    spawner = await Spawner.start(command=command, start_seconds=seconds)
    try:
        yield spawner
    finally:
        await spawner.stop()
    assert open_descriptors() == before


def open_descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of numbers, not of paths


@contextmanager
def limited(which: int, soft: int) -> Iterator[None]:
    """Set a soft limit of this process for a while."""
    old = resource.getrlimit(which)
    resource.setrlimit(which, (soft, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, old)


def children_of(spawner: Spawner) -> list[int]:
    """Return the process ids of a spawner's children."""
    return [int(pid) for pid in Path(f"/proc/{spawner.pid}/task/{spawner.pid}/children").read_text().split()]


def is_there(pid: int) -> bool:
    """Tell whether a process runs, and is not only waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does. Raises TimeoutError."""
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - nobody there sets an event
            await asyncio.sleep(0.01)


class Finished(NamedTuple):
    """What a child without a terminal wrote, and how it ended."""

    stdout: bytes
    stderr: bytes
    end: Exit


async def run(spawner: Spawner, program: Program, stdin: bytes = b"") -> Finished:
    """Run a program without a terminal to its end."""
    return await finish(await spawner.run(program), stdin)


async def said(spawner: Spawner, user: OsUser, command: str, **added: str) -> str:
    """Return what a command prints for a user, with variables added to its environment."""
    done = await run(spawner, Program(user.name, "exec", command, added))
    assert (done.stderr, done.end) == (b"", Exit(0))
    return done.stdout.decode()


async def refused(spawner: Spawner, program: Program) -> TeleportError:
    """Return the error with which a program is refused."""
    with pytest.raises(TeleportError) as raised:
        await spawner.run(program)
    return raised.value


async def finish(child: Child, stdin: bytes = b"") -> Finished:
    """Give a child without a terminal its (short) input, and return what it writes, and how it ends."""
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    if stdin:
        os.write(child.stdin, stdin)
    os.close(child.stdin)
    try:
        async with asyncio.timeout(SECONDS):
            stdout, stderr = await asyncio.gather(read_all(child.stdout), read_all(child.stderr))
            return Finished(stdout, stderr, await child.wait())
    finally:
        os.close(child.stdout)
        os.close(child.stderr)


async def read_all(descriptor: int) -> bytes:
    """Read a descriptor that does not block to its end; a terminal's is the error that nobody has it open."""
    output = b""
    async with asyncio.timeout(SECONDS):
        while chunk := await _read_some(descriptor):
            output += chunk
    return output


async def read_until(descriptor: int, expected: bytes) -> bytes:
    """Read until what was read contains some bytes. Raises EOFError when it ends first, TimeoutError."""
    output = b""
    async with asyncio.timeout(SECONDS):
        while expected not in output:
            chunk = await _read_some(descriptor)
            if not chunk:
                raise EOFError(output)
            output += chunk
    return output


async def _read_some(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO
        return b""
