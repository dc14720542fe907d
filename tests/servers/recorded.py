"""Recordings that tests make up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from runtime.audit.events import EventType
from runtime.audit.reading import File
from runtime.audit.recording import BYTES, LOG, Field, Script, file_name

SID = "4c146ec8-eab6-41e6-b1b3-40167e68e931"
STARTED = {"time": "2026-11-22T20:15:00Z", "user": "joe", "login": "root", "addr.local": "192.0.2.5:3022"}


class Memory:
    """A recording's files in memory (`runtime.audit.reading.Source`), and how much of them was read."""

    def __init__(self, log: bytes, printed: bytes, index: bytes = b"") -> None:
        self.log = log
        self.printed = printed
        self.index = index
        self.taken = 0

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Return bytes of a file."""
        data = {LOG: self.log, BYTES: self.printed, "index": self.index}[part][offset : offset + size]
        self.taken += len(data)
        return data


class Recorded(Memory):
    """A recording as a node would have written it. `steps` are milliseconds, and output or a new size."""

    def __init__(
        self,
        steps: Iterable[tuple[int, bytes | str]],
        *,
        size: str | None = "80:25",
        over: bool = True,
        **fields: Field,
    ) -> None:
        script = Script()
        sized: dict[str, Field] = {"size": size} if size else {}
        event = EventType.SESSION_START if size else EventType.EXEC
        log = [script.event(event, 0, {"sid": SID, **STARTED, **sized, **fields})]
        printed: list[bytes] = []
        ms = 0
        for ms, step in steps:
            if isinstance(step, str):
                log.append(script.event(EventType.RESIZE, ms, {"size": step}))
            else:
                log.append(script.printed(len(step), hashlib.sha256(step).hexdigest(), ms))
                printed.append(step)
        if over:
            log.append(script.event(EventType.SESSION_END, ms, {}))
        super().__init__(b"".join(log), b"".join(printed))

    def write(self, folder: Path, sid: str = SID) -> Path:
        """Write the two files into a folder, and return the path of the bytes."""
        (folder / file_name(sid, LOG)).write_bytes(self.log)
        (folder / file_name(sid, BYTES)).write_bytes(self.printed)
        return folder / file_name(sid, BYTES)
