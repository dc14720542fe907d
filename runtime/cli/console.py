"""The one module that prints and exits: data to stdout, talk to stderr, and what each end of a command means.

exit code 0      done
exit code 1      a TeleportError: `error: …` and `hint: …` on stderr
exit code 2      the command line itself is wrong
exit code 130    Ctrl-C
exit code 141    whoever read our output went away; nothing is said
"""

from __future__ import annotations

import os
import signal
import sys
import unicodedata
from collections.abc import Sequence
from typing import NoReturn

import click

from runtime.core.errors import TeleportError

FAILED = 1
MISUSED = 2
INTERRUPTED = 128 + signal.SIGINT
NOBODY_READS = 128 + signal.SIGPIPE

_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's control, format (bidirectional overrides among them), surrogate, and line and paragraph separators."""


def visible(text: str) -> str:
    r"""Return text from outside so that a terminal shows it and obeys nothing in it: ESC becomes `\x1b`.

    Control, format and separating characters are escaped, tab and line feed among them: the result is one line.
    """
    if text.isascii() and text.isprintable():
        return text  # nearly all of it, in tables of thousands of rows
    return "".join(_escaped(character) for character in text)


def out(data: str) -> None:
    """Print data, which may be piped into a file or a program, to stdout as it is."""
    click.echo(data, nl=not data.endswith("\n"))


def say(text: str) -> None:
    """Print talk for the person at the terminal to stderr, line by line, with what is not visible escaped."""
    for line in text.split("\n"):
        click.echo(visible(line), err=True)


def fail(error: TeleportError) -> None:
    """Print an error and its hint."""
    say(f"error: {error}")
    if error.hint:
        say(f"hint: {error.hint}")


def run(command: click.Command, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command with the process's arguments (or those given) and exit with the code that its end means."""
    sys.exit(_run(command, arguments))


def _run(command: click.Command, arguments: Sequence[str] | None) -> int:
    try:
        # Not command.main(): it would end a broken pipe by itself, with 1.
        with command.make_context(command.name, list(sys.argv[1:] if arguments is None else arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        say(error.format_message())
        return MISUSED
    except click.UsageError as error:
        say(f"error: {error.format_message()}")
        say(f"hint: {error.ctx.command_path if error.ctx else command.name} --help tells more.")
        return MISUSED
    except click.exceptions.Exit as end:
        sys.stdout.flush()
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except TeleportError as error:
        fail(error)
        return FAILED
    except BrokenPipeError:
        _forget_stdout()
        return NOBODY_READS
    except OSError as error:
        # Only our own printing is left to fail here: what touches files translates its errors (core/errors.py).
        _forget_stdout()
        fail(TeleportError(f"the output cannot be written: {error.strerror}"))
        return FAILED
    return 0


def _forget_stdout() -> None:
    """Send what Python still holds for stdout nowhere, or its own exit would complain a second time."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escaped(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN_CATEGORIES:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
