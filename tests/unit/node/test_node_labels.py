"""A node's labels: real commands, their output as values, and what happens to those that fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.node.labels import CommandFailed, NodeLabels, as_value, output_of
from runtime.service.sections.ssh import LabelCommand


def command(name: str, *words: str, period: float = 60) -> LabelCommand:
    """Return a label command."""
    return LabelCommand(name=name, command=words, period=timedelta(seconds=period))


def runs(pid: int) -> bool:
    """Tell whether a process is there, and not only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another task or process does."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - nobody there sets an event
            await asyncio.sleep(0.01)


async def test_labels_are_static_ones_and_outputs() -> None:
    """Static labels and each command's output stand beside one another."""
    labels = NodeLabels({"env": "prod"}, [command("word", "echo", "  up 1 hour,  15 minutes ")])
    await labels.first()
    assert labels() == {"env": "prod", "word": "up 1 hour, 15 minutes"}


async def test_a_command_runs_again_at_its_period(tmp_path: Path) -> None:
    """Each period a command runs again, and its new value counts."""
    file = tmp_path / "value"
    file.write_text("one")
    tick: asyncio.Queue[None] = asyncio.Queue()
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)
        await tick.get()

    labels = NodeLabels({}, [command("value", "cat", str(file), period=90)], pause=pause)
    await labels.first()
    running = asyncio.create_task(labels.run())
    file.write_text("two")
    tick.put_nowait(None)
    await until(lambda: labels() == {"value": "two"})
    assert waited[0] == 90
    running.cancel()


async def test_a_failure_keeps_the_last_value(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A command that fails leaves its last value, or no label if it never had one; the log tells it once."""
    file = tmp_path / "value"
    file.write_text("good")
    good, never = command("good", "cat", str(file)), command("never", "/nowhere/program")
    labels = NodeLabels({}, [good, never])
    await labels.first()
    file.unlink()
    await labels.first()
    await labels.first()
    assert labels() == {"good": "good"}
    assert caplog.text.count("label good: cat ended with 1") == 1
    assert caplog.text.count("label never: /nowhere/program cannot be run: No such file or directory") == 1


async def test_a_command_that_hangs_is_killed(tmp_path: Path) -> None:
    """After its time a command is ended with everything that it has started."""
    script = f"sleep 600 & echo $! > {tmp_path}/pid; wait"
    with pytest.raises(CommandFailed, match=r"sh had not ended after 0\.5 s"):
        await output_of(["sh", "-c", script], 0.5)
    child = int((tmp_path / "pid").read_text())
    await until(lambda: not runs(child))


async def test_endless_output_is_refused() -> None:
    """A command that prints without end is ended, and no memory is filled with it."""
    with pytest.raises(CommandFailed, match="printed more than"):
        await output_of(["yes"], 10)


def test_a_value_is_one_printable_line() -> None:
    """Line feeds become blanks, control characters question marks, and what is too long is cut."""
    assert as_value(b"a\nb\tc\n") == "a b c"
    assert as_value(b"\x1b[31mred\xff") == "?[31mred\N{REPLACEMENT CHARACTER}"
    assert len(as_value(b"x" * 5000)) == 1024
