"""`scp -t` against a hostile peer, written by hand: names, modes and sizes that a proper scp does not send."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.node.transfer import FileTransfer
from tests.servers.transfers import PROGRAM, peer, until

OK = b"\0"


def inside(folder: Path) -> set[str]:
    """Return everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "name",
    [
        *(b"..", b".", b"a/b", b"/etc/x", b"../x", b"a\\b", b"..\\x", b"a\0b", b"a\x1b[2Jb", b"a\rb", b"\x7f", b"a\tb"),
        b"",
    ],
)
@pytest.mark.parametrize("kind", [b"C0644 1 ", b"D0755 0 "])
def test_a_name_that_is_not_one_name_in_the_folder_is_refused(tmp_path: Path, kind: bytes, name: bytes) -> None:
    """Nothing is written, the transfer ends, and the person hears of it."""
    (tmp_path / "in").mkdir()
    with peer("scp -r -t in", tmp_path) as other:
        assert other.answer() == OK
        other.send(kind + name + b"\n")
        told = other.answer()
        assert told.startswith(b"\x01scp: "), told
        assert b"\x1b" not in told
        assert other.finish().code == 1
    assert inside(tmp_path) == {"in"}


@pytest.mark.parametrize("name", [b"..a", b"a..", b"-x", b"a b", "ä".encode(), b"\xff\xfe", b"...", b"$(x)", b"*"])
def test_an_odd_name_is_a_name(tmp_path: Path, name: bytes) -> None:
    """The control: names that only look dangerous are taken as they are."""
    (tmp_path / "in").mkdir()
    with peer("scp -t in", tmp_path) as other:
        assert other.answer() == OK
        other.send(b"C0644 1 " + name + b"\n")
        assert other.answer() == OK
        other.send(b"x\0")
        assert other.answer() == OK
        done = other.finish()
    assert (done.code, done.text) == (0, b"")
    assert [os.fsencode(path.name) for path in (tmp_path / "in").iterdir()] == [name]
    assert done.records == [FileTransfer("scp", "upload", f"{tmp_path}/in/{os.fsdecode(name)}", True, size=1)]


@pytest.mark.parametrize("options", ["", "-p "])
@pytest.mark.parametrize("mode", [b"4755", b"2755", b"1755", b"6777", b"104755"])
def test_no_mode_beyond_0777_is_set(tmp_path: Path, options: str, mode: bytes) -> None:
    """No set-user-ID, set-group-ID or sticky bit, of files or folders, new or there, with -p or without."""
    (tmp_path / "there").write_text("")
    with peer(f"scp -r {options}-t .", tmp_path) as other:
        assert other.answer() == OK
        for name in (b"new", b"there"):
            other.send(b"C" + mode + b" 1 " + name + b"\n")
            assert other.answer() == OK
            other.send(b"x\0")
            assert other.answer() == OK
        other.send(b"D" + mode + b" 0 folder\n")
        assert other.answer() == OK
        other.send(b"E\n")
        assert other.answer() == OK
        assert other.finish().code == 0
    for made in ("new", "there", "folder"):
        assert stat.S_IMODE((tmp_path / made).stat().st_mode) & ~0o777 == 0
    assert (tmp_path / "new").stat().st_mode & 0o700 == 0o700


@pytest.mark.parametrize(
    ("options", "umask", "file", "folder"), [("", 0o027, 0o750, 0o750), ("-p ", 0o027, 0o756, 0o777)]
)
def test_modes_are_less_the_umask_unless_preserved(
    tmp_path: Path, options: str, umask: int, file: int, folder: int
) -> None:
    """As with OpenSSH's: the umask counts, and with -p it does not."""
    with peer(f"scp -r {options}-t .", tmp_path, umask=umask) as other:
        assert other.answer() == OK
        other.send(b"D0777 0 folder\n")
        assert other.answer() == OK
        other.send(b"C0756 0 file\n")
        assert other.answer() == OK
        other.send(b"\0")
        assert other.answer() == OK
        other.send(b"E\n")
        assert other.answer() == OK
        assert other.finish().code == 0
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == folder
    assert stat.S_IMODE((tmp_path / "folder/file").stat().st_mode) == file


def test_a_file_that_was_there_keeps_its_mode_unless_preserved(tmp_path: Path) -> None:
    """An upload over a private file does not open it to others."""
    (tmp_path / "file").write_text("a longer text")
    (tmp_path / "file").chmod(0o600)
    with peer("scp -t file", tmp_path) as other:
        other.answer()
        other.send(b"C0666 2 other\n")
        assert other.answer() == OK
        other.send(b"xy\0")
        assert other.answer() == OK
        assert other.finish().code == 0
    assert (tmp_path / "file").read_text() == "xy"
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "line",
    [
        *(
            b"C0644 -1 a",
            b"C0644 99999999999999999999 a",
            b"C0644 9223372036854775808 a",
            b"C9999 1 a",
            b"C0644 1",
            b"C",
        ),
        *(b"C0644 0x10 a", b"C0644 1e9 a", b"C+644 1 a", b"C0644 \xd9\xa1 a", b"X", b"", b"T1 2", b"T-1 0 1 0"),
        *(b"C00000000644 1 a", b"ls -l", b"C0644  1 a"),
    ],
)
def test_a_line_that_is_none_of_scps_ends_the_transfer(tmp_path: Path, line: bytes) -> None:
    """Sizes that are negative, too large or no number; modes that are none; and anything else."""
    with peer("scp -r -t .", tmp_path) as other:
        assert other.answer() == OK
        other.send(line + b"\n")
        assert other.answer().startswith(b"\x01scp: ")
        assert other.finish().code == 1
    assert inside(tmp_path) == set()


def test_a_line_without_end_is_not_kept(tmp_path: Path) -> None:
    """A line is as long as a path can make it; then it is over."""
    with peer("scp -t .", tmp_path) as other:
        assert other.answer() == OK
        with pytest.raises(BrokenPipeError):
            other.send(b"C0644 1 " + b"a" * 3_000_000)
        assert other.finish().code == 1


def test_a_folder_needs_minus_r(tmp_path: Path) -> None:
    """A peer cannot make folders for who asked for a file."""
    with peer("scp -t .", tmp_path) as other:
        assert other.answer() == OK
        other.send(b"D0755 0 a\n")
        assert other.answer() == b"\x01scp: received a directory without -r\n"
        assert other.finish().code == 1
    assert inside(tmp_path) == set()


def test_an_end_too_many_leads_nowhere(tmp_path: Path) -> None:
    """E does not climb out of the target: it ends the transfer."""
    (tmp_path / "in").mkdir()
    with peer("scp -r -t in", tmp_path) as other:
        assert other.answer() == OK
        other.send(b"E\nC0644 1 a\nx\0")
        assert other.answer() == OK
        other.finish()
    assert inside(tmp_path) == {"in"}


def test_folders_within_folders_to_the_end_of_paths(tmp_path: Path) -> None:
    """A peer that nests without end is told so by the system, and no recursion of ours breaks."""
    with peer("scp -r -t .", tmp_path) as other:
        assert other.answer() == OK
        depth = 0
        while True:
            other.send(b"D0755 0 " + b"d" * 100 + b"\n")
            if (told := other.answer()) != OK:
                break
            depth += 1
        assert b"File name too long" in told
        assert 30 < depth < 50
        assert other.finish().code == 1


def test_a_pipe_without_a_reader_does_not_hold_the_transfer(tmp_path: Path) -> None:
    """Opening a named pipe would wait for somebody forever."""
    os.mkfifo(tmp_path / "pipe")
    with peer("scp -t pipe", tmp_path) as other:
        assert other.answer() == OK
        other.send(b"C0644 1 a\n")
        assert b"No such device or address" in other.answer()
        assert other.finish().code == 1


def test_several_files_need_a_folder(tmp_path: Path) -> None:
    """-d: the target has to be a folder, or nothing begins."""
    (tmp_path / "file").write_text("kept")
    for target, why in (("file", b"Not a directory"), ("missing", b"No such file or directory")):
        with peer(f"scp -d -t {target}", tmp_path) as other:
            assert why in other.answer()
            assert other.finish().code == 1
    assert (tmp_path / "file").read_text() == "kept"


def test_a_client_that_goes_away_leaves_what_it_sent(tmp_path: Path) -> None:
    """As OpenSSH's: the part that came stays, the process ends, and the record says that it is not whole."""
    with peer("scp -t file", tmp_path) as other:
        assert other.answer() == OK
        other.send(b"C0644 1000000 file\n")
        assert other.answer() == OK
        other.send(b"x" * 300_000)
        until(tmp_path / "file", 300_000)
        done = other.finish()
    assert done.code == 1
    assert (tmp_path / "file").stat().st_size == 300_000
    assert done.records == [
        FileTransfer(
            *("scp", "upload", f"{tmp_path}/file", False),
            size=300_000,
            error="the transfer ended before the file did",
        )
    ]


def test_a_disk_that_is_full_is_told_and_the_next_file_comes(tmp_path: Path) -> None:
    """A file that does not fit is an error, with its reason; what follows in the same stream is not mistaken."""
    with peer("scp -t .", tmp_path) as other:
        assert other.answer() == OK
        resource.prlimit(other.process.pid, resource.RLIMIT_FSIZE, (100_000, 100_000))
        other.send(b"C0644 300000 large\n")
        assert other.answer() == OK
        other.send(b"x" * 300_000 + b"\0")
        assert other.answer() == b"\x01scp: ./large: File too large\n"
        other.send(b"C0644 1 small\n")
        assert other.answer() == OK
        other.send(b"y\0")
        assert other.answer() == OK
        done = other.finish()
    assert done.code == 1
    assert (tmp_path / "small").read_text() == "y"
    assert [(record.path, record.success, record.error) for record in done.records] == [
        (f"{tmp_path}/large", False, "File too large"),
        (f"{tmp_path}/small", True, ""),
    ]


def test_a_node_that_no_longer_listens_ends_the_transfer(tmp_path: Path) -> None:
    """What is not recorded does not go on."""
    with subprocess.Popen(
        [sys.executable, "-I", str(PROGRAM), "scp -t ."],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"HOME": str(tmp_path)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        process.stdin.write(b"C0644 1 a\nx\0C0644 1 b\ny\0")
        process.stdin.flush()
        assert process.stdout.read() == OK * 3
        assert process.wait(30) == 1
    assert inside(tmp_path) == {"a"}


def test_a_command_of_the_shells_is_no_transfer(tmp_path: Path) -> None:
    """Whoever starts the process with something else gets a refusal, not a shell."""
    for command in ("touch x", "scp -t `touch x`"):
        done = subprocess.run(
            [sys.executable, "-I", str(PROGRAM), command],
            env={"HOME": str(tmp_path)},
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith(b"scp: ")
    assert inside(tmp_path) == set()
