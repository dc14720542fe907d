"""`tctl audit verify`: what it prints, and how it ends."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime.audit.events import EventType
from runtime.audit.log import EventLog
from runtime.audit.verify import verify
from runtime.cli.tctl import tctl
from runtime.core.clock import ManualClock
from runtime.core.errors import CorruptState, NotFound


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return a data_dir with three events in its log, and teleport.yaml beside it."""
    log = EventLog(tmp_path / "data" / "log", ManualClock(datetime(2017, 2, 3, tzinfo=UTC)))
    for name in ("joe", "ann", "bob"):
        log.emit(EventType.AUTH, user=name)
    log.close()
    (tmp_path / "teleport.yaml").write_text(f"teleport: {{data_dir: {tmp_path}/data}}\n")
    return tmp_path / "data"


def test_a_log_that_is_whole(data_dir: Path) -> None:
    """It says how much there is, and the head to note elsewhere; the folder is that of teleport.yaml."""
    config = str(data_dir.parent / "teleport.yaml")
    done = CliRunner().invoke(tctl, ["-c", config, "audit", "verify", "--from-start"])
    assert done.exit_code == 0
    assert done.stdout == f"3 events in 1 file, head {verify(data_dir / 'log').head}\n"


def test_a_log_that_was_touched(data_dir: Path) -> None:
    """It names file and line, in JSON as well, and fails."""
    (file,) = (data_dir / "log").iterdir()
    file.write_text(file.read_text().replace("ann", "eve"))
    for arguments in ([], ["--format", "json"]):
        done = CliRunner().invoke(tctl, ["audit", "verify", str(data_dir / "log"), *arguments])
        assert isinstance(done.exception, CorruptState)
        assert f"{file}:3: the chain is broken here" in done.stderr
    (problem,) = json.loads(done.stdout)["problems"]
    assert (problem["file"], problem["line"]) == (str(file), 3)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It says so, and what to do."""
    done = CliRunner().invoke(tctl, ["audit", "verify", str(tmp_path / "none")])
    assert isinstance(done.exception, NotFound)
