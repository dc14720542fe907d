"""How long it takes to get to any place in a recording of 1 GB, from files, through the proxy and from S3.

`python -m tests.bench recordings [MIB]`. A session of a shell, its output coloured, in entries of a few KiB; the
places are random. Each is asked for by a player that has just been started, as after `tsh play` and one key, and by one
that goes on jumping. To reach: 0.5 s. Verifying and indexing is what auth does once when a recording is over.
"""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from runtime.api.recording_messages import RecordingSession
from runtime.audit.events import EventType
from runtime.audit.reading import FileSource, Source
from runtime.audit.recording import BYTES, LOG, Script, file_name
from runtime.audit.replay import Reel
from runtime.auth.recording_files import RecordingFolder
from runtime.auth.recordings import PREFIX, Record
from runtime.backend.open import open_backend
from runtime.backend.options import SqliteOptions
from runtime.cli.profile import Home
from runtime.cli.recorded import ClusterSource, ReadAhead
from runtime.cli.tsh_lists import Session
from runtime.core.clock import SystemClock
from tests.servers import people
from tests.servers.s3 import CREDENTIALS, S3
from tests.servers.teleport import Teleport

SID = UUID("4c146ec8-eab6-41e6-b1b3-40167e68e931")
JUMPS = 20
LOGIN = getpass.getuser()
MIB = 1024 * 1024


def run(arguments: list[str]) -> None:
    """Print a table; the argument is how many MiB the recording has."""
    size = int(arguments[0]) if arguments else 1024
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with Teleport(folder / "auth", ["auth", "proxy"]) as teleport:
            kept = teleport.data_dir / "log" / "sessions" / "default"
            kept.mkdir(parents=True)
            teleport.data_dir.chmod(0o700)
            seconds = record(kept, size * MIB)
            asyncio.run(_known(teleport, size * MIB))
            begin = time.perf_counter()
            problems = RecordingFolder(kept).verify(SID)
            took = time.perf_counter() - begin
            print(f"A recording of {size} MiB and {seconds / 3600:.1f} hours; log and index:", end=" ")
            sizes = [(kept / f"{SID}.session.{part}").stat().st_size for part in ("log", "index")]
            print(f"{sizes[0] / MIB:.1f} and {sizes[1] / MIB:.1f} MiB; problems: {problems or 'none'}")
            print(f"Verified and indexed in {took:.1f} s, {size / took:.0f} MiB a second")
            teleport.start()
            people.declare(teleport, people.user("joe", [LOGIN]))
            people.certify(teleport, "joe", [LOGIN]).log_in(folder / "home", teleport)
            session = Session.open(Home(folder / "home"), None, None, SystemClock().now())
            path = kept / file_name(str(SID), BYTES)
            bare = folder / "bare"
            bare.mkdir()
            for part in (BYTES, LOG):
                shutil.copyfile(kept / file_name(str(SID), part), bare / file_name(str(SID), part))
            print(f"\n{'from':>34}{'first jump':>22}{'further jumps':>22}")
            print(f"{'':>34}{'p50 ms':>11}{'max ms':>11}{'p50 ms':>11}{'max ms':>11}")

            def cluster() -> Source:
                return ReadAhead(ClusterSource(session, str(SID), insecure=False, now=SystemClock().now))

            sources: dict[str, Callable[[], Source]] = {
                "files and their index": lambda: FileSource(path),
                "files without an index": lambda: FileSource(bare / path.name),
                "the cluster, through the proxy": cluster,
            }
            for what, source in sources.items():
                _jumps(what, source, seconds)
            with S3(folder / "s3") as store:
                teleport.stop()
                teleport.configure({"audit": {"recordings_uri": store.uri()}})
                begin = time.perf_counter()
                teleport.start(env=CREDENTIALS)
                while list(kept.iterdir()):
                    time.sleep(0.1)
                took = time.perf_counter() - begin
                _jumps("S3, through the proxy and auth", cluster, seconds)
                print(f"\nPut into S3, read back and compared in {took:.0f} s, {size / took:.0f} MiB a second")


def record(folder: Path, size: int) -> float:
    """Write a recording of so many bytes, and return how many seconds of a session it shows."""
    rng = random.Random(1)
    lines = b"".join(
        b"\x1b[0m\x1b[01;3%dm%s\x1b[0m %s\r\n"
        % (rng.randrange(8), b"x" * rng.randrange(20), b"word " * rng.randrange(14))
        for _ in range(20_000)
    )
    script, ms, printed = Script(), 0, 0
    with (
        (folder / file_name(str(SID), BYTES)).open("wb") as data,
        (folder / file_name(str(SID), LOG)).open("wb") as log,
    ):
        log.write(script.event(EventType.SESSION_START, 0, {"user": "joe", "login": LOGIN, "size": "80:25"}))
        while printed < size:
            start = rng.randrange(len(lines) - 16384)
            piece = lines[start : start + min(rng.randrange(64, 16384), size - printed)]
            ms += rng.randrange(50, 400)
            data.write(piece)
            log.write(script.printed(len(piece), hashlib.sha256(piece).hexdigest(), ms))
            printed += len(piece)
        log.write(script.event(EventType.SESSION_END, ms, {}))
    return ms / 1000


async def _known(teleport: Teleport, size: int) -> None:
    """Let the cluster know of the recording."""
    session = RecordingSession(sid=SID, user="joe", login=LOGIN, started=datetime(2017, 2, 3, tzinfo=UTC))
    known = Record(session=session, node="node1", auth=teleport.auth_address, over=True, size=size, verified=True)
    backend = await open_backend(SqliteOptions(str(teleport.data_dir / "backend.sqlite")), clock=SystemClock())
    await backend.put(f"{PREFIX}{SID}", known.model_dump_json().encode())
    await backend.close()


def _jumps(what: str, source: Callable[[], Source], seconds: float) -> None:
    rng = random.Random(2)
    took: tuple[list[float], list[float]] = ([], [])
    going_on = Reel(source())
    for _ in range(JUMPS):
        for reel, times in zip((Reel(source()), going_on), took, strict=True):
            ms = rng.randrange(int(seconds * 1000))
            begin = time.perf_counter()
            shown = sum(map(len, reel.seek(ms)))
            times.append((time.perf_counter() - begin) * 1000)
            if not shown:
                raise RuntimeError("nothing was shown")
    print(f"{what:>34}", *(f"{of(times):>10.0f}" for times in took for of in (statistics.median, max)))
