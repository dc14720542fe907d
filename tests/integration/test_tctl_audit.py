"""`tctl audit verify` on a real auth server: the log beside what that server put into the storage."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.core.callers import CallerKind
from runtime.service.identity import DataDir
from tests.servers.people import declare, user
from tests.servers.sshclient import wait_until
from tests.servers.teleport import Teleport

COMPARED = r"(\d+) events in 1 file, head [0-9a-f]{64}, compared with (\d+) segments? in the storage\n"


@pytest.fixture
def auth(tmp_path: Path) -> Iterator[Teleport]:
    """Start an auth server whose log is in the storage."""
    with Teleport(tmp_path / "auth").start() as teleport:
        declare(teleport, user("joe", ["joe"]))
        wait_until(lambda: "resource.written" in teleport.tctl("events", "ls").stdout)
        yield teleport


def log_of(auth: Teleport) -> Path:
    """Return the one file of the log."""
    (file,) = (auth.data_dir / "log").glob("*.log")
    return file


def test_a_log_that_is_whole(auth: Teleport) -> None:
    """It says with how much of the storage it was compared, in JSON as well."""
    done = auth.tctl("audit", "verify", "--from-start")
    found = re.fullmatch(COMPARED, done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert found is not None
    assert int(found[1]) == len(log_of(auth).read_text().splitlines())
    assert int(found[2]) > 0
    report = json.loads(auth.tctl("audit", "verify", "--format=json").stdout)
    assert report["compared"] == int(found[2])
    assert report["problems"] == []


def test_the_last_lines_were_cut_off(auth: Teleport, tmp_path: Path) -> None:
    """The files alone do not tell; the storage does, also for a copy of the log, if it is said whose it is."""
    lines = log_of(auth).read_bytes().splitlines(keepends=True)
    log_of(auth).write_bytes(b"".join(lines[:-1]))
    alone = auth.tctl("audit", "verify", "--offline")
    assert alone.returncode == 0
    assert "not compared with the cluster's storage (--offline): lines cut off at the end are not found" in alone.stderr
    done = auth.tctl("audit", "verify")
    assert done.returncode == 1
    assert re.search(r"storage has \d+ events? of this server from .* lines were cut off", done.stderr)
    shutil.copytree(auth.data_dir / "log", tmp_path / "copy")
    unknown = auth.tctl("audit", "verify", str(tmp_path / "copy"))
    assert unknown.returncode == 0
    assert "whose log it is is not known" in unknown.stderr
    server = str(DataDir(auth.data_dir).identity(CallerKind.AUTH).id)
    assert auth.tctl("audit", "verify", str(tmp_path / "copy"), f"--server={server}").returncode == 1


def test_without_auth(auth: Teleport) -> None:
    """What the files say is said, and that nothing was compared."""
    auth.stop()
    done = auth.tctl("audit", "verify", "--format=json")
    assert done.returncode == 0
    assert "not compared with the cluster's storage" in done.stderr
    report = json.loads(done.stdout)
    assert report["compared"] is None
    log_of(auth).write_text(log_of(auth).read_text().replace("cert.issued", "cert.issues", 1))
    assert auth.tctl("audit", "verify").returncode == 1
