"""A real auth server deletes recordings that are older than its settings allow, and says so in the event log."""

from __future__ import annotations

import json
import time
import uuid
from datetime import datetime, timedelta
from pathlib import Path

from runtime.api.recording_messages import RecordingEnd, RecordingPiece, RecordingSession
from runtime.auth.recordings import Recordings
from runtime.backend.open import open_backend
from runtime.backend.options import SqliteOptions
from runtime.core.clock import SystemClock
from tests.servers.teleport import Teleport

SECONDS = 20.0


async def keep(teleport: Teleport, started: datetime) -> str:
    """Leave a recording in a data_dir, as auth would, and return its session's id."""
    backend = await open_backend(SqliteOptions(str(teleport.data_dir / "backend.sqlite")), clock=SystemClock())
    try:
        kept = Recordings(teleport.data_dir / "log" / "sessions" / "default", backend, auth=lambda: "elsewhere:3025")
        session = RecordingSession(sid=uuid.uuid4(), user="joe", login="root", started=started)
        await kept.append("node1", RecordingPiece(session=session, part="bytes", offset=0, data=b"hello"))
        await kept.end("node1", RecordingEnd(session=session, sizes={"bytes": 5, "log": 0}))
    finally:
        await backend.close()
    return str(session.sid)


async def test_what_is_old_is_deleted(tmp_path: Path) -> None:
    """At its start already; what is younger stays."""
    config = {"audit": {"recordings_retention": "1h"}}
    with Teleport(tmp_path / "auth", config=config) as auth:
        auth.data_dir.mkdir(mode=0o700)
        now = SystemClock().now()
        old, young = await keep(auth, now - timedelta(hours=2)), await keep(auth, now)
        folder = auth.data_dir / "log" / "sessions" / "default"
        assert {path.name.partition(".")[0] for path in folder.iterdir()} == {old, young}
        auth.start()
        deadline = time.monotonic() + SECONDS
        while not (told := auth.tctl("events", "ls", "--type=recording.deleted", "--format=json").stdout):
            assert time.monotonic() < deadline, auth.log()
        event = json.loads(told)
        assert (event["sid"], event["user"], event["reason"]) == (old, "joe", "age")
        assert {path.name.partition(".")[0] for path in folder.iterdir()} == {young}
        listed = json.loads(auth.tctl("recordings", "ls", "--format=json").stdout)
        assert [entry["session"]["sid"] for entry in listed] == [young]
