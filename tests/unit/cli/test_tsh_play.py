"""The player: keys and time in, position out; and recordings in files."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime.audit.reading import FileSource
from runtime.audit.replay import Reel
from runtime.cli.tsh import tsh
from runtime.cli.tsh_play import Playing, _perform, is_sid
from runtime.core.errors import InvalidInput, NotFound
from tests.unit.audit.test_replay import recording

SID = "4c146ec8-eab6-41e6-b1b3-40167e68e931"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return one of the two files of a recording."""
    whole = recording()
    (tmp_path / f"{SID}.session.log").write_bytes(whole.log)
    (tmp_path / f"{SID}.session.bytes").write_bytes(whole.printed)
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
    playing = Playing(lambda: 100.0, at=10.0)
    jumped = [playing.press(key) for key in keys]
    assert (playing.at, playing.speed, playing.over) == (at, speed, False)
    assert any(jumped) == (at != 10.0)


def test_pause_and_quit() -> None:
    """While it pauses no time passes; twice as fast, twice as much."""
    playing = Playing(lambda: 100.0, speed=2.0)
    playing.pass_time(3)
    playing.press(b" ")
    playing.pass_time(3)
    assert playing.at == 6
    for key in (b"q", b"\x03", b"\x04"):
        again = Playing(lambda: 1.0)
        again.press(key)
        assert again.over


def test_pauses_are_skipped() -> None:
    """To so many seconds before what comes; the key does it, and undoes it, with what was asked for at first."""
    playing = Playing(lambda: 100.0, at=10.0, speed=2.0)
    assert playing.wait(90.0) == 40
    playing.press(b"s")
    assert (playing.wait(90.0), playing.at) == (1.0, 88.0)
    assert playing.wait(88.5) == 0.25
    playing.press(b"s")
    assert playing.wait(98.0) == 5
    assert Playing(lambda: 100.0, at=10.0, idle=0).wait(90.0) == 0


def test_back_over_a_skipped_pause() -> None:
    """Five seconds back from what was shown before the pause, which would be skipped again."""
    playing = Playing(lambda: 100.0, at=88.0, idle=2.0, shown=20.0)
    assert playing.press(b"\x1b[D")
    assert playing.at == 15.0


class Viewer:
    """Somebody at a terminal, whose keys are known beforehand."""

    def __init__(self, *keys: bytes) -> None:
        self._keys = iter(keys)
        self.shown: list[bytes] = []

    def watch(self, reel: Reel, playing: Playing, *, follow: bool = False) -> list[bytes]:
        """Play a recording, and return what was written."""
        _perform(reel, playing, lambda _: next(self._keys, b""), self.shown.append, lambda: None, follow=follow)
        return [piece for piece in self.shown if piece]


def test_a_jump_shows_what_was_there() -> None:
    """The terminal is as at the beginning, and all is printed that had been by then."""
    reel = Reel(recording())
    shown = Viewer(b"9", b"0", b"q").watch(reel, Playing(lambda: reel.length() / 1000))
    assert b"".join(shown) == b"\x1bcone two \x1bc"


def test_without_pauses() -> None:
    """All comes at once, and that was it."""
    assert Viewer().watch(Reel(recording()), Playing(lambda: 64.0, idle=0)) == [b"one ", b"two ", b"three ", b"four"]


def test_a_session_that_goes_on() -> None:
    """It is played on as it grows, at once, whatever pause was before; until it ends, or the viewer does."""
    whole, growing = recording(), recording(over=False)
    growing.log = b"".join(growing.log.splitlines(keepends=True)[:2])
    reel = Reel(growing)

    def grow(_: float) -> bytes:
        growing.log = whole.log
        return b""

    shown: list[bytes] = []
    playing = Playing(lambda: reel.length() / 1000, at=1.0, idle=0)
    _perform(reel, playing, grow, shown.append, lambda: None, follow=True)
    assert b"".join(shown) == b"one two three four"
    assert Viewer(b"", b"q").watch(Reel(recording(over=False)), Playing(lambda: 1.0, at=70), follow=True)


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
        FileSource(files)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--skip-idle"], ""),
        (["--skip-idle=0"], ""),
        (["--idle", "3"], ""),
        (["--skip-idle=often"], "'often' is not a valid float"),
        (["--skip-idle=-1"], "is not in the range x>=0"),
    ],
)
def test_the_option_for_pauses(files: Path, words: list[str], said: str) -> None:
    """It may stand without a value: the word after it is the recording."""
    done = CliRunner().invoke(tsh, ["play", *words, str(files)])
    assert done.exit_code == (2 if said else 0)
    assert said in done.stderr


def test_a_file_without_an_end(files: Path) -> None:
    """What there is is shown, and it is said that this is not all."""
    log = files.with_suffix(".log")
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    done = CliRunner().invoke(tsh, ["play", str(files)])
    assert (done.exit_code, done.stdout) == (0, "one two three four")
    assert "has no end here" in done.stderr
