"""A recorded session as an asciicast, version 2, which asciinema plays (its format's public description). Pure."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime

from runtime.audit.recording import PRINT, Frame

DEFAULT_SIZE = (80, 25)


def asciicast(frames: Iterable[tuple[Frame, bytes]]) -> Iterator[str]:
    """Yield the lines of an asciicast from frames, each with what was printed.

    Bytes are read as UTF-8; what is none becomes the replacement character, also where a character lies across frames.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    begun = False
    last = 0.0
    for frame, data in frames:
        size = frame.terminal
        if not begun:
            yield _header(frame, size or DEFAULT_SIZE)
            begun = True
        last = max(last, frame.ms / 1000)
        if frame.event == PRINT:
            if text := decoder.decode(data):
                yield json.dumps([last, "o", text])
        elif size is not None and frame.event == "resize":
            yield json.dumps([last, "r", f"{size[0]}x{size[1]}"])
    if rest := decoder.decode(b"", final=True):
        yield json.dumps([last, "o", rest])


def _header(first: Frame, size: tuple[int, int]) -> str:
    fields = first.fields or {}
    header: dict[str, object] = {"version": 2, "width": size[0], "height": size[1]}
    with suppress(KeyError, ValueError):
        header["timestamp"] = int(datetime.fromisoformat(str(fields["time"])).timestamp())
    if who := fields.get("user"):
        header["title"] = f"{who} as {fields.get('login', '')}, session {fields.get('sid', '')}"
    if command := fields.get("command"):
        header["command"] = str(command)
    return json.dumps(header)
