"""The SFTP server against a peer that is written by hand: what OpenSSH's client never sends, and limits."""

from __future__ import annotations

import os
import resource
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.node.copying.wire import PACKET_LIMIT, Kind, OpenFlag, Status, packet, string, uint32
from runtime.node.transfer import FileTransfer
from tests.servers.spawners import limited
from tests.servers.transfers import Peer, peer, until

NO_ATTRIBUTES = uint32(0)
WRITE_NEW = uint32(OpenFlag.WRITE | OpenFlag.CREATE)


def uint64(number: int) -> bytes:
    """Return a number as eight bytes."""
    return number.to_bytes(8, "big")


class Client:
    """A client of one request at a time."""

    def __init__(self, other: Peer) -> None:
        self.other = other
        self._number = 0
        other.send(packet(Kind.INIT, uint32(3)))
        kind, body = self._receive()
        assert (kind, body[:4]) == (Kind.VERSION, uint32(3))
        self.extensions = body[4:]

    def request(self, kind: Kind, *fields: bytes) -> tuple[int, bytes]:
        """Return the type and the rest of the answer to a request."""
        self._number += 1
        self.other.send(packet(kind, uint32(self._number), *fields))
        answer, body = self._receive()
        assert body[:4] == uint32(self._number)
        return answer, body[4:]

    def status(self, kind: Kind, *fields: bytes) -> Status:
        """Return how a request ended that has no other answer."""
        answer, body = self.request(kind, *fields)
        assert answer == Kind.STATUS
        return Status(int.from_bytes(body[:4], "big"))

    def handle(self, kind: Kind, *fields: bytes) -> bytes:
        """Return what a request opened."""
        answer, body = self.request(kind, *fields)
        assert answer == Kind.HANDLE, body
        return body[4:]

    def mode(self, path: bytes) -> int:
        """Return a path's mode."""
        answer, body = self.request(Kind.LSTAT, string(path))
        assert answer == Kind.ATTRS, body
        _, _, _, _, mode = struct.unpack(">IQIII", body[:24])
        return stat.S_IMODE(mode)

    def _receive(self) -> tuple[int, bytes]:
        length = int.from_bytes(self.other.receive(4), "big")
        body = self.other.receive(length)
        assert len(body) == length, "it ended"
        return body[0], body[1:]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """Return a client whose home is tmp_path."""
    with peer("sftp", tmp_path) as other:
        yield Client(other)


# --- modes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1755, 0o7777, 0o104755, 0xFFFFFFFF])
def test_no_mode_beyond_0777_is_set(client: Client, tmp_path: Path, mode: int) -> None:
    """No set-user-ID, set-group-ID or sticky bit by any of the requests that carry a mode."""
    attributes = uint32(4) + uint32(mode)
    handle = client.handle(Kind.OPEN, string(b"opened"), WRITE_NEW, attributes)
    assert client.status(Kind.MKDIR, string(b"made"), attributes) == Status.OK
    for name in ("set", "fset", "lset"):
        (tmp_path / name).write_text("")
    assert client.status(Kind.SETSTAT, string(b"set"), attributes) == Status.OK
    assert client.status(Kind.EXTENDED, string(b"lsetstat@openssh.com"), string(b"lset"), attributes) == Status.OK
    assert client.mode(b"opened") == mode & 0o777 & ~0o022
    assert client.status(Kind.FSETSTAT, string(handle), attributes) == Status.OK
    assert client.mode(b"opened") == client.mode(b"set") == client.mode(b"lset") == mode & 0o777
    assert client.mode(b"made") == mode & 0o777 & ~0o022


def test_a_bit_that_was_there_goes_with_the_first_change(client: Client, tmp_path: Path) -> None:
    """A chmod sets the whole mode, so a set-user-ID bit does not stay by accident."""
    (tmp_path / "file").write_text("")
    (tmp_path / "file").chmod(0o4755)
    assert client.status(Kind.SETSTAT, string(b"file"), uint32(4) + uint32(0o4755)) == Status.OK
    assert client.mode(b"file") == 0o755


def test_a_link_is_not_followed_where_it_must_not_be(client: Client, tmp_path: Path) -> None:
    """lsetstat, remove, lstat and link are of the link; what it leads to stays as it is."""
    (tmp_path / "file").write_text("kept")
    (tmp_path / "file").chmod(0o600)
    (tmp_path / "link").symlink_to("file")
    lsetstat = (string(b"lsetstat@openssh.com"), string(b"link"))
    assert client.status(Kind.EXTENDED, *lsetstat, uint32(4) + uint32(0o777)) == Status.UNSUPPORTED
    assert client.status(Kind.EXTENDED, *lsetstat, uint32(8) + uint32(5) + uint32(7)) == Status.OK
    assert (tmp_path / "link").lstat().st_mtime == 7
    assert (tmp_path / "file").stat().st_mtime > 7
    assert client.status(Kind.EXTENDED, string(b"hardlink@openssh.com"), string(b"link"), string(b"hard")) == Status.OK
    assert (tmp_path / "hard").is_symlink()
    assert client.status(Kind.REMOVE, string(b"link")) == Status.OK
    assert client.mode(b"file") == 0o600


def test_an_owner_is_set_as_the_user_may(client: Client, tmp_path: Path) -> None:
    """Its own ids, and the number that stands for "as it is"; another user's only where the user is root."""
    (tmp_path / "file").write_text("")
    own, keep = uint32(os.getuid()) + uint32(os.getgid()), uint32(2**32 - 1) * 2
    for owner in (own, keep):
        assert client.status(Kind.SETSTAT, string(b"file"), uint32(2) + owner) == Status.OK
        assert (tmp_path / "file").stat().st_uid == os.getuid()
    others = client.status(Kind.SETSTAT, string(b"file"), uint32(2) + uint32(1) + uint32(1))
    assert others == (Status.OK if os.geteuid() == 0 else Status.PERMISSION_DENIED)


# --- offsets and sizes ---------------------------------------------------------------------------------------------


def test_offsets_beyond_4_gib(client: Client, tmp_path: Path) -> None:
    """A write and a read far into a file that has holes."""
    handle = client.handle(Kind.OPEN, string(b"large"), uint32(0x1B), NO_ATTRIBUTES)
    at = 5 * 2**30 + 3
    assert client.status(Kind.WRITE, string(handle), uint64(at), string(b"far")) == Status.OK
    answer, body = client.request(Kind.READ, string(handle), uint64(at - 1), uint32(100))
    assert (answer, body) == (Kind.DATA, string(b"\0far"))
    assert client.status(Kind.CLOSE, string(handle)) == Status.OK
    assert (tmp_path / "large").stat().st_size == at + 3
    assert client.status(Kind.SETSTAT, string(b"large"), uint32(1) + uint64(2**32 + 1)) == Status.OK
    assert (tmp_path / "large").stat().st_size == 2**32 + 1


def test_offsets_beyond_any_file(client: Client) -> None:
    """A number that no file can have is refused as the system does, and the session goes on."""
    handle = client.handle(Kind.OPEN, string(b"file"), uint32(0x1B), NO_ATTRIBUTES)
    for at in (2**63 - 1, 2**63, 2**64 - 1):
        assert client.status(Kind.WRITE, string(handle), uint64(at), string(b"x")) in (
            Status.FAILURE,
            Status.BAD_MESSAGE,
        )
        assert client.status(Kind.READ, string(handle), uint64(at), uint32(9)) in (Status.EOF, Status.BAD_MESSAGE)
        assert client.status(Kind.FSETSTAT, string(handle), uint32(1) + uint64(at)) in (
            *(Status.FAILURE, Status.BAD_MESSAGE),
        )
    assert client.mode(b"file") == 0o644


def test_a_read_is_cut_to_what_fits_a_packet(client: Client, tmp_path: Path) -> None:
    """Asked for four gigabytes, it sends what a packet takes."""
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    handle = client.handle(Kind.OPEN, string(b"file"), uint32(OpenFlag.READ), NO_ATTRIBUTES)
    answer, body = client.request(Kind.READ, string(handle), uint64(0), uint32(2**32 - 1))
    assert answer == Kind.DATA
    assert len(body) - 4 == PACKET_LIMIT - 1024


def test_append_is_at_the_end_whatever_the_offset(client: Client, tmp_path: Path) -> None:
    """As the flag says."""
    (tmp_path / "log").write_text("first ")
    handle = client.handle(Kind.OPEN, string(b"log"), uint32(OpenFlag.WRITE | OpenFlag.APPEND), NO_ATTRIBUTES)
    assert client.status(Kind.WRITE, string(handle), uint64(0), string(b"second")) == Status.OK
    assert (tmp_path / "log").read_text() == "first second"


def test_exclusive_creation(client: Client, tmp_path: Path) -> None:
    """What is there is not opened, nor cut."""
    (tmp_path / "file").write_text("kept")
    flags = uint32(OpenFlag.WRITE | OpenFlag.CREATE | OpenFlag.EXCLUSIVE | OpenFlag.TRUNCATE)
    assert client.status(Kind.OPEN, string(b"file"), flags, NO_ATTRIBUTES) == Status.FAILURE
    assert (tmp_path / "file").read_text() == "kept"


def test_a_pipe_without_a_writer_does_not_hold_the_session(client: Client, tmp_path: Path) -> None:
    """Opening a named pipe would wait for somebody forever."""
    os.mkfifo(tmp_path / "pipe")
    assert client.status(Kind.OPEN, string(b"pipe"), uint32(OpenFlag.WRITE), NO_ATTRIBUTES) == Status.FAILURE
    handle = client.handle(Kind.OPEN, string(b"pipe"), uint32(OpenFlag.READ), NO_ATTRIBUTES)
    assert client.status(Kind.READ, string(handle), uint64(0), uint32(9)) == Status.FAILURE


def test_copy_data(client: Client, tmp_path: Path) -> None:
    """It copies on the node, from an offset, up to the end or so many bytes; never a file onto itself."""
    (tmp_path / "from").write_bytes(b"0123456789" * 60_000)
    source = client.handle(Kind.OPEN, string(b"from"), uint32(OpenFlag.READ), NO_ATTRIBUTES)
    target = client.handle(Kind.OPEN, string(b"to"), WRITE_NEW, NO_ATTRIBUTES)

    def copy(begin: int, count: int, to: int, onto: bytes = target) -> Status:
        return client.status(
            *(Kind.EXTENDED, string(b"copy-data"), string(source), uint64(begin), uint64(count)),
            *(string(onto), uint64(to)),
        )

    assert copy(5, 0, 0) == Status.OK
    assert (tmp_path / "to").read_bytes() == (b"0123456789" * 60_000)[5:]
    assert copy(0, 3, 2) == Status.OK
    assert (tmp_path / "to").read_bytes()[:8] == b"56012012"
    assert copy(0, 0, 0, onto=source) == Status.FAILURE
    again = client.handle(Kind.OPEN, string(b"from"), uint32(OpenFlag.WRITE), NO_ATTRIBUTES)
    assert copy(0, 0, 0, onto=again) == Status.FAILURE
    assert copy(2**64 - 1, 1, 0) in (Status.OK, Status.BAD_MESSAGE)


# --- handles and packets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (Kind.READ, uint64(0) + uint32(1)),
        (Kind.WRITE, uint64(0) + string(b"x")),
        (Kind.CLOSE, b""),
        (Kind.READDIR, b""),
        (Kind.FSTAT, b""),
        (Kind.FSETSTAT, NO_ATTRIBUTES),
    ],
)
@pytest.mark.parametrize("handle", [b"", b"\0", b"x" * 300, b"\0\0\0\0\0\0\0\x09"])
def test_a_handle_that_was_never_given(client: Client, kind: Kind, fields: bytes, handle: bytes) -> None:
    """It is refused, and so is one that was closed, and a folder's where a file's is due."""
    assert client.status(kind, string(handle), fields) == Status.FAILURE
    folder = client.handle(Kind.OPENDIR, string(b"."))
    if kind not in (Kind.CLOSE, Kind.READDIR):
        assert client.status(kind, string(folder), fields) == Status.FAILURE
    assert client.status(Kind.CLOSE, string(folder)) == Status.OK
    assert client.status(kind, string(folder), fields) == Status.FAILURE


def test_so_many_files_and_no_more(tmp_path: Path) -> None:
    """Handles end before the process's descriptors; a closed one makes room."""
    (tmp_path / "file").write_text("")
    with limited(resource.RLIMIT_NOFILE, 200), peer("sftp", tmp_path) as other:
        client = Client(other)
        opening = (Kind.OPEN, string(b"file"), uint32(OpenFlag.READ), NO_ATTRIBUTES)
        handles = []
        while True:
            kind, body = client.request(*opening)
            if kind == Kind.STATUS:
                break
            handles.append(body[4:])
        assert int.from_bytes(body[:4], "big") == Status.FAILURE
        answer, limits = client.request(Kind.EXTENDED, string(b"limits@openssh.com"))
        assert answer == Kind.EXTENDED_REPLY
        assert struct.unpack(">QQQQ", limits)[3] == len(handles)
        assert client.status(Kind.CLOSE, string(handles[0])) == Status.OK
        client.handle(*opening)


@pytest.mark.parametrize(
    "data",
    [
        uint32(0),
        uint32(PACKET_LIMIT + 1),
        uint32(2**32 - 1),
        packet(Kind.READ),
        packet(Kind.READ, uint32(1), uint32(2**32 - 1)),
        packet(Kind.OPEN, uint32(1), string(b"x")),
        packet(Kind.SETSTAT, uint32(1), string(b"x"), uint32(0x80000000), uint32(2**32 - 1)),
        packet(Kind.EXTENDED, uint32(1)),
    ],
)
def test_a_packet_that_is_none_ends_the_session(tmp_path: Path, data: bytes) -> None:
    """Lengths that lie, fields that are missing: it says so, and ends; it does not wait or crash."""
    with peer("sftp", tmp_path) as other:
        Client(other).other.send(data)
        assert other.receive(1) == b""
        done = other.finish()
    assert done.code == 1
    assert done.text.startswith(b"sftp: a packet of ")
    assert b"Traceback" not in done.text


def test_the_first_packet_is_the_version(tmp_path: Path) -> None:
    """Nothing is done before."""
    with peer("sftp", tmp_path) as other:
        other.send(packet(Kind.MKDIR, uint32(1), string(b"x"), NO_ATTRIBUTES))
        assert other.receive(1) == b""
        assert other.finish().code == 1
    assert list(tmp_path.iterdir()) == []


def test_many_requests_at_once(client: Client) -> None:
    """Each of some thousand small requests in one piece has its answer, in their order."""
    numbers = range(100, 5100)
    client.other.send(b"".join(packet(Kind.CLOSE, uint32(number), string(b"")) for number in numbers))
    answer = packet(Kind.STATUS, uint32(0), uint32(Status.FAILURE), string(b"no such handle"), string(b""))
    answers = client.other.receive(len(answer) * len(numbers))
    assert [int.from_bytes(answers[at + 5 : at + 9], "big") for at in range(0, len(answers), len(answer))] == [*numbers]


def test_what_is_not_known_is_unsupported(client: Client) -> None:
    """An unknown request or extension, and a second INIT, do not end the session."""
    for kind, fields in (
        (Kind.INIT, b""),
        (Kind.EXTENDED, string(b"root-shell@example.com")),
        (Kind.EXTENDED_REPLY, b""),
        (Kind.VERSION, b""),
    ):
        assert client.status(kind, fields) == Status.UNSUPPORTED


@given(st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=60)), max_size=30))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_breaks_it(tmp_path: Path, requests: list[tuple[Kind, bytes]]) -> None:
    """Whatever comes, it is answered, or the session ends with a reason: never with a bug's traceback."""
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    home.chmod(0o500)  # noise may name files, and must make none
    with peer("sftp", home) as other:
        Client(other)
        for number, (kind, fields) in enumerate(requests):
            try:
                other.send(packet(kind, uint32(number), fields))
            except BrokenPipeError:
                break
        done = other.finish()
    assert done.code in (0, 1)
    assert b"Traceback" not in done.text
    assert (done.code == 1) == (b"sftp: a packet of" in done.text)


def test_nul_in_a_path(client: Client, tmp_path: Path) -> None:
    """It is refused, and does not name what is before it."""
    (tmp_path / "a").write_text("")
    assert client.status(Kind.REMOVE, string(b"a\0b")) == Status.BAD_MESSAGE
    assert client.status(Kind.MKDIR, string(b"c\0d"), NO_ATTRIBUTES) == Status.BAD_MESSAGE
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_client_that_does_not_read_makes_it_wait(tmp_path: Path) -> None:
    """Answers wait for their reader; they are not heaped up in memory (asyncssh's own server does that)."""
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    with peer("sftp", tmp_path) as other:
        client = Client(other)
        handle = client.handle(Kind.OPEN, string(b"file"), uint32(OpenFlag.READ), NO_ATTRIBUTES)
        assert other.process.stdin is not None
        os.set_blocking(other.process.stdin.fileno(), False)
        request = packet(Kind.READ, uint32(9), string(handle), uint64(0), uint32(200_000))
        sent = 0
        while True:
            try:
                sent += os.write(other.process.stdin.fileno(), request * 200)
            except BlockingIOError:
                if blocked(other.process.pid):
                    break
        assert sent * 200_000 // len(request) > 100_000_000, "not enough to notice"
        status = Path(f"/proc/{other.process.pid}/status").read_text()
        assert int(status.partition("VmHWM:")[2].split()[0]) < 60_000, "KiB"


def blocked(pid: int) -> bool:
    """Tell whether a process waits in write(2) or writev(2)."""
    call = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return call in ("1", "20", "64", "66")  # x86-64 and arm64


# --- names ---------------------------------------------------------------------------------------------------------


def test_rename_is_never_onto_what_is_there(client: Client, tmp_path: Path) -> None:
    """Files and folders; posix-rename replaces."""
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    (tmp_path / "folder").mkdir()
    for old, new in ((b"a", b"b"), (b"folder", b"a"), (b"a", b"folder")):
        assert client.status(Kind.RENAME, string(old), string(new)) == Status.FAILURE
    assert client.status(Kind.RENAME, string(b"a"), string(b"c")) == Status.OK
    assert client.status(Kind.RENAME, string(b"folder"), string(b"other")) == Status.OK
    assert client.status(Kind.RENAME, string(b"none"), string(b"x")) == Status.NO_SUCH_FILE
    posix = string(b"posix-rename@openssh.com")
    assert client.status(Kind.EXTENDED, posix, string(b"c"), string(b"b")) == Status.OK
    assert (tmp_path / "b").read_text() == "a"
    assert {path.name for path in tmp_path.iterdir()} == {"b", "other"}


def name(client: Client, kind: Kind, *fields: bytes) -> bytes:
    """Return the one name that a request is answered with."""
    answer, body = client.request(kind, *fields)
    assert answer == Kind.NAME, body
    length = int.from_bytes(body[4:8], "big")
    return body[8 : 8 + length]


def test_paths_begin_at_home(client: Client, tmp_path: Path) -> None:
    """Relative ones, `~`, the empty one; links are resolved, and the last name may be missing."""
    home = os.fsencode(tmp_path.resolve())
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    assert name(client, Kind.REALPATH, string(b"")) == name(client, Kind.REALPATH, string(b".")) == home
    assert name(client, Kind.REALPATH, string(b"link/../link/new")) == home + b"/folder/new"
    assert client.status(Kind.REALPATH, string(b"none/new")) == Status.NO_SUCH_FILE
    expand = string(b"expand-path@openssh.com")
    assert name(client, Kind.EXTENDED, expand, string(b"~")) == home
    assert name(client, Kind.EXTENDED, expand, string(b"~/folder")) == home + b"/folder"
    assert name(client, Kind.EXTENDED, expand, string(b"~root")) == os.fsencode(Path("~root").expanduser().resolve())
    assert client.status(Kind.EXTENDED, expand, string(b"~no-such-user/x")) == Status.FAILURE
    of_root = name(client, Kind.EXTENDED, string(b"home-directory"), string(b"root"))
    assert of_root == os.fsencode(Path("~root").expanduser())
    assert client.status(Kind.EXTENDED, string(b"home-directory"), string(b"../x")) == Status.FAILURE


# --- records -------------------------------------------------------------------------------------------------------


def test_what_is_recorded(tmp_path: Path) -> None:
    """Each operation that reads or changes something, with absolute paths, sizes and errors, in its order."""
    (tmp_path / "old").write_bytes(b"12345")
    with peer("sftp", tmp_path) as other:
        client = Client(other)
        got = client.handle(Kind.OPEN, string(b"old"), uint32(OpenFlag.READ), NO_ATTRIBUTES)
        client.request(Kind.READ, string(got), uint64(1), uint32(100))
        client.status(Kind.CLOSE, string(got))
        put = client.handle(Kind.OPEN, string(b"new"), WRITE_NEW, NO_ATTRIBUTES)
        client.status(Kind.WRITE, string(put), uint64(0), string(b"abc"))
        client.status(Kind.CLOSE, string(put))
        client.status(Kind.OPEN, string(b"none/x"), WRITE_NEW, NO_ATTRIBUTES)
        client.status(Kind.MKDIR, string(b"folder"), NO_ATTRIBUTES)
        client.status(Kind.RENAME, string(b"new"), string(b"folder/new"))
        client.status(Kind.SYMLINK, string(b"/etc/passwd"), string(b"link"))
        client.status(Kind.SETSTAT, string(b"old"), uint32(4) + uint32(0o600))
        client.status(Kind.REMOVE, string(b"old"))
        client.status(Kind.RMDIR, string(b"folder"))
        client.handle(Kind.OPEN, string(b"left"), WRITE_NEW, NO_ATTRIBUTES)
        done = other.finish()
    assert done.code == 0

    def record(action: str, path: str, error: str = "", *, size: int = 0, target: str = "") -> FileTransfer:
        at = f"{tmp_path}/{path}"
        return FileTransfer("sftp", action, at, not error, size=size, error=error, target=target)

    assert done.records == [
        record("download", "old", size=4),
        record("upload", "new", size=3),
        record("upload", "none/x", "No such file or directory"),
        record("mkdir", "folder"),
        record("rename", "new", target=f"{tmp_path}/folder/new"),
        record("symlink", "link", target="/etc/passwd"),
        record("attributes", "old"),
        record("remove", "old"),
        record("rmdir", "folder", "Directory not empty"),
        record("upload", "left", "the session ended before the file was closed"),
    ]
    assert done.text == b"sftp: folder: Directory not empty\r\n"


def test_a_client_that_goes_away_leaves_what_it_sent(tmp_path: Path) -> None:
    """The part that came stays, the process ends, and the record says that it is not whole."""
    with peer("sftp", tmp_path) as other:
        client = Client(other)
        handle = client.handle(Kind.OPEN, string(b"file"), WRITE_NEW, NO_ATTRIBUTES)
        assert client.status(Kind.WRITE, string(handle), uint64(0), string(b"x" * 1000)) == Status.OK
        until(tmp_path / "file", 1000)
        other.send(packet(Kind.WRITE, uint32(9), string(handle), uint64(1000), string(b"y" * 1000))[:-1])
        done = other.finish()
    assert (tmp_path / "file").read_bytes() == b"x" * 1000
    assert [(record.success, record.size) for record in done.records] == [(False, 1000)]
