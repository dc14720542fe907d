"""The player: keys and time in, position out; and recordings in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime.audit.replay import Timeline
from runtime.cli.tsh import tsh
from runtime.cli.tsh_play import Playing, _perform, from_files, is_sid
from runtime.core.errors import InvalidInput, NotFound
from tests.unit.audit.test_replay import recording

SID = "4c146ec8-eab6-41e6-b1b3-40167e68e931"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return one of the two files of a recording."""
    log, printed = recording()
    (tmp_path / f"{SID}.session.log").write_bytes(log)
    (tmp_path / f"{SID}.session.bytes").write_bytes(printed)
    return tmp_path / f"{SID}.session.bytes"


@pytest.mark.parametrize(
    ("keys", "at", "speed"),
    [
        ([], 10.0, 1.0),
        ([b"\x1b[C"], 15.0, 1.0),
        ([b"\x1b[D", b"\x1b[D", b"\x1b[D"], 0.0, 1.0),
        ([b"5"], 50.0, 1.0),
        ([b"9", b"\x1b[C", b"\x1b[C", b"\x1b[C"], 100.0, 1.0),
        ([b"+", b"+"], 10.0, 4.0),
        ([b"-"] * 9, 10.0, 1 / 16),
        ([b"x", b"\x1b", b"\x1b[A", b""], 10.0, 1.0),
    ],
)
def test_keys(keys: list[bytes], at: float, speed: float) -> None:
    """They move, within the recording, and change the speed, within its limits; others do nothing."""
    playing = Playing(100.0, at=10.0)
    jumped = [playing.press(key) for key in keys]
    assert (playing.at, playing.speed, playing.over) == (at, speed, False)
    assert any(jumped) == (at != 10.0)


def test_pause_and_quit() -> None:
    """While it pauses no time passes; twice as fast, twice as much."""
    playing = Playing(100.0, speed=2.0)
    playing.pass_time(3)
    playing.press(b" ")
    playing.pass_time(3)
    assert playing.at == 6
    for key in (b"q", b"\x03", b"\x04"):
        again = Playing(1.0)
        again.press(key)
        assert again.over


def test_a_jump_shows_what_was_there() -> None:
    """The terminal is as at the beginning, and all is printed that had been by then."""
    keys = iter([b"9", b"0", b"q"])
    shown: list[bytes] = []
    _perform(Timeline(*recording()), Playing(64.0), lambda _: next(keys), shown.append, lambda: None)
    assert [piece for piece in shown if piece] == [b"\x1bcone two ", b"\x1bc"]


def test_without_a_terminal_all_is_printed_at_once(files: Path) -> None:
    """By either of the two files."""
    for path in (files, files.with_suffix(".log")):
        done = CliRunner().invoke(tsh, ["play", str(path)])
        assert (done.exit_code, done.stdout) == (0, "one two three four")


@pytest.mark.parametrize(
    ("name", "error"), [("x.txt", InvalidInput), ("x.session.bytes", NotFound), (SID[:-1], InvalidInput)]
)
def test_what_is_no_recording(tmp_path: Path, name: str, error: type[Exception]) -> None:
    """It is said, with what a recording is."""
    assert isinstance(CliRunner().invoke(tsh, ["play", str(tmp_path / name)]).exception, error)
    assert not is_sid(name)


def test_both_files_are_needed(files: Path) -> None:
    """One alone cannot be played."""
    files.unlink()
    with pytest.raises(NotFound, match="cannot be read"):
        from_files(files)
