"""tctl finds text in recordings and exports them, of real sessions on a real node."""

from __future__ import annotations

import getpass
import json
import os
import pty
import re
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.servers import people
from tests.servers.teleport import SCRIPTS, Teleport

LOGIN = getpass.getuser()
SECONDS = 30.0
COMMANDS = {
    "coloured": r"printf 'the \033[31mpass\033[0mword is '; sleep 0.3; printf 'swordfish\n'",
    "typed": r"printf 'rm -rf /tnp\b\bmp/cache\n'",
    "markup": r"printf '</script><script>window.evil=1</script> <!-- swordfish\n'",
}


@pytest.fixture(scope="module")
def teleport(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Run auth and a node."""
    with Teleport(tmp_path_factory.mktemp("search"), ["auth", "node"]) as running:
        running.start()
        people.declare(running, people.user("joe", [LOGIN]))
        yield running


@pytest.fixture(scope="module")
def sids(teleport: Teleport, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Run the commands, each in a session with a terminal, and return the sessions."""
    joe = people.certify(teleport, "joe", [LOGIN])
    options = joe.ssh_options(tmp_path_factory.mktemp("joe"))
    for command in COMMANDS.values():
        words = ["ssh", *options, "-tt", "-p", str(teleport.node_port), f"{LOGIN}@localhost", command]
        subprocess.run(words, capture_output=True, timeout=60, check=True)
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        entries: list[dict[str, Any]] = json.loads(teleport.tctl("recordings", "ls", "--format=json").stdout)
        if len(over := [entry for entry in entries if entry["over"]]) == len(COMMANDS):
            of = {entry["session"]["command"]: str(entry["session"]["sid"]) for entry in over}
            return {name: of[command] for name, command in COMMANDS.items()}
        time.sleep(0.1)
    raise AssertionError(f"not all was recorded: {entries}")


def test_text_is_found_as_it_was_seen(teleport: Teleport, sids: Mapping[str, str]) -> None:
    """Across colours and chunks, with backspaces carried out; who, when and the line are told."""
    done = teleport.tctl("recordings", "search", "password is swordfish")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert re.fullmatch(rf"{sids['coloured']}  0:00:0\d  joe as {LOGIN}  the password is swordfish", line)
    assert re.search(r"1 match in 1 recording; 3 looked through, [\d.]+ MB", done.stderr)
    (typed,) = teleport.tctl("recordings", "search", "/tmp/cache").stdout.splitlines()
    assert typed.endswith("rm -rf /tmp/cache")
    assert teleport.tctl("recordings", "search", "/tnp").stdout == ""


def test_matches_for_programs(teleport: Teleport, sids: Mapping[str, str]) -> None:
    """An object a line, by expression, whatever the case."""
    done = teleport.tctl("recordings", "search", "--regex", "-i", "SWORD(fish|snake)", "--format=json")
    found = {match["sid"]: match for match in map(json.loads, done.stdout.splitlines())}
    assert sorted(found) == sorted((sids["markup"], sids["coloured"]))
    coloured = found[sids["coloured"]]
    assert coloured["ms"] >= 200
    assert {name: coloured[name] for name in ("user", "login", "command", "line")} == {
        "user": "joe",
        "login": LOGIN,
        "command": COMMANDS["coloured"],
        "line": "the password is swordfish",
    }


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--user=joe"], 2),
        (["--user=ann"], 0),
        (["--node=localhost"], 2),
        (["--node=elsewhere"], 0),
        (["--from=1h"], 2),
        (["--to=1h"], 0),
        (["--from=2001-01-01", "--to=2002-01-01"], 0),
        ([f"--sid={uuid.uuid4()}"], 0),
        (["--limit=1"], 1),
    ],
)
def test_where_to_look(teleport: Teleport, sids: Mapping[str, str], options: list[str], count: int) -> None:
    """By whom, where, when; nothing found is no failure, and a limit that was reached is told."""
    done = teleport.tctl("recordings", "search", "swordfish", *options)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, count)
    assert ("There may be more" in done.stderr) == (options == ["--limit=1"])


def test_in_one_session(teleport: Teleport, sids: Mapping[str, str]) -> None:
    """Named by its id."""
    done = teleport.tctl("recordings", "search", "swordfish", "--sid", sids["coloured"])
    assert done.stdout.startswith(sids["coloured"])
    assert "1 looked through" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["("], 0, "0 matches"),
        (["--regex", "("], 1, "is no regular expression"),
        (["--regex", ".*"], 1, "is found in every line"),
        ([""], 1, "has to have 1 to 1024"),
        (["x" * 1025], 1, "has to have 1 to 1024"),
        ([], 2, "Missing argument"),
        (["x", "--limit=0"], 2, "0 is not in the range"),
        (["x", "--sid=../x"], 2, "is not a valid UUID"),
        (["x", "--from=yesterday"], 2, "is no time"),
    ],
)
def test_what_cannot_be_searched_for(teleport: Teleport, arguments: list[str], code: int, message: str) -> None:
    """It is said, with what to do."""
    done = teleport.tctl("recordings", "search", *arguments)
    assert done.returncode == code
    assert message in done.stderr


def test_a_recording_that_is_gone_is_named_and_the_rest_searched(
    teleport: Teleport, sids: Mapping[str, str], tmp_path: Path
) -> None:
    """What is found is printed; the exit code says that it may not be all."""
    kept = teleport.data_dir / "log" / "sessions" / "default"
    files = list(kept.glob(f"{sids['markup']}.session.*"))
    assert len(files) >= 2
    for file in files:
        file.rename(tmp_path / file.name)
    try:
        done = teleport.tctl("recordings", "search", "swordfish")
    finally:
        for file in files:
            (tmp_path / file.name).rename(file)
    assert done.stdout.startswith(sids["coloured"])
    assert f"recording {sids['markup']}: not searched: " in done.stderr
    assert "1 recording was not searched" in done.stderr
    assert done.returncode == 1


def test_a_page_is_exported(teleport: Teleport, sids: Mapping[str, str], tmp_path: Path) -> None:
    """One file for its owner's eyes, with who and where, and nothing that was printed in the clear."""
    target = tmp_path / "session.html"
    done = teleport.tctl("recordings", "export", sids["markup"], "--format=html", "-o", str(target))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "written to" in done.stderr
    text = target.read_text()
    assert re.search(rf"<title>joe as {LOGIN} on 127\.0\.0\.1:\d+, \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC</title>", text)
    assert text.count("window.evil") == 1  # in the command, as text
    assert "&lt;/script&gt;&lt;script&gt;window.evil=1" in text
    assert target.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("shape", ["asciicast", "html", "text", "bytes", "log"])
def test_stdout_and_a_file_are_the_same(
    teleport: Teleport, sids: Mapping[str, str], shape: str, tmp_path: Path
) -> None:
    """`-` and no option are stdout; a file that was there is replaced as a whole, also through a link."""
    target, link = tmp_path / "there", tmp_path / "link"
    target.write_text("before")
    link.symlink_to(target)
    command = ("recordings", "export", sids["typed"], f"--format={shape}")
    shown = teleport.tctl(*command)
    assert teleport.tctl(*command, "-o", "-").stdout == shown.stdout
    assert teleport.tctl(*command, "-o", str(link)).returncode == 0
    assert target.read_bytes() == shown.stdout.encode() or shape == "bytes"
    assert link.is_symlink()
    assert shown.stdout


def test_nothing_half_is_left_behind(teleport: Teleport, sids: Mapping[str, str], tmp_path: Path) -> None:
    """A file that cannot be written, a recording that is not there: what was there stays as it was."""
    target = tmp_path / "there"
    target.write_text("before")
    for sid, path in (
        (str(uuid.uuid4()), target),
        (sids["typed"], tmp_path / "none" / "x"),
        (sids["typed"], Path("/dev/full")),
    ):
        done = teleport.tctl("recordings", "export", sid, "-o", str(path))
        assert done.returncode == 1
        assert "error: " in done.stderr
        assert "hint: " in done.stderr
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]
    assert teleport.tctl("recordings", "export", sids["typed"], "-o", "/dev/null").returncode == 0
    assert Path("/dev/null").is_char_device()


def test_a_terminal_is_not_shown_what_it_would_obey(teleport: Teleport, sids: Mapping[str, str]) -> None:
    """The bytes of a session are for files; its log, its text and asciicasts have no control sequences."""
    for shape in ("bytes", "log", "text", "asciicast"):
        ours, theirs = pty.openpty()
        words: list[str | Path] = [
            SCRIPTS / "tctl",
            "-c",
            teleport.config_file,
            "recordings",
            "export",
            sids["coloured"],
            f"--format={shape}",
        ]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE) as running:
            os.close(theirs)
            seen = b""
            try:
                while data := os.read(ours, 65536):
                    seen += data
            except OSError:  # how Linux says that nobody has the other end open
                pass
            os.close(ours)
            assert running.stderr is not None
            error = running.stderr.read()
            assert b"\x1b" not in seen
            assert (running.wait(60), bool(seen)) == ((1, False) if shape == "bytes" else (0, True))
            assert (b"tsh play" in error) == (shape == "bytes")
