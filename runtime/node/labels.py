"""A node's labels: those that stay, and those whose values commands print (manual, "Labeling Nodes")."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

from runtime.core.durations import format_duration
from runtime.service.sections.ssh import LabelCommand
from runtime.service.values import MAX_TEXT

logger = logging.getLogger(__name__)

COMMAND_SECONDS = 10.0
"""How long a command may run, in seconds; it is killed then."""
MAX_OUTPUT_BYTES = 64 * 1024
"""More than that is not a label's value: the command is killed."""
DRAIN_SECONDS = 1.0


class CommandFailed(Exception):
    """A label's command gave no value; the text says why."""


class NodeLabels:
    """The labels as they are now. A command that fails leaves the value that it gave last."""

    def __init__(
        self,
        static: Mapping[str, str],
        commands: Sequence[LabelCommand],
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._static = dict(static)
        self._commands = tuple(commands)
        self._pause = pause
        self._values: dict[str, str] = {}
        self._failed: dict[str, str] = {}

    def __call__(self) -> dict[str, str]:
        """Return all labels; one whose command has never succeeded is not among them."""
        return {**self._static, **self._values}

    async def first(self) -> None:
        """Run each command once, so that the first heartbeat tells of all."""
        await asyncio.gather(*map(self.refresh, self._commands))

    async def run(self) -> None:
        """Run each command at its period, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for command in self._commands:
                group.create_task(self._keep(command))

    async def refresh(self, label: LabelCommand) -> None:
        """Run one command and take its value."""
        try:
            self._values[label.name] = await output_of(
                label.command, min(COMMAND_SECONDS, label.period.total_seconds())
            )
        except CommandFailed as error:
            if self._failed.get(label.name) != str(error):  # once, not each minute
                logger.error("label %s: %s", label.name, error)  # noqa: TRY400 - no bug of ours
            self._failed[label.name] = str(error)
        else:
            if self._failed.pop(label.name, None):
                logger.info("label %s: its command works again", label.name)

    async def _keep(self, label: LabelCommand) -> None:
        logger.debug("label %s: every %s", label.name, format_duration(label.period))
        while True:
            await self._pause(label.period.total_seconds())
            await self.refresh(label)


async def output_of(command: Sequence[str], seconds: float) -> str:
    """Return what a program prints, as a label's value: one line of printable text. Raises CommandFailed.

    No shell runs it. It and what it has started are killed after so many seconds.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(seconds):
            output = await _read(process)
            code = await process.wait()
    except BaseException as error:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await _drain(process)
        if isinstance(error, TimeoutError):
            raise CommandFailed(f"{command[0]} had not ended after {seconds:g} s") from error
        raise
    if code:
        raise CommandFailed(f"{command[0]} ended with {code}")
    return as_value(output)


def as_value(output: bytes) -> str:
    """Return a label's value: the output's words, joined by single blanks, without what is not printable."""
    text = " ".join(output.decode("utf-8", "replace").split())
    return "".join(character if character.isprintable() else "?" for character in text)[:MAX_TEXT]


async def _read(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    output = b""
    while chunk := await process.stdout.read(MAX_OUTPUT_BYTES):
        output += chunk
        if len(output) > MAX_OUTPUT_BYTES:
            raise CommandFailed(f"it printed more than {MAX_OUTPUT_BYTES} bytes")
    return output


async def _drain(process: asyncio.subprocess.Process) -> None:
    """Read to the end of a killed program's output: asyncio closes a pipe that it no longer reads at its end alone."""
    assert process.stdout is not None  # noqa: S101 - it was asked for
    with suppress(TimeoutError):  # somebody who got away has it open
        async with asyncio.timeout(DRAIN_SECONDS):
            while await process.stdout.read(MAX_OUTPUT_BYTES):
                pass
