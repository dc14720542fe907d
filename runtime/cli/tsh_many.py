"""One command on every node with some labels: in parallel, each line of output marked with its node."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

from runtime.cli import console, tsh_lists, tsh_ssh
from runtime.cli.tsh_asked import AskedSession
from runtime.cli.tsh_lists import NodeEntry
from runtime.cli.tsh_openssh import Configuration
from runtime.core.errors import InvalidInput, NotFound

_MAX_LINE = 64 * 1024
"""Bytes of a line that are waited for; a longer one is shown in pieces."""
_COLOURS = (36, 33, 35, 32, 34, 31)
_GRACE = 5.0
"""Seconds that sessions have to end after Ctrl-C."""


def select(
    entry: tsh_ssh.Entry, selector: str, *, cluster: str | None, insecure: bool, now: datetime
) -> list[NodeEntry]:
    """Return the nodes with these labels, `env=prod,role=db`. Raises NotFound, telling the labels there are."""
    if selector.startswith("-"):
        raise InvalidInput(f"{selector[:80]!a} cannot be the name of a node", hint="Options come before it.")
    labels = tsh_lists.parse_labels(selector)
    session = tsh_lists.Session(entry.profile, entry.keys)
    found = tsh_lists.nodes(session, labels=labels, cluster=cluster, insecure=insecure, now=now)
    if found:
        return found
    everywhere = tsh_lists.nodes(session, cluster=cluster, insecure=insecure, now=now)
    there = sorted({f"{key}={value}" for node in everywhere for key, value in node.labels.items()})
    shown = ", ".join(there[:30]) + (", …" if len(there) > 30 else "")
    raise NotFound(
        f"no node has the labels {selector}",
        hint=f"Labels there are: {console.visible(shown)}"
        if there
        else "You see no nodes, or none with labels: tsh ls",
    )


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a node's lines begin with."""

    text: str
    escape: bool
    """Whether a terminal shows it: then control characters are made visible."""

    def line(self, data: bytes) -> bytes:
        """Return a line of output as it is shown."""
        if self.escape:
            text = data.decode(errors="replace")
            data = "\t".join(console.visible(part) for part in text.rstrip("\r").split("\t")).encode()
        return self.text.encode() + data + b"\n"


def marks(nodes: Sequence[NodeEntry], *, terminal: bool) -> list[_Mark]:
    """Return a mark for each node: its name, with the beginning of its id where two have one name."""
    names = [console.visible(node.name) for node in nodes]
    unique = [
        name if names.count(name) == 1 else f"{name}/{console.visible(node.id)[:8]}"
        for name, node in zip(names, nodes, strict=True)
    ]
    if not terminal:
        return [_Mark(f"{name}: ", escape=False) for name in unique]
    width = max(map(len, unique))
    return [
        _Mark(f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{name:<{width}}\x1b[0m ", escape=True)
        for number, name in enumerate(unique)
    ]


def run_on_all(nodes: Sequence[NodeEntry], configuration: Configuration, login: str, asked: AskedSession) -> int:
    """Run the command on all nodes and return 0 if it succeeded on each, else the highest exit code.

    At most `asked.parallel` run at once, without input. Who failed is told on stderr at the end.
    """
    commands = [
        # By id: a name may be several nodes'. Nobody could answer a question of one among many.
        tsh_ssh.ssh_command(configuration, [*asked.ssh_options(), "-o", "BatchMode=yes"], login, node.id, asked.command)
        for node in nodes
    ]
    codes = asyncio.run(_run_all(nodes, commands, asked.parallel))
    names = [mark.text.removesuffix(": ") for mark in marks(nodes, terminal=False)]
    failed = [(name, code) for name, code in zip(names, codes, strict=True) if code != 0]
    if failed:
        console.say(f"error: failed on {len(failed)} of {len(nodes)} nodes:")
        for name, code in failed:
            console.say(f"  {name}: {_outcome(code)}")
    return max((code for _, code in failed), default=0)


def _outcome(code: int) -> str:
    if code == tsh_ssh.FAILED:
        return "no connection (exit code 255)"
    return f"exit code {code}"


async def _run_all(nodes: Sequence[NodeEntry], commands: Sequence[Sequence[str]], parallel: int) -> list[int]:
    slots = asyncio.Semaphore(parallel)
    out = marks(nodes, terminal=sys.stdout.isatty())
    err = marks(nodes, terminal=sys.stderr.isatty())

    async def run(number: int) -> int:
        async with slots:
            return await _run_one(commands[number], out[number], err[number])

    tasks = [asyncio.create_task(run(number)) for number in range(len(nodes))]
    loop = asyncio.get_running_loop()
    # Ctrl-C reaches every ssh by the terminal; SIGTERM reaches only us, and the tasks end theirs.
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, lambda: [task.cancel() for task in tasks])
    try:
        return await asyncio.gather(*tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise KeyboardInterrupt from None


async def _run_one(command: Sequence[str], out: _Mark, err: _Mark) -> int:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_MAX_LINE,
    )
    assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 - they are pipes
    try:
        await asyncio.gather(_pass_on(process.stdout, sys.stdout, out), _pass_on(process.stderr, sys.stderr, err))
        code = await process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.terminate()
        with suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await process.wait()
        raise
    return code if code >= 0 else 128 - code


async def _pass_on(lines: asyncio.StreamReader, target: TextIO, mark: _Mark) -> None:
    """Write lines as they come, each in one piece: those of several nodes do not run into each other."""
    while True:
        try:
            line = await lines.readuntil(b"\n")
        except asyncio.IncompleteReadError as end:
            if end.partial:
                _write(target, mark.line(end.partial))
            return
        except asyncio.LimitOverrunError as long:
            line = await lines.readexactly(long.consumed)
        _write(target, mark.line(line.removesuffix(b"\n")))


def _write(target: TextIO, data: bytes) -> None:
    target.buffer.write(data)
    target.buffer.flush()
