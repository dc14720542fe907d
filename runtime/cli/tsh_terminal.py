"""Asking the person: at the terminal, or on a pipe for those who have none."""

from __future__ import annotations

import getpass
import sys
from typing import Protocol, TextIO

from runtime.cli import console
from runtime.core.errors import InvalidInput

_TERMINAL = "/dev/tty"
_PIPE_HINT = "Use a terminal, or write both to a pipe, a line each: tsh login --password-stdin"


class Asker(Protocol):
    """Where answers come from. Both raise InvalidInput when nobody can be asked."""

    def secret(self, what: str, prompt: str) -> str:
        """Return what is typed, which is not shown; `what` names it in errors."""
        ...

    def agrees(self, text: str, question: str) -> bool:
        """Show a text of several lines and return whether the answer to the question is yes."""
        ...


class Terminal:
    """The terminal that the process belongs to, whatever stdin and stdout are."""

    def secret(self, what: str, prompt: str) -> str:
        """Return what is typed, without echo."""
        try:
            # Not getpass's own way out: without a terminal it would read stdin, with echo.
            with open(_TERMINAL, "w", encoding="utf-8") as terminal:  # noqa: PTH123 — a device, opened as getpass does
                return _not_empty(what, getpass.getpass(console.visible(prompt), stream=terminal))
        except OSError as error:
            raise InvalidInput(f"there is no terminal to ask for the {what}", hint=_PIPE_HINT) from error
        except EOFError as error:
            raise InvalidInput(f"no {what} was given; nothing was sent") from error

    def agrees(self, text: str, question: str) -> bool:
        """Ask until the answer is yes or no; the end of input is no."""
        try:
            with open(_TERMINAL, encoding="utf-8") as answers, open(_TERMINAL, "w", encoding="utf-8") as terminal:  # noqa: PTH123 — as above
                terminal.writelines(f"{console.visible(line)}\n" for line in text.split("\n"))
                while True:
                    terminal.write(f"{console.visible(question)} (yes/no) ")
                    terminal.flush()
                    answer = answers.readline()
                    if answer.strip().lower() in {"yes", "no"} or not answer:
                        return answer.strip().lower() == "yes"
        except OSError as error:
            raise InvalidInput("there is no terminal to ask") from error


class Pipe:
    """Lines of a pipe: the password, then the one-time code. Nobody is there to agree to anything."""

    def __init__(self, lines: TextIO | None = None) -> None:
        self._lines = sys.stdin if lines is None else lines

    def secret(self, what: str, prompt: str) -> str:
        """Return the next line."""
        try:
            line = self._lines.readline(1 << 16)
        except UnicodeDecodeError as error:
            raise InvalidInput(f"the {what} on stdin is not UTF-8") from error
        if not line:
            raise InvalidInput(f"stdin ends before the {what}", hint="Write the password, and the code, a line each.")
        return _not_empty(what, line.rstrip("\r\n"))

    def agrees(self, text: str, question: str) -> bool:
        """Refuse: stdin is no person."""
        raise InvalidInput("there is no terminal to ask")


def _not_empty(what: str, text: str) -> str:
    if not text:
        raise InvalidInput(f"no {what} was given; nothing was sent")
    return text
