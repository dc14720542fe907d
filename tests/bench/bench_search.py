"""Text search over recordings, as auth does it: how much goes by, and what auth itself has to do for it.

`python -m tests.bench search [MEGABYTES]`: of each kind of output as much, 100 if not given, in several recordings of
64 MB at most on this disk. What is sought is not there. The last column is the processor time of auth's own process,
which goes on serving meanwhile; the rest is that of the process that searches, which gives way to others.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

from runtime.api.recording_messages import (
    MAX_RECORDING_BYTES,
    RecordingEnd,
    RecordingPart,
    RecordingPiece,
    RecordingSession,
)
from runtime.api.search_messages import RecordingSearch
from runtime.auth.recordings import Recordings
from runtime.auth.text_search import TextSearch
from runtime.backend.memory import MemoryBackend
from runtime.core.clock import ManualClock
from tests.servers.recorded import Recorded

MEGA = 1_000_000
NOW = datetime(2026, 11, 22, tzinfo=UTC)
KINDS = {
    "plain log": b"Nov 22 10:00:00 host kernel: something happened with number 12345\r\n",
    "coloured": b"\x1b[32mNov 22\x1b[0m 10:00:00 \x1b[1mhost\x1b[0m kernel: \x1b[31merror\x1b[0m number 12345\r\n",
    "shell": b"\x1b[?2004h\x1b[01;32mjoe@db1\x1b[00m:~$ ls -lx\x08 /tmp\r\n\x1b[?2004l\r" + b"total 12 words\r\n" * 12,
    "progress bars": b"".join(b"downloading [%-20s] %3d%%\r" % (b"#" * (n // 5), n) for n in range(100)) + b"\r\n",
    "editor": b"".join(b"\x1b[%d;1H\x1b[K\x1b[3%dmdef\x1b[m name_%d(self):" % (n, n % 8, n) for n in range(1, 40)),
}  # fmt: skip
HOW = {"text": {}, "text, any case": {"ignore_case": True}, "expression": {"regex": True}}


def run(arguments: list[str]) -> None:
    """Print a table; the argument is how many megabytes of each kind are searched."""
    asyncio.run(_run(int(arguments[0]) if arguments else 100))


async def _run(megabytes: int) -> None:
    print(f"Text search, {megabytes} MB each")
    print(f"{'output':>14}{'sought':>16}{'MB a second':>13}{'auth, % of a core':>19}")
    for name, unit in KINDS.items():
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            recordings = Recordings(Path(folder), MemoryBackend(clock=ManualClock(NOW)), auth=lambda: "here")
            left = megabytes
            while left > 0:
                await _record(recordings, unit, min(left, 64) * MEGA)
                left -= 64
            for how, options in HOW.items():
                wanted = RecordingSearch.model_validate({"text": "needle", **options})
                used, began = time.process_time(), time.perf_counter()
                async with aclosing(TextSearch(recordings).search(wanted, await recordings.all())) as findings:
                    *_, last = [finding async for finding in findings]
                took = time.perf_counter() - began
                share = (time.process_time() - used) / took * 100
                print(f"{name:>14}{how:>16}{last.bytes / MEGA / took:>13.1f}{share:>19.1f}")


async def _record(recordings: Recordings, unit: bytes, size: int) -> None:
    """Bring a recording to auth, in entries of 64 KiB as a node makes them."""
    piece = unit * (64 * 1024 // len(unit))
    recorded = Recorded((number * 50, piece) for number in range(size // len(piece)))
    session = RecordingSession(sid=uuid.uuid4(), user="joe", login="root", started=NOW)
    parts: tuple[tuple[RecordingPart, bytes], ...] = (("bytes", recorded.printed), ("log", recorded.log))
    for part, data in parts:
        for offset in range(0, len(data), MAX_RECORDING_BYTES):
            more = data[offset : offset + MAX_RECORDING_BYTES]
            await recordings.append("node", RecordingPiece(session=session, part=part, offset=offset, data=more))
    await recordings.end("node", RecordingEnd(session=session, sizes={part: len(data) for part, data in parts}))
