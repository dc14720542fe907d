"""Reading the event log from where one left off, across its files, for those who pass events on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from runtime.audit.files import days, file_of

READ_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the log: the day's file, and bytes from its beginning."""

    day: date
    offset: int = 0

    def dump(self) -> bytes:
        """Return the position as it is kept on the disk."""
        return json.dumps({"day": f"{self.day:%Y-%m-%d}", "offset": self.offset}).encode() + b"\n"

    @classmethod
    def load(cls, content: bytes) -> Position:
        """Return the position that `dump` wrote. Raises ValueError."""
        try:
            data = json.loads(content)
            position = cls(date.fromisoformat(data["day"]), int(data["offset"]))
        except (KeyError, TypeError) as error:
            raise ValueError("this is no position in the log") from error
        if position.offset < 0:
            raise ValueError("a position is not below 0")
        return position


class Tail:
    """The log of a folder as a stream of lines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self) -> Position | None:
        """Return the position of the first event that there is; None for an empty log."""
        return next((Position(day) for day, _ in days(self._folder)), None)

    def end(self) -> Position | None:
        """Return the position behind the last event; None for an empty log."""
        last = max(days(self._folder), default=None)
        return Position(last[0], last[1].stat().st_size) if last else None

    def read(self, position: Position, *, limit: int) -> tuple[Sequence[bytes], Position]:
        """Return up to `limit` whole lines from there on, without their newlines, and the position behind them.

        No lines: there are none yet. A file that was removed is over: what follows it goes on. If none follows it (it
        was of a day to come), the last day that there is begins anew, and so does a file that was cut off: what is
        written there from now on must not be missed. Blocks. Raises OSError.
        """
        while True:
            lines, position = self._read_file(position, limit)
            following = None if lines else self._after(position.day)
            if not lines and following is None and not file_of(self._folder, position.day).exists():
                following = max((day for day, _ in days(self._folder)), default=None)
            if following is None:
                return lines, position
            position = Position(following)

    def _read_file(self, position: Position, limit: int) -> tuple[Sequence[bytes], Position]:
        try:
            with file_of(self._folder, position.day).open("rb") as file:
                if position.offset > os.fstat(file.fileno()).st_size:
                    position = Position(position.day)
                file.seek(position.offset)
                data = file.read(READ_BYTES)
                while b"\n" not in data and (more := file.read(READ_BYTES)):  # one line can be longer than that
                    data += more
        except FileNotFoundError:
            return (), position
        lines = data.split(b"\n")[:-1][:limit]
        return lines, Position(position.day, position.offset + sum(map(len, lines)) + len(lines))

    def _after(self, day: date) -> date | None:
        return next((found for found, _ in days(self._folder) if found > day), None)
