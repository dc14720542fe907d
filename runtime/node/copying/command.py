"""What OpenSSH's scp asks for on the far side: `scp [-v] [-r] [-p] [-d] [-q] -t|-f [--] path…`. Pure.

The old protocol was made for a shell on the far side, which splits words, takes quotes off, and expands `~` and
patterns. So much of it is done here. A path that holds anything else that only a shell knows is refused and not carried
out (CVE-2020-15778: a back-quoted command in a file's name). Source: scp.c `toremote`, `tosource`; POSIX 2.2, 2.13.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from runtime.core.errors import InvalidInput

_COMMAND = re.compile(r"[ \t]*scp((?:[ \t]+-[vrpdqtf]+)+)(?:[ \t]+(.*))?", re.DOTALL)
_SHELL = "|&;<>()$`\n\r\0"
"""What ends a word, or has a meaning, in every shell."""
_PATTERN = "*?["


class Word(NamedTuple):
    """One word of a command line, its quotes taken off."""

    text: str
    """As it is when it is no pattern, or the pattern matches nothing."""
    pattern: str = ""
    """The same for `glob`, where it holds `*`, `?` or `[` outside of quotes; what was quoted stands for itself."""
    tilde: str = ""
    """`~` or `~login` before it, where that was not quoted."""


class ScpRequest(NamedTuple):
    """What a client's scp wants: to send files to us (sink), or to get files (source)."""

    sink: bool
    paths: tuple[Word, ...]
    recursive: bool = False
    preserve: bool = False
    """Times, and modes past the umask."""
    into_directory: bool = False
    """The target has to be a directory: several files will come."""


def parse_scp(command: str) -> ScpRequest | None:
    """Return what scp asks for; None for every other command, which is the login shell's.

    Raises InvalidInput for a command of scp's whose path holds what only a shell would understand.
    """
    found = _COMMAND.fullmatch(command)
    if not found:
        return None
    options, rest = set(found[1].replace("-", "").replace(" ", "").replace("\t", "")), found[2] or ""
    if not options & {"t", "f"}:
        return None
    if {"t", "f"} <= options:
        raise InvalidInput("scp: -t and -f exclude each other")
    words = split_words(rest)
    if words and words[0].text == "--":
        words = words[1:]
    elif words and words[0].text.startswith("-"):
        raise InvalidInput(f"scp: unknown option {words[0].text[:32]!a}", hint="a path that begins with - follows --")
    if not words:
        raise InvalidInput("scp: there is no path")
    sink = "t" in options
    if sink and len(words) > 1:
        raise InvalidInput("scp: ambiguous target", hint="quote a path that has a space, once more for the far side")
    return ScpRequest(sink, tuple(words), "r" in options, "p" in options, "d" in options)


def split_words(line: str) -> list[Word]:
    """Split a line as a shell does (POSIX 2.2), leaving patterns. Raises InvalidInput for anything beyond."""
    words: list[Word] = []
    word = _Word()
    letters = iter(line)
    for letter in letters:
        if letter in " \t":
            if word.begun:
                words.append(word.finished())
            word = _Word()
        elif letter in _SHELL or (letter == "#" and not word.begun):
            raise _only_a_shell(letter)
        elif letter in "'\"\\":
            word.add_quoted(_quoted(letter, letters))
        else:
            word.add(letter)
    if word.begun:
        words.append(word.finished())
    return words


class _Word:
    """A word that is being read, in time that grows with its length only: the client chooses it."""

    def __init__(self) -> None:
        self.begun = False
        self._text: list[str] = []
        self._pattern: list[str] = []
        self._magic = False
        self._tilde = False
        self._brace = ""
        """What an open brace holds so far that counts: `{`, then `{.`, then `{,` for a list or a range."""

    def add(self, letter: str) -> None:
        if letter == "~" and not self.begun:
            self._tilde = True
        self._look_at_brace(letter)
        self._magic = self._magic or letter in _PATTERN
        self._text.append(letter)
        self._pattern.append(letter)
        self.begun = True

    def add_quoted(self, text: str) -> None:
        self._text.append(text)
        self._pattern += [f"[{letter}]" if letter in _PATTERN else letter for letter in text]
        self.begun = True

    def finished(self) -> Word:
        text, pattern = "".join(self._text), "".join(self._pattern)
        tilde = text.partition("/")[0] if self._tilde else ""
        if not pattern.startswith(tilde) or any(letter in tilde for letter in _PATTERN):
            raise _only_a_shell("~")
        return Word(text[len(tilde) :], pattern[len(tilde) :] if self._magic else "", tilde)

    def _look_at_brace(self, letter: str) -> None:
        """Refuse `{a,b}` and `{1..3}`, which some shells expand; `{a}` is a name everywhere."""
        if letter == "{":
            self._brace = "{"
        elif letter == "}":
            if self._brace == "{,":
                raise _only_a_shell("{")
            self._brace = ""
        elif self._brace and (letter == "," or (letter == "." and self._brace == "{.")):
            self._brace = "{,"
        elif self._brace in ("{", "{."):
            self._brace = "{." if letter == "." else "{"


def _quoted(quote: str, letters: Iterator[str]) -> str:
    """Return what a quote makes literal, up to its end."""
    if quote == "\\":
        letter = next(letters, "")
        if letter in ("", "\n", "\0"):
            raise _only_a_shell("\\")
        return letter
    text: list[str] = []
    for letter in letters:
        if letter == quote:
            return "".join(text)
        if letter == "\0" or (quote == '"' and letter in "$`"):
            raise _only_a_shell(letter)
        if quote == '"' and letter == "\\":
            escaped = next(letters, "")
            text.append(escaped if escaped in ('"', "\\", "$", "`") else letter + escaped)
        else:
            text.append(letter)
    raise InvalidInput(f"scp: a quote {quote} is not closed")


def _only_a_shell(letter: str) -> InvalidInput:
    return InvalidInput(
        f"scp: the path holds {letter!a}, which only a shell understands; file copies here are not run through one",
        hint="quote it once more for the far side, or leave -O away",
    )
