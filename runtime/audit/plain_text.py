"""What a terminal's output says, without what it tells the terminal: for reading and searching. Pure.

A line is told as it stood when the output went on to the next: backspaces, returns to its begin, and what is deleted,
erased or inserted within it (ECMA-48 §8.3) have been carried out. Going elsewhere on the screen ends a line, too.
Not followed: what the screen as a whole looked like, where a line wrapped, and that some characters take two columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

MAX_LINE_BYTES = 64 * 1024
"""A longer line is told in pieces."""
_MAX_COLUMNS = 1024
"""Within which a line is edited: beyond there is no terminal."""
_LONGEST_SEQUENCE = 4096
"""Bytes of a sequence that may lie where a line is cut; a longer one is no sequence."""

_STRING = rb"\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
_TEXT = rb"(?:[\t\x20-\x7e\x80-\xc1\xc3-\xff]|\xc2(?![\x80-\x9f]))+"
_TOKENS = re.compile(
    rb"(?P<text>%s)|\x1b\[(?P<number>[0-9]*)(?P<more>[0-?]*)[ -/]*(?P<final>[@-~])|%s|\x1b[ -/]*(?P<escape>[0-~])"
    rb"|(?P<control>[\x00-\x1f\x7f])|\xc2[\x80-\x9f]" % (_TEXT, _STRING)
)
"""Text, control sequences (ECMA-48 §5.4), strings (§5.6), other sequences (§5.3), and control characters, C0 and C1."""
_UNFINISHED = re.compile(
    rb"(?:\x1b(?:[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*|\[[0-?]*[ -/]*)|[\xc2-\xf4][\x80-\xbf]{0,2})\Z"
)

_MOVES = b"ABEFHefdr"
"""The ends of control sequences that go elsewhere on the screen."""
_SCREENS = (b"47", b"1047", b"1049")
# These begin with one character that is sought for, which is fast.
_ELSEWHERE = re.compile(rb"\x1b(?:\[(?:[0-9;]*[%s]|\?(?:47|1047|1049)[hl])|[DEMc])" % _MOVES)
_SEQUENCES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_EDITS = re.compile(rb"\x1b\[(?:[0-9]*[CDGPX@`a]|1K)")
_BACK = re.compile(rb"\x08")
_RETURN = re.compile(rb"\r(?![\r\n])")
_TRANSLATED = bytes.maketrans(b"\r\x0b\x0c", b"\n\n\n")
_CONTROLS = bytes({*range(0x20), 0x7F} - {0x09, 0x0A, 0x0B, 0x0C, 0x0D})
_C1 = re.compile("[\x80-\x9f]")


@dataclass(slots=True)
class Line:
    """A line of text."""

    text: str
    ends: list[int]
    """For each character where it ended in the output, in bytes."""
    earlier: list[Line] = field(default_factory=list)
    """What stood on it before it was drawn over from its begin: a progress bar's 10 %, 20 % …"""


def skim(output: bytes) -> str:
    """Return output as text fast, not carrying out what is edited within lines: see `edited`."""
    if b"\x1b" in output:
        output = _SEQUENCES.sub(b"", _ELSEWHERE.sub(b"\n", output))
    text = output.translate(_TRANSLATED, _CONTROLS).decode("utf-8", "replace")
    return text if text.isascii() else _C1.sub("", text)


def edited(output: bytes) -> Iterator[int]:
    """Yield places at which something is edited within a line, so that `skim` does not tell how it stood."""
    for mark, pattern in ((b"\x1b", _EDITS), (b"\x08", _BACK), (b"\r", _RETURN)):
        if mark in output:
            yield from (found.start() for found in pattern.finditer(output))


def as_text(output: Iterable[bytes]) -> Iterator[str]:
    """Yield output as text, piece by piece; only the last may be a line without an end."""
    chunks = Chunks()
    for data in output:
        yield from map(_text, chunks.feed(data))
    yield from map(_text, chunks.end())


def _text(chunk: bytes) -> str:
    if b"\x1b" not in chunk and next(edited(chunk), None) is None:
        return skim(chunk.replace(b"\r\n", b"\n"))
    text = "\n".join(line.text for line in drawn(chunk))
    return f"{text}\n" if chunk.endswith(b"\n") else text


class Chunks:
    """Cuts output into pieces of whole lines, as far as they are not too long."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what is whole by now."""
        data = self._rest + data
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) > MAX_LINE_BYTES:
            unfinished = _UNFINISHED.search(data, max(0, len(data) - _LONGEST_SEQUENCE))
            cut = unfinished.start() if unfinished else len(data)
        self._rest = data[cut:]
        if cut:
            yield data[:cut]

    def end(self) -> Iterator[bytes]:
        """Yield what is left, which has no end."""
        if self._rest:
            yield self._rest
            self._rest = b""


class _Drawing:
    """A line while it is drawn."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.ends: list[int] = []
        self.column = 0
        self._said: list[str] = []
        """What was written since the last return to the line's begin."""
        self._said_ends: list[int] = []
        self._earlier: list[Line] = []
        self._drawn_over = self._edited = False

    def write(self, characters: str, ends: list[int]) -> None:
        """Draw characters where the cursor is."""
        begin, end = self.column, self.column + len(characters)
        self._drawn_over = self._drawn_over or begin < len(self.text)
        if begin > len(self.text):
            self._blank(len(self.text), begin)
        self.text[begin:end] = characters
        self.ends[begin:end] = ends
        self.column = end
        self._said.append(characters)
        self._said_ends.extend(ends)

    def carriage_return(self) -> None:
        """Go to the line's begin."""
        self.column = 0
        if self._edited and len(self.text) <= _MAX_COLUMNS:
            self._earlier.append(Line("".join(self.text), self.ends.copy()))
        elif self._said and not self._edited:
            self._earlier.append(Line("".join(self._said), self._said_ends))
        self._said, self._said_ends, self._edited = [], [], False

    def go(self, column: int) -> None:
        """Go to a column of this line."""
        self._edited = True
        self.column = max(0, min(column, max(_MAX_COLUMNS, len(self.text))))

    def edit(self, final: bytes, count: int, mode: bytes) -> None:
        """Carry out a control sequence that changes the line, or moves within it."""
        at = self.column
        self._edited = True
        if final == b"C" or final == b"a":
            self.go(at + count)
        elif final == b"D":
            self.go(at - count)
        elif final in (b"G", b"`"):
            self.go(count - 1)
        elif final == b"K" and mode in (b"", b"0"):
            del self.text[at:], self.ends[at:]
        elif len(self.text) > _MAX_COLUMNS:
            return
        elif final == b"K":
            self._blank(0, len(self.text) if mode == b"2" else min(at + 1, len(self.text)))
        elif final == b"X":
            self._blank(at, min(at + count, len(self.text)))
        elif final == b"P":
            del self.text[at : at + count], self.ends[at : at + count]
        elif final == b"@" and at < len(self.text):
            count = min(count, _MAX_COLUMNS)
            self.text[at:at] = " " * count
            self.ends[at:at] = [self.ends[at]] * count

    def line(self) -> Line:
        """Return it as it stands."""
        return Line("".join(self.text), self.ends, self._earlier if self._drawn_over else [])

    def _blank(self, begin: int, end: int) -> None:
        if begin < end:
            self.text[begin:end] = " " * (end - begin)
            self.ends[begin:end] = [self.ends[-1] if self.ends else 0] * (end - begin)


def drawn(chunk: bytes, offset: int = 0) -> Iterator[Line]:
    """Yield the lines of a piece of output that is at that offset; the last may have no end."""
    drawing = _Drawing()
    for token in _TOKENS.finditer(chunk):
        kind = token.lastgroup
        if kind == "text":
            data = token[0]
            start = offset + token.start()
            if data.isascii():
                drawing.write(data.decode(), list(range(start + 1, start + len(data) + 1)))
            else:
                drawing.write(*_decoded(data, start))
        elif kind == "control":
            match token[0]:
                case b"\n":
                    yield drawing.line()
                    drawing = _Drawing()
                case b"\r":
                    drawing.carriage_return()
                case b"\b":
                    drawing.go(drawing.column - 1)
                case b"\x0b" | b"\x0c" if drawing.text:
                    yield drawing.line()
                    drawing = _Drawing()
        elif _elsewhere(token):
            if drawing.text:
                yield drawing.line()
                drawing = _Drawing()
        elif kind == "final" and not token["more"]:
            number = token["number"]
            drawing.edit(token["final"], int(number[:5] or b"0") or 1, number)
    if drawing.text or not chunk.endswith(b"\n"):
        yield drawing.line()


def _elsewhere(token: re.Match[bytes]) -> bool:
    """Tell whether a sequence goes to another place on the screen."""
    if final := token["final"]:
        return final in _MOVES if final not in b"hl" else token["more"][1:] in _SCREENS
    return token["escape"] is not None and token["escape"] in b"DEMc"


def _decoded(data: bytes, start: int) -> tuple[str, list[int]]:
    """Return text, and where each character ended."""
    text = data.decode("utf-8", "replace")
    ends: list[int] = []
    for character in text:
        start += 1 if character == "\ufffd" else len(character.encode())
        ends.append(start)
    return text, ends
