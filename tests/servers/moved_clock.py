"""A clock for processes that a test sets, by Debian's libfaketime; what measures how long something takes goes on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from runtime.core.clock import SystemClock


class MovedClock:
    """The clock of all processes that are started with `environment`."""

    def __init__(self, folder: Path) -> None:
        """Go right, until `set`. Raises RuntimeError where there is no libfaketime."""
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
        if library is None:
            raise RuntimeError("there is no libfaketime here: apt-get install libfaketime")
        self._file = folder / "clock"
        self._file.write_text("+0\n")
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, at: datetime) -> None:
        """Let it be that time now, and go on from there; `at` is aware."""
        ahead = (at - SystemClock().now()).total_seconds()
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead:+.3f}\n")
        new.replace(self._file)
