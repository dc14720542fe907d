"""docs/manual-coverage.md tells the truth as far as a test can see: what it names exists, and nothing is left out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import click
import pytest

from runtime.audit.events import EventType
from runtime.cli.tctl import tctl
from runtime.cli.teleport import teleport
from runtime.cli.tsh import tsh
from runtime.core import defaults
from runtime.service.schema import sections
from runtime.service.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "manual-coverage.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| manual |", "| flag |", "| key |", "| port |"))
    if not line.startswith(("| file |", "| event |"))
]
NAMED = sorted(set(re.findall(r"tests/[\w/.-]+\.py::\w+", TEXT)))
LISTED = {term for row in ROWS for term in re.findall(r"`([^`]+)`", row[0])}


@cache
def functions(file: str) -> frozenset[str]:
    """Return the names of the tests in a file; none where there is no such file."""
    path = ROOT / file
    tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def commands(command: click.Command, path: str) -> list[str]:
    """Return a command and all below it, each by the words that name it."""
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [path, *(each for name, child in below for each in commands(child, f"{path} {name}"))]


def missing(wanted: set[str]) -> list[str]:
    """Return what no row lists: as a term of its own, or as the beginning of one."""
    return sorted(
        term
        for term in wanted
        if not any(listed == term or listed.startswith((f"{term} ", f"{term},")) for listed in LISTED)
    )


@pytest.mark.parametrize("test", NAMED)
def test_what_is_named_exists(test: str) -> None:
    """Every test that the page names is there."""
    file, _, name = test.partition("::")
    assert name in functions(file), "renamed or removed? Then say so in docs/manual-coverage.md"


def test_every_row_has_a_test_or_says_not_yet() -> None:
    """No row is left empty, and no word but *not yet* stands for a test."""
    assert len(ROWS) > 100
    for row in ROWS:
        assert len(row) == 2, row
        for claim in row[1].split("<br>"):
            assert re.fullmatch(r"`tests/[\w/.-]+\.py::\w+`|not yet.*", claim), row


def test_every_flag_of_start_is_listed() -> None:
    """Each spelling of each flag of `teleport start`."""
    options = [option for option in teleport.commands["start"].params if isinstance(option, click.Option)]
    assert missing({name for option in options for name in option.opts}) == []


def test_every_key_is_listed() -> None:
    """Each key of teleport.yaml, by its path."""
    assert (
        missing({".".join((*path, key)) for path, section in sections(Settings) for key in section.model_fields}) == []
    )


@pytest.mark.parametrize(("program", "name"), [(teleport, "teleport"), (tctl, "tctl"), (tsh, "tsh")])
def test_every_command_is_listed(program: click.Group, name: str) -> None:
    """Each command of the three programs, and each below one."""
    assert missing(set(commands(program, name)) - {name}) == []


def test_every_event_is_listed() -> None:
    """Each event that the audit log may have."""
    assert missing({str(event) for event in EventType}) == []


def test_every_port_is_listed() -> None:
    """The manual's five ports, and ours."""
    ports = {value for name, value in vars(defaults).items() if name.endswith("_PORT") and name != "OPENSSH_PORT"}
    assert ports == {int(row[0][:4]) for row in ROWS if re.match(r"\d{4}, ", row[0])}
