"""The grammar of --labels."""

from __future__ import annotations

import contextlib
import shlex
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.durations import format_duration
from runtime.core.errors import InvalidInput
from runtime.service.labels import Labels, parse_labels
from runtime.service.sections.ssh import LabelCommand


def command(name: str, *words: str, seconds: int) -> LabelCommand:
    """Return a label command."""
    return LabelCommand(name=name, command=words, period=timedelta(seconds=seconds))


MANUAL = Labels({}, (command("uptime", "uptime", "-p", seconds=60), command("kernel", "uname", "-r", seconds=3600)))


def test_the_manuals_example() -> None:
    """The example of the manual gives two labels from commands."""
    assert parse_labels('uptime=[1m:"uptime -p"],kernel=[1h:"uname -r"]') == MANUAL


def test_the_manuals_example_after_a_shell() -> None:
    """A shell takes the quotes away; it means the same."""
    (word,) = shlex.split('uptime=[1m:"uptime -p"],kernel=[1h:"uname -r"]')
    assert '"' not in word
    assert parse_labels(word) == MANUAL


def test_both_kinds() -> None:
    """Labels that stay and labels from commands can be mixed; values may be quoted or empty."""
    labels = parse_labels(r'env=prod, role="a, \"b\"",empty=,arch=[1h:uname -m]')
    assert labels.static == {"env": "prod", "role": 'a, "b"', "empty": ""}
    assert labels.commands == (command("arch", "uname", "-m", seconds=3600),)


def test_a_bracket_in_a_command() -> None:
    """A quoted command may hold brackets and commas."""
    (label,) = parse_labels(r'x=[1m:"sh -c \"[ -e /x ], true\""]').commands
    assert label.command == ("sh", "-c", "[ -e /x ], true")


def test_no_labels() -> None:
    """An empty text has no labels."""
    assert parse_labels("") == Labels()


@pytest.mark.parametrize(
    "text",
    ["x", "=x", "a=b,", ",a=b", "a=[1m]", "a=[uptime]", "a=[x:uptime]", "a=[0s:uptime]", "a=[1m:]", 'a=[1m:""]',
     'a=[1m:"x]', 'a="x', 'a=[1m:"x"', "a=b,a=c", "a=b,a=[1m:x]", "a b=c", "a=b\x1b", "a=[1m:'x]"],
)  # fmt: skip
def test_what_is_refused(text: str) -> None:
    """What does not follow the grammar, or sets a label twice, is refused."""
    with pytest.raises(InvalidInput):
        parse_labels(text)


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
PERIODS = st.integers(1, 10**6).map(lambda seconds: timedelta(seconds=seconds))
COMMANDS = st.lists(TEXTS.filter(bool), min_size=1, max_size=4)


def quoted(text: str) -> str:
    """Return text between quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.dictionaries(NAMES, TEXTS | st.tuples(PERIODS, COMMANDS), max_size=5))
def test_round_trip(labels: dict[str, str | tuple[timedelta, list[str]]]) -> None:
    """Any labels that are written out with quotes are understood as the same."""
    parts = []
    static = {}
    commands = []
    for name, value in labels.items():
        if isinstance(value, str):
            static[name] = value
            parts.append(f"{name}={quoted(value)}")
        else:
            period, words = value
            commands.append(LabelCommand(name=name, command=tuple(words), period=period))
            parts.append(f"{name}=[{format_duration(period)}:{quoted(shlex.join(words))}]")
    assert parse_labels(",".join(parts)) == Labels(static, tuple(commands))


@given(st.text(alphabet='ab=[]:",\\ 1m', max_size=30))
def test_any_text_ends(text: str) -> None:
    """Whatever is written, the parser ends: with labels, or with InvalidInput."""
    with contextlib.suppress(InvalidInput):
        assert isinstance(parse_labels(text), Labels)
