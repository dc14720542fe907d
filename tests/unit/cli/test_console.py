"""What is shown, and what the end of a command means to whoever started it."""

from __future__ import annotations

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cli import console
from runtime.core.errors import InvalidInput, TeleportError


def exit_code(command: click.Command, *arguments: str) -> int:
    """Return the exit code of a command."""
    with pytest.raises(SystemExit) as end:
        console.run(command, arguments)
    assert isinstance(end.value.code, int)
    return end.value.code


def raising(error: BaseException) -> click.Command:
    """Return a command that ends in an error."""

    def fail() -> None:
        raise error

    return click.Command("demo", callback=fail)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("node-1 ä 日本", "node-1 ä 日本"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\r\nb\tc\x00\x7f", r"a\x0d\x0ab\x09c\x00\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("\u2028", r"\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    """Control, bidirectional and separating characters are escaped; letters of any script stay."""
    assert console.visible(text) == shown


@given(st.text())
def test_visible_is_one_harmless_line(text: str) -> None:
    """Nothing in the result moves a cursor or ends a line, and doing it twice changes nothing."""
    shown = console.visible(text)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    assert len(shown.splitlines()) <= 1
    assert console.visible(shown) == shown


def test_success(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that returns ends with 0, its data on stdout and its talk on stderr."""

    def work() -> None:
        console.out("data")
        console.say("talk\x1b")

    assert exit_code(click.Command("demo", callback=work)) == 0
    assert capsys.readouterr() == ("data\n", "talk\\x1b\n")


def test_teleport_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A TeleportError ends with 1, the error and the hint on stderr, with what came from outside escaped."""
    assert exit_code(raising(InvalidInput("bad \x1b[2J\nworse", hint="Try\r again."))) == 1
    assert capsys.readouterr() == ("", "error: bad \\x1b[2J\nworse\nhint: Try\\x0d again.\n")


def test_error_without_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no hint no empty one is shown."""
    assert exit_code(raising(TeleportError("gone"))) == 1
    assert capsys.readouterr().err == "error: gone\n"


def test_wrong_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A command line that click cannot understand ends with 2 and says where help is."""
    assert exit_code(click.Command("demo", callback=lambda: None), "--bogus\x1b") == 2
    assert capsys.readouterr().err == "error: No such option '--bogus\\x1b'.\nhint: demo --help tells more.\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interrupt(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends with 130 and without a traceback."""
    assert exit_code(raising(error)) == 130
    assert capsys.readouterr() == ("", "")


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    """--help is data, and success."""
    assert exit_code(click.Command("demo", help="Does it."), "--help") == 0
    assert "Does it." in capsys.readouterr().out


def test_a_bug_stays_visible() -> None:
    """An error that nobody raised on purpose is not dressed up as one that the user can mend."""
    with pytest.raises(ZeroDivisionError):
        console.run(raising(ZeroDivisionError()), [])
