"""The event log: data_dir/log, one file a UTC day named as in the manual, one JSON object a line.

Source: manual, "SSH Events" (`2017-01-23.00:00:00.log`, 0640, the common fields `event`, `time`, `user`, …).
"""

from __future__ import annotations

import json
import logging
import os
import threading
import uuid
from datetime import date
from pathlib import Path
from typing import Protocol

from runtime.audit.events import EventType
from runtime.core.clock import Clock

logger = logging.getLogger(__name__)

Field = str | int | bool | list[str]


class Audit(Protocol):
    """Takes events. Returns once the event is with the operating system."""

    def emit(self, event: EventType, **fields: Field) -> None:
        """Log one event with its fields; time and id are added."""
        ...


class EventLog:
    """Writes events to the day's file under `folder`, which is made (0700) if it is missing."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._day: date | None = None
        self._file = -1

    def emit(self, event: EventType, **fields: Field) -> None:
        """Log one event with its fields; time and id are added. Raises OSError when the disk does not take it."""
        now = self._clock.now()
        record = {"event": str(event), "uid": str(uuid.uuid4()), "time": f"{now:%Y-%m-%dT%H:%M:%SZ}", **fields}
        # ASCII: a name with a control character or a right-to-left mark cannot disguise itself in a terminal.
        line = json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._day != now.date():
                self._open(now.date())
            # One write of a whole line: lines of two processes on one file do not mix (O_APPEND).
            os.write(self._file, line)

    def close(self) -> None:
        """Close the day's file. Safe to call twice."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file, self._day = -1, None

    def _open(self, day: date) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        opened = os.open(self._folder / f"{day:%Y-%m-%d}.00:00:00.log", flags, 0o640)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._day = opened, day
