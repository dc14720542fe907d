"""The size of a terminal: set at once, logged not too often, and made to be drawn anew."""

from __future__ import annotations

import asyncio

import pytest

from runtime.node import window
from runtime.node.window import Window
from runtime.transport.sessions import TerminalSize


def size(columns: int, rows: int) -> TerminalSize:
    """Return a size."""
    return TerminalSize(columns, rows)


async def test_the_last_of_many_sizes_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first at once, then the one that stands after a while; the child gets each."""
    monkeypatch.setattr(window, "LOG_SECONDS", 0.05)
    resized: list[TerminalSize] = []
    logged: asyncio.Queue[TerminalSize] = asyncio.Queue()
    made = Window(size(80, 24), resize=resized.append, log=logged.put_nowait)
    assert not made.set(size(80, 24))
    assert all(made.set(size(columns, 24)) for columns in (81, 82, 83))
    assert (len(resized), logged.qsize(), logged.get_nowait()) == (3, 1, size(81, 24))
    async with asyncio.timeout(10):
        assert await logged.get() == size(83, 24)
    made.close()
    assert logged.empty()


async def test_what_was_not_logged_is_at_the_end() -> None:
    """A session that ends right after a change has it in the log."""
    logged: list[TerminalSize] = []
    made = Window(size(80, 24), resize=lambda _: None, log=logged.append)
    made.set(size(81, 24))
    made.set(size(82, 24))
    made.close()
    made.close()
    assert logged == [size(81, 24), size(82, 24)]


async def test_drawing_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row less for a moment, then the size that it has by then; the log hears nothing of it."""
    monkeypatch.setattr(window, "REPAINT_SECONDS", 0.02)
    resized: asyncio.Queue[TerminalSize] = asyncio.Queue()
    logged: list[TerminalSize] = []
    made = Window(size(80, 24), resize=resized.put_nowait, log=logged.append)
    made.repaint()
    made.repaint()
    assert (resized.qsize(), resized.get_nowait(), made.size) == (1, size(80, 23), size(80, 24))
    async with asyncio.timeout(10):
        assert (await resized.get(), logged) == (size(80, 24), [])
    tiny = Window(size(80, 1), resize=resized.put_nowait, log=logged.append)
    tiny.repaint()
    assert resized.empty()
