"""A recorded session as an asciicast, version 2, which asciinema plays (its format's public description). Pure."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime

from runtime.audit.recording import PRINT, Frame
from runtime.audit.replay import Harmless

DEFAULT_SIZE = (80, 25)
MAX_SIZE = (1000, 500)
"""Columns and rows. A terminal may say that it is larger; a player would make room for all of them."""


def asciicast(frames: Iterable[tuple[Frame, bytes]], *, idle_limit: float | None = None) -> Iterator[str]:
    """Yield the lines of an asciicast from frames, each with what was printed.

    Bytes are read as UTF-8; what is none becomes the replacement character, also where a character lies across frames.
    What would do something to the viewer's terminal other than draw is left out (`runtime.audit.replay.Harmless`).
    Where there was no terminal, a line feed also returns to the line's begin, as it did where the output was read.
    The last line is of no output: it tells when the session ended. Players show no pause longer than `idle_limit`
    seconds; without one, all as long as they were.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    harmless = Harmless()
    begun = returns = False
    last = 0.0

    def shown(data: bytes, *, final: bool = False) -> Iterator[str]:
        text = decoder.decode(data, final)
        if returns:
            text = text.replace("\r\n", "\n").replace("\n", "\r\n")
        if text:
            yield json.dumps([last, "o", text])

    for frame, data in frames:
        size = _size(frame)
        if not begun:
            yield _header(frame, size or DEFAULT_SIZE, idle_limit)
            begun, returns = True, size is None
        last = max(last, frame.ms / 1000)
        if frame.event == PRINT:
            yield from shown(harmless.feed(data))
        elif size is not None and frame.event == "resize":
            yield json.dumps([last, "r", f"{size[0]}x{size[1]}"])
    if not begun:
        yield _header(Frame(0, ""), DEFAULT_SIZE, idle_limit)
    yield from shown(b"", final=True)
    yield json.dumps([last, "o", ""])


def describe(first: Frame) -> dict[str, str]:
    """Return who was recorded, where and what, as far as the first line of a recording tells it."""
    fields = first.fields or {}
    names = ("sid", "user", "login", "addr.local", "addr.remote", "server_id", "time", "command")
    return {name: str(fields[name]) for name in names if fields.get(name)}


def _size(frame: Frame) -> tuple[int, int] | None:
    """Return a size that a player can make, where the frame tells one."""
    if frame.terminal is None or 0 in frame.terminal:
        return None
    columns, rows = frame.terminal
    return min(columns, MAX_SIZE[0]), min(rows, MAX_SIZE[1])


def _header(first: Frame, size: tuple[int, int], idle_limit: float | None) -> str:
    told = describe(first)
    header: dict[str, object] = {"version": 2, "width": size[0], "height": size[1]}
    with suppress(KeyError, ValueError):
        header["timestamp"] = int(datetime.fromisoformat(told["time"]).timestamp())
    if idle_limit is not None:
        header["idle_time_limit"] = idle_limit
    if who := told.get("user"):
        header["title"] = f"{who} as {told.get('login', '')}, session {told.get('sid', '')}"
    if command := told.get("command"):
        header["command"] = command
    return json.dumps(header)
