"""`tctl recordings verify`: recordings that were touched on auth's disk are named, though both files be consistent."""

from __future__ import annotations

import getpass
import hashlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.audit.chain import PREV, START, link
from tests.servers.people import certify, declare, user
from tests.servers.sshclient import Client, wait_until
from tests.servers.teleport import Teleport

LOGIN = getpass.getuser()


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[tuple[Teleport, dict[str, str]]]:
    """Run auth and a node, on which two commands were recorded; yield their sessions' ids by what they print."""
    with Teleport(tmp_path / "main", ["auth", "node"]).start() as teleport:
        declare(teleport, user("joe", [LOGIN]))
        joe = Client(teleport, certify(teleport, "joe", [LOGIN]), tmp_path, LOGIN)
        for word in ("good", "evil"):
            assert joe.run(f"echo {word}").returncode == 0

        def filed() -> dict[str, str]:
            entries: list[dict[str, Any]] = json.loads(teleport.tctl("recordings", "ls", "--format=json").stdout)
            return {each["session"]["command"].split()[1]: each["session"]["sid"] for each in entries if each["head"]}

        wait_until(lambda: len(filed()) == 2, "they are not filed")
        yield teleport, filed()


def files(teleport: Teleport, sid: str) -> tuple[Path, Path]:
    """Return log and bytes of a recording on auth's disk."""
    folder = teleport.data_dir / "log" / "sessions" / "default"
    return folder / f"{sid}.session.log", folder / f"{sid}.session.bytes"


def forge(log: Path, printed: Path, old: bytes, new: bytes) -> None:
    """Let a recording have printed something else of the same length, with all hashes and links made anew."""
    printed.write_bytes(printed.read_bytes().replace(old, new))
    before, lines = START, []
    for line in map(json.loads, log.read_text().splitlines()):
        if line["event"] == "print":
            shown = printed.read_bytes()[line["offset"] : line["offset"] + line["bytes"]]
            line["sha256"] = hashlib.sha256(shown).hexdigest()
        lines.append(json.dumps({**line, PREV: before}, separators=(",", ":")).encode())
        before = link(lines[-1])
    log.write_bytes(b"".join(line + b"\n" for line in lines))


def test_recordings_that_were_touched(recorded: tuple[Teleport, dict[str, str]]) -> None:
    """Whole at first; then one whose output was changed, one that was forged, and one whose files are gone."""
    teleport, sids = recorded
    done = teleport.tctl("recordings", "verify")
    assert (done.returncode, done.stdout, done.stderr) == (0, "2 checked, 0 not as written\n", "")
    log, printed = files(teleport, sids["evil"])

    kept = log.read_bytes(), printed.read_bytes()
    printed.write_bytes(kept[1].replace(b"evil", b"nice"))
    done = teleport.tctl("recordings", "verify")
    assert done.returncode == 1
    assert f"{sids['evil']}: what line" in done.stderr
    assert sids["good"] not in done.stderr

    printed.write_bytes(kept[1])
    forge(log, printed, b"evil", b"nice")
    done = teleport.tctl("recordings", "verify", sids["evil"], "--format=json")
    assert done.returncode == 1
    (verdict,) = json.loads(done.stdout)
    assert verdict["sid"] == sids["evil"]
    assert verdict["problems"] == [
        "both files were written anew: the log's head is not the one that the cluster's storage has of it"
    ]
    assert teleport.tctl("recordings", "verify", sids["good"]).returncode == 0

    for path in (log, printed):
        path.unlink()
    done = teleport.tctl("recordings", "verify", "--user=joe")
    assert done.returncode == 1
    assert f"{sids['evil']}: the files of recording {sids['evil']} are gone" in done.stderr


def test_a_recording_that_is_not_there(recorded: tuple[Teleport, dict[str, str]]) -> None:
    """It is said, with what to do; of nobody's there are none."""
    teleport, _ = recorded
    nowhere = str(uuid.uuid4())
    done = teleport.tctl("recordings", "verify", nowhere)
    assert done.returncode == 1
    assert f"there is no recording of session {nowhere}" in done.stderr
    assert teleport.tctl("recordings", "verify", "--user=nobody").stdout == "0 checked, 0 not as written\n"
    assert teleport.tctl("recordings", "verify", "../x").returncode == 2
