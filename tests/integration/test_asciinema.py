"""What is exported for asciinema, the real asciinema takes and plays, byte for byte."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from runtime.audit.asciicast import asciicast
from runtime.audit.reading import entries
from tests.servers.recorded import Recorded

ASCIINEMA = Path(sys.executable).parent / "asciinema"
BAD = "\ufffd\ufffd latin \ufffd €"
HUGE = "".join(f"{number:>9}" for number in range(200_000)).encode()


def cast(folder: Path, recorded: Recorded) -> Path:
    """Write an asciicast, and return its path."""
    path = folder / "session.cast"
    path.write_text("".join(f"{line}\n" for line in asciicast(entries(recorded))))
    return path


def asciinema(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run asciinema with a home of its own."""
    return subprocess.run(
        [ASCIINEMA, *arguments],
        env={**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("steps", "shown"),
    [
        ([(5, b"\x1b[1mhello\x1b[0m\r\n"), (900, b"bye\r\n")], b"\x1b[1mhello\x1b[0m\r\nbye\r\n"),
        ([(5, b"a"), (6, "120:40"), (7, b"b"), (8, "0:0"), (9, "4294967295:1"), (10, b"c")], b"abc"),
        ([(5, b"\xff\xfe latin \xe9 "), (6, "€".encode()[:1]), (7, "€".encode()[1:])], BAD.encode()),
        ([(5, HUGE)], HUGE),
        ([], b""),
        ([(5, b"</script>\x00\x07\x1b[31")], b"</script>\x00\x07"),
    ],
    ids=["plain", "resized", "not UTF-8", "a huge line", "empty", "odd"],
)  # fmt: skip
def test_it_is_played(steps: Iterable[tuple[int, bytes | str]], shown: bytes, tmp_path: Path) -> None:
    """`asciinema cat` and `asciinema play` print what the session printed, and complain of nothing."""
    for over in (True, False):  # a session that still runs, too
        path = cast(tmp_path, Recorded(steps, over=over))
        for command in (["cat"], ["play", "--speed=1000"]):
            done = asciinema(tmp_path, *command, path)
            assert (done.returncode, done.stderr) == (0, b"")
            assert done.stdout == shown


def test_a_recording_of_which_nothing_is_left(tmp_path: Path) -> None:
    """It is an asciicast all the same, of nothing."""
    recorded = Recorded([])
    recorded.log = b"\xff nonsense\n"
    done = asciinema(tmp_path, "cat", cast(tmp_path, recorded))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_on_a_terminal(tmp_path: Path) -> None:
    """Played on a real terminal, lines of a command that had none begin on the left, and nothing is asked or set."""
    recorded = Recorded([(1, b"one\ntwo\r\n"), (2, b"\x1b[6n\x1b]52;c;aGk=\x07\x1b]0;title\x07three\n")], size=None)
    path = cast(tmp_path, recorded)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [ASCIINEMA, "play", "--speed=1000", path],
        env={**os.environ, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as playing:
        os.close(theirs)
        seen = b""
        try:
            while data := os.read(ours, 4096):
                seen += data
        except OSError:  # how Linux says that nobody has the other end open
            pass
        os.close(ours)
        assert playing.wait(60) == 0
    assert seen.replace(b"\r\r", b"\r") == b"one\r\ntwo\r\nthree\r\n"


def test_what_is_no_asciicast_is_refused(tmp_path: Path) -> None:
    """The player would say so: that it takes ours says something."""
    path = tmp_path / "session.cast"
    path.write_text("one\n")
    assert asciinema(tmp_path, "cat", path).returncode != 0
