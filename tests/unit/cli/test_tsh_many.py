"""Output of many nodes: how lines are marked, passed on and shown."""

from __future__ import annotations

import asyncio
import io
import sys

import pytest

from runtime.cli import tsh_many
from runtime.cli.tsh_lists import NodeEntry
from runtime.cli.tsh_many import marks


def node(name: str, number: int = 0) -> NodeEntry:
    """Return a node."""
    return NodeEntry(f"{number:08x}-0000-4000-8000-000000000000", name, "", {}, "", "node")


def test_marks() -> None:
    """A pipe gets `NAME: `; two of one name are told apart by their ids; nothing in a name is obeyed."""
    nodes = [node("db1", 1), node("db1", 2), node("web\x1b[2J")]
    plain = [mark.text for mark in marks(nodes, terminal=False)]
    assert plain == ["db1/00000001: ", "db1/00000002: ", "web\\x1b[2J: "]
    shown = [mark.text for mark in marks([node("a"), node("long")], terminal=True)]
    assert shown == ["\x1b[36ma   \x1b[0m ", "\x1b[33mlong\x1b[0m "]


@pytest.mark.parametrize(
    ("data", "plain", "shown"),
    [
        (b"text", b"text", b"text"),
        (b"a\tb\r", b"a\tb\r", b"a\tb"),
        (b"\x1b]0;title\x07", b"\x1b]0;title\x07", b"\\x1b]0;title\\x07"),
        (b"a\rdb2 b", b"a\rdb2 b", b"a\\x0ddb2 b"),
        (b"\xff", b"\xff", "\N{REPLACEMENT CHARACTER}".encode()),
    ],
)
def test_lines(data: bytes, plain: bytes, shown: bytes) -> None:
    """Into a file or pipe a line goes as it is; in a terminal only tabs are left of what would move the cursor."""
    assert marks([node("n")], terminal=False)[0].line(data) == b"n: " + plain + b"\n"
    assert marks([node("n")], terminal=True)[0].line(data) == b"\x1b[36mn\x1b[0m " + shown + b"\n"


async def test_passing_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is written in one piece, the last one too; a very long one in pieces, and nothing is lost."""
    reader = asyncio.StreamReader(limit=16)
    target = io.TextIOWrapper(io.BytesIO())
    reader.feed_data(b"one\n\ntwo\n" + b"x" * 40 + b"\nend")
    reader.feed_eof()
    await tsh_many._pass_on(reader, target, marks([node("n")], terminal=False)[0])
    target.seek(0)
    lines = target.read().splitlines()
    assert lines[:3] == ["n: one", "n: ", "n: two"]
    assert "".join(line.removeprefix("n: ") for line in lines[3:-1]) == "x" * 40
    assert lines[-1] == "n: end"


async def test_at_most_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more commands run at once than are allowed, and codes come back in the order of the nodes."""
    running = most = 0

    async def one(command: list[str], out: object, err: object) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(3):
            await asyncio.sleep(0)
        running -= 1
        return int(command[0])

    monkeypatch.setattr(tsh_many, "_run_one", one)
    nodes = [node("n", number) for number in range(9)]
    assert await tsh_many._run_all(nodes, [[str(number)] for number in range(9)], 4) == list(range(9))
    assert most == 4


async def test_a_signal_is_an_exit_code(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A program that a signal ends counts as failed, as in a shell."""
    mark = marks([node("n")], terminal=False)[0]
    command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    assert await tsh_many._run_one(command, mark, mark) == 137
    assert await tsh_many._run_one(["sh", "-c", "exit 3"], mark, mark) == 3
