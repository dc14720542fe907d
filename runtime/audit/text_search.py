"""Finding text in a recording as a person saw it. Pure, but for what it reads.

Most output is only skimmed; lines with a match, and lines that were edited while they were shown, are drawn
(`runtime.audit.plain_text`). What stood on a line before it was drawn over is looked through, too.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from runtime.audit.events import EventType
from runtime.audit.index import Checkpoint, checkpoints
from runtime.audit.plain_text import Chunks, Line, drawn, edited, skim
from runtime.audit.reading import Source, lines, pieces
from runtime.audit.recording import BYTES, PRINT, TRUNCATED, frames
from runtime.core.errors import InvalidInput

MAX_SHOWN = 400
"""Characters of a line that are told: it may have many more."""

NO_END = "it has no end"
"""What is wrong with a recording that is cut off between two lines, and with none that still grows."""


@dataclass(frozen=True, slots=True)
class Match:
    """A line with a match, and when all of it had been printed, in milliseconds since the session began."""

    ms: int
    line: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for: text, or a regular expression (Python's `re`) in a line."""

    text: str
    regex: bool = False
    ignore_case: bool = False

    def finder(self) -> Finder:
        """Return what finds it. Raises InvalidInput for an expression that is none."""
        try:
            flags = re.IGNORECASE if self.ignore_case else re.NOFLAG
            pattern = re.compile(self.text if self.regex else re.escape(self.text), flags)
        except (re.error, RecursionError, OverflowError) as error:
            raise InvalidInput(
                f"{self.text!a} is no regular expression: {error}", hint="Leave --regex out to look for it as it is."
            ) from None
        if pattern.search("") or not self.text:
            raise InvalidInput(f"{self.text!a} is found in every line", hint="Say more of what to look for.")
        return Finder(pattern, may=self._may(pattern))

    def _may(self, pattern: re.Pattern[str]) -> Callable[[str], bool]:
        """Return what tells fast whether any of some lines can match."""
        if self.regex:
            return lambda text: any(pattern.search(line) for line in text.split("\n"))
        if not self.ignore_case:
            return lambda text: self.text in text
        lower = self.text.lower()
        if not lower.isascii():
            return lambda text: pattern.search(text) is not None
        return lambda text: lower in text.lower() if text.isascii() else pattern.search(text) is not None


class Finder:
    """Finds matches of a pattern in output."""

    def __init__(self, pattern: re.Pattern[str], *, may: Callable[[str], bool]) -> None:
        self._pattern = pattern
        self._may = may

    def find(self, output: Iterable[bytes]) -> Iterator[tuple[int, str]]:
        """Yield, for each line with a match, at which byte the match was whole, and the line."""
        chunks = Chunks()
        offset = 0
        for data in output:
            for chunk in chunks.feed(data):
                yield from self._in_chunk(chunk, offset)
                offset += len(chunk)
        for chunk in chunks.end():
            yield from self._in_chunk(chunk, offset)

    def _in_chunk(self, chunk: bytes, offset: int) -> Iterator[tuple[int, str]]:
        for start, end in self._candidates(chunk):
            found: dict[str, int] = {}
            for line in drawn(chunk[start:end], offset + start):
                for shown in (line, *line.earlier):
                    if match := self._pattern.search(shown.text):
                        found.setdefault(_excerpt(shown, match), shown.ends[max(match.end(), 1) - 1])
                        break
            yield from ((at, text) for text, at in found.items())

    def _candidates(self, chunk: bytes) -> Iterator[tuple[int, int]]:
        """Yield begin and end of each line that may match."""
        seen = 0
        may = self._may(skim(chunk))
        places: Iterable[int] = _line_begins(chunk) if may else edited(chunk)
        for place in places:
            if place < seen:
                continue
            start = chunk.rfind(b"\n", seen, place) + 1 or seen
            seen = chunk.find(b"\n", place) + 1 or len(chunk)
            line = chunk[start:seen]
            if not may or next(edited(line), None) is not None or self._may(skim(line)):
                yield start, seen


def search(source: Source, finder: Finder, limit: int, read: Callable[[int], None]) -> tuple[list[Match], str]:
    """Return up to so many matches in a recording, in their order, and what is wrong with it: nothing, or a sentence.

    What is there of a recording that was cut off is searched. `read` is told how many bytes were. Raises what
    `Source.read` raises, and InvalidInput for a log that is none.
    """
    size = 0

    def counted() -> Iterator[bytes]:
        nonlocal size
        for piece in pieces(source, BYTES):
            size += len(piece)
            read(len(piece))
            yield piece

    found: list[tuple[int, str]] = []
    for each in finder.find(counted()):
        found.append(each)
        if len(found) == limit:
            break
    marks = [mark for _, mark in checkpoints(source)]
    problem = "" if len(found) == limit else _problem(source, marks, size)
    return _timed(source, marks, found), problem


def _timed(source: Source, marks: Sequence[Checkpoint], found: Sequence[tuple[int, str]]) -> list[Match]:
    """Say when what was found at these bytes was printed."""
    matches: list[Match] = []
    log = iter(lines(source))
    entry = None
    for at, text in found:
        nearest = bisect_right(marks, at - 1, key=lambda mark: mark.bytes) - 1
        if nearest >= 0 and (entry is None or entry[0] < marks[nearest].bytes):
            log = iter(lines(source, marks[nearest].log))
            entry = None
        while entry is None or entry[0] < at:
            line = next(log, None)
            if line is None:
                break
            for frame in frames([line[1]]):
                if frame.event == PRINT:
                    entry = (frame.offset + frame.size, frame.ms)
        matches.append(Match(entry[1] if entry else 0, text))
    return matches


def _problem(source: Source, marks: Sequence[Checkpoint], size: int) -> str:
    """Say what the end of the log tells of a recording of which there are so many bytes."""
    printed, last = 0, ""
    for _, line in lines(source, marks[-1].log if marks else 0):
        for frame in frames([line]):
            last = frame.event
            if frame.event == PRINT:
                printed = frame.offset + frame.size
            elif frame.event == TRUNCATED:
                return f"nothing was recorded after byte {printed}: {(frame.fields or {}).get('reason', '')}"
    if not last:
        return "its log cannot be read"
    if size < printed:
        return f"only {size} of {printed} bytes are there"
    return "" if last == EventType.SESSION_END else NO_END


def _excerpt(line: Line, match: re.Match[str]) -> str:
    text = line.text
    if len(text) > MAX_SHOWN:
        begin = max(0, min(match.start() - MAX_SHOWN // 4, len(text) - MAX_SHOWN))
        text = text[begin : begin + MAX_SHOWN]
    return text.replace("\t", " ").strip()


def _line_begins(chunk: bytes) -> Iterator[int]:
    place = 0
    while 0 <= place < len(chunk):
        yield place
        place = chunk.find(b"\n", place) + 1 or -1
