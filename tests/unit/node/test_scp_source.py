"""`scp -f` line by line, and what it does when the file or the other side fails in the middle."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.node.transfer import FileTransfer
from tests.servers.transfers import Peer, peer

OK = b"\0"


def asked(other: Peer, line: bytes) -> None:
    """Expect a line after an answer that says yes."""
    other.send(OK)
    assert other.line() == line


def test_a_folder_line_by_line(tmp_path: Path) -> None:
    """Folders, files in the order of their names, times, and modes within 0777."""
    top = tmp_path / "top"
    (top / "b").mkdir(parents=True)
    (top / "a").write_text("xy")
    (top / "a").chmod(0o4755)
    (top / "b").chmod(0o2750)
    top.chmod(0o755)
    for path in (top / "a", top / "b", top):
        os.utime(path, (5, 7))
    times = b"T7 0 5 0\n"
    with peer("scp -r -p -f top/", tmp_path) as other:
        for line in (times, b"D0755 0 top\n", times, b"C0755 2 a\n"):
            asked(other, line)
        other.send(OK)
        assert other.receive(3) == b"xy\0"
        for line in (times, b"D0750 0 b\n", b"E\n", b"E\n"):
            asked(other, line)
        other.send(OK)
        assert other.receive(1) == b""
        done = other.finish()
    assert (done.code, done.text) == (0, b"")
    assert done.records == [FileTransfer("scp", "download", f"{top}/a", success=True, size=2)]


def test_a_file_that_becomes_shorter_while_it_is_sent(tmp_path: Path) -> None:
    """As many bytes come as were announced, so that the next line is found; and then the error."""
    size = 8_000_000
    (tmp_path / "a").write_bytes(b"x" * size)
    (tmp_path / "b").write_text("y")
    with peer("scp -f a b", tmp_path) as other:
        asked(other, b"C0644 8000000 a\n")
        other.send(OK)
        assert other.receive(1) == b"x"
        (tmp_path / "a").write_bytes(b"x" * 10)
        rest = other.receive(size - 1)
        assert len(rest) == size - 1
        assert rest.endswith(b"\0" * 1000)
        assert other.answer() == b"\x01scp: a: the file became shorter while it was sent\n"
        asked(other, b"C0644 1 b\n")
        other.send(OK)
        assert other.receive(2) == b"y\0"
        other.send(OK)
        done = other.finish()
    assert done.code == 1
    assert [(record.path, record.success) for record in done.records] == [
        (f"{tmp_path}/a", False),
        (f"{tmp_path}/b", True),
    ]
    assert done.records[0].size < size


def test_a_name_with_a_line_break(tmp_path: Path) -> None:
    """It cannot be sent, and is told; it does not become a line of the protocol."""
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "a\nC0644 1 b").write_text("x")
    with peer("scp -r -f top", tmp_path) as other:
        asked(other, b"D0755 0 top\n")
        other.send(OK)
        told = other.answer()
        assert told.startswith(b"\x01scp: top/a?C0644 1 b: a name with a line break cannot be sent")
        assert other.line() == b"E\n"
        other.send(OK)
        assert other.finish().code == 1


def test_what_the_other_side_cannot_keep(tmp_path: Path) -> None:
    """Its error is not the end: the next file is sent; the record and the exit code say what happened."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("x")
    with peer("scp -f a b", tmp_path) as other:
        asked(other, b"C0644 1 a\n")
        other.send(b"\x01scp: a: disk full\n")
        assert other.line() == b"C0644 1 b\n"
        other.send(OK)
        assert other.receive(2) == b"x\0"
        other.send(b"\x01scp: b: disk full\n")
        done = other.finish()
    assert done.code == 1
    assert [(record.path, record.success, record.error) for record in done.records] == [
        (f"{tmp_path}/b", False, "the other side could not keep it")
    ]


def test_a_client_that_goes_away(tmp_path: Path) -> None:
    """The process ends, and the record says that the file did not arrive."""
    (tmp_path / "a").write_bytes(b"x" * 8_000_000)
    with peer("scp -f a", tmp_path) as other:
        asked(other, b"C0644 8000000 a\n")
        other.send(OK)
        assert other.receive(1) == b"x"
        assert other.process.stdout is not None
        other.process.stdout.close()
        other.process.stdout = None
        done = other.finish()
    assert done.code == 1
    assert [(record.success, record.size < 8_000_000) for record in done.records] == [(False, True)]


def test_the_end_that_the_other_side_asks_for(tmp_path: Path) -> None:
    """An answer of 2 is the end of all."""
    (tmp_path / "a").write_text("x")
    with peer("scp -f a a a", tmp_path) as other:
        other.send(OK)
        assert other.line() == b"C0644 1 a\n"
        other.send(b"\x02enough\n")
        assert other.receive(1) == b""
        assert other.finish().code == 1


def test_a_folder_that_leads_to_itself(tmp_path: Path) -> None:
    """Links are followed, as scp does; the system's limit of links ends it, not ours of recursion."""
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "again").symlink_to(".")
    with peer("scp -r -f top", tmp_path) as other:
        depth = 0
        other.send(OK)
        while (line := other.line()).startswith(b"D"):
            depth += 1
            other.send(OK)
        assert b"Too many levels of symbolic links" in line
        assert 30 < depth < 50
