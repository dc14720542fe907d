"""scp, scp -O and sftp of OpenSSH against a running node, directly at its port.

As root, they run as users made for the tests; as an ordinary user, as that user.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.osusers import OsUser, os_users, own_user
from tests.servers.people import certify, declare, role, user
from tests.servers.sshclient import Client, events, wait_until
from tests.servers.teleport import Teleport

IS_ROOT = os.geteuid() == 0
SECONDS = 60

Done = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True)
class Node:
    """A running node, and whose sessions it starts."""

    teleport: Teleport
    users: tuple[OsUser, ...]

    @property
    def os_user(self) -> OsUser:
        """The user of most tests."""
        return self.users[0]


class Copying:
    """Somebody's scp and sftp to the node."""

    def __init__(self, node: Node, name: str, folder: Path, login: OsUser) -> None:
        folder /= f"{name}-{login.name}"
        self.here = folder / "here"
        self.here.mkdir(parents=True, exist_ok=True)
        self.login = login
        self.node = node
        person = certify(node.teleport, name, [one.name for one in node.users])
        self._options = person.ssh_options(folder)
        self.ssh = Client(node.teleport, person, folder, login.name)

    def scp(self, *arguments: str | Path) -> Done:
        """Run scp to its end; what begins with `node:` is on the node."""
        there = f"{self.login.name}@localhost:"
        named = [
            there + one.removeprefix("node:") if isinstance(one, str) and one.startswith("node:") else str(one)
            for one in arguments
        ]
        return self._run("scp", "-P", str(self.node.teleport.node_port), *self._options, *named)

    def sftp(self, batch: str) -> Done:
        """Run sftp with these lines."""
        port = str(self.node.teleport.node_port)
        command = ("sftp", "-P", port, *self._options, "-b", "-", f"{self.login.name}@localhost")
        return self._run(*command, stdin=batch.encode())

    def events(self) -> list[dict[str, Any]]:
        """Return the events of copies as this login below a folder of this test, in their order."""
        return [event for event in events(self.node.teleport, "scp") if event["login"] == self.login.name]

    def _run(self, *command: str, stdin: bytes = b"") -> Done:
        return subprocess.run(command, cwd=self.here, input=stdin, capture_output=True, timeout=SECONDS, check=False)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Start a cluster of one machine; joe may copy files, kim may not."""
    with ExitStack() as stack:
        users: tuple[OsUser, ...] = stack.enter_context(os_users()) if IS_ROOT else (own_user(),)
        teleport = stack.enter_context(Teleport(tmp_path_factory.mktemp("node"), ("auth", "node")).start())
        logins = [one.name for one in users]
        declare(
            teleport,
            role("no-copies", allow={}, options={"fileCopy": False}),
            user("joe", logins),
            user("kim", logins, ["no-copies"]),
        )
        yield Node(teleport, users)


@pytest.fixture
def joe(node: Node, tmp_path: Path) -> Copying:
    """Return the programs of a user who may copy files."""
    return Copying(node, "joe", tmp_path, node.os_user)


@pytest.fixture
def kim(node: Node, tmp_path: Path) -> Copying:
    """Return the programs of a user whose role forbids it."""
    return Copying(node, "kim", tmp_path, node.os_user)


@pytest.fixture
def there(node: Node) -> Iterator[Path]:
    """Make an empty folder of the login user's."""
    folder = Path(tempfile.mkdtemp(prefix="there-"))
    os.chown(folder, node.os_user.uid, node.os_user.gid)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["-s", "-O"], ids=["sftp protocol", "old protocol"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Return scp's option for either protocol."""
    return str(request.param)


def succeeded(done: Done) -> None:
    """Check that a client ended well, and that nothing but what a person should read reached it."""
    assert (done.returncode, done.stderr) == (0, b""), done


def is_denial(done: Done) -> bool:
    """Tell whether scp was not let; in the SFTP protocol it looks for patterns first, and then finds no such file."""
    told = (b"Permission denied", b"No such file or directory")
    return done.returncode in (1, 255) and any(text in done.stderr for text in told)


def test_a_file_up_and_down_as_the_user(joe: Copying, there: Path, protocol: str) -> None:
    """The bytes are the same, and on the node it is the user's file, with the user's umask."""
    data = os.urandom(5_000_003)
    (joe.here / "a").write_bytes(data)
    (joe.here / "a").chmod(0o666)
    succeeded(joe.scp(protocol, "a", f"node:{there}/b"))
    found = (there / "b").stat()
    assert (found.st_uid, found.st_gid) == (joe.login.uid, joe.login.gid)
    assert stat.S_IMODE(found.st_mode) & 0o022 == 0
    assert (there / "b").read_bytes() == data
    succeeded(joe.scp(protocol, f"node:{there}/b", "c"))
    assert (joe.here / "c").read_bytes() == data


def test_folders_with_times_and_modes(joe: Copying, there: Path, protocol: str) -> None:
    """-r -p, up and down."""
    top = joe.here / "top"
    (top / "sub").mkdir(parents=True)
    (top / "run").write_text("x")
    (top / "run").chmod(0o6750)
    (top / "sub" / "ä b").write_text("y")
    for path in (top / "run", top / "sub" / "ä b", top / "sub", top):
        os.utime(path, (1_000_000_000, 1_000_000_007))
    succeeded(joe.scp(protocol, "-r", "-p", top, f"node:{there}/top"))
    succeeded(joe.scp(protocol, "-r", "-p", f"node:{there}/top", "back"))
    for copy in (there / "top", joe.here / "back"):
        for name in ("", "run", "sub", "sub/ä b"):
            assert int((copy / name).stat().st_mtime) == 1_000_000_007, name
        assert stat.S_IMODE((copy / "run").stat().st_mode) == 0o750, "with no set-user-ID bit"
        assert (copy / "sub" / "ä b").read_text() == "y"


def test_paths_begin_at_the_users_home(joe: Copying, protocol: str) -> None:
    """A path without a slash is in the user's home, as `~` is."""
    name = f"transfer-{os.getpid()}"
    (joe.here / "a").write_text("x")
    try:
        succeeded(joe.scp(protocol, "a", f"node:{name}"))
        assert (joe.login.home / name).read_text() == "x"
        succeeded(joe.scp(protocol, f"node:~/{name}", "b"))
        assert (joe.here / "b").read_text() == "x"
    finally:
        (joe.login.home / name).unlink(missing_ok=True)


def test_a_batch_of_sftp(joe: Copying, there: Path) -> None:
    """Listing, folders, renaming, modes, links, removal, df."""
    (joe.here / "a").write_text("text")
    done = joe.sftp(
        f"""
        cd {there}
        pwd
        mkdir folder
        put a folder/a
        rename folder/a folder/b
        chmod 600 folder/b
        symlink b folder/link
        get folder/link {joe.here}/got
        ls -l folder
        df
        put -r {joe.here} tree
        rm folder/link
        """
    )
    succeeded(done)
    assert os.fsencode(there) in done.stdout
    assert re.search(rf"-rw-------\s+\S+\s+{joe.login.name}\s".encode(), done.stdout), done.stdout
    assert (joe.here / "got").read_text() == "text"
    assert stat.S_IMODE((there / "folder/b").stat().st_mode) == 0o600
    assert (there / "tree/a").stat().st_uid == joe.login.uid
    assert not (there / "folder/link").is_symlink()


def test_the_users_rights_are_the_limit(joe: Copying, there: Path, protocol: str) -> None:
    """What the user may not read or write, a copy may not either; that is told, with scp's exit code."""
    if IS_ROOT:
        (there / "others").mkdir(mode=0o700)
        (there / "others" / "secret").write_text("secret")
    else:
        (there / "others").mkdir(mode=0o000)
    for arguments in ((f"node:{there}/others/secret", "got"), (joe.here, f"node:{there}/others/new")):
        done = joe.scp(protocol, "-r", *arguments)
        assert is_denial(done)
    (there / "others").chmod(0o700)
    assert not (joe.here / "got").exists()


@pytest.mark.parametrize("name", ["$(touch {0}/pwned)", "`touch {0}/pwned`", "{0}/x;touch {0}/pwned"])
def test_a_command_in_a_name_is_not_run(joe: Copying, there: Path, protocol: str, name: str) -> None:
    """No shell sees what scp was asked for (CVE-2020-15778)."""
    (joe.here / "a").write_text("x")
    joe.scp(protocol, "a", f"node:{name.format(there)}")
    assert joe.ssh.run("true").returncode == 0
    assert not (there / "pwned").exists()
    if protocol == "-O":
        done = joe.scp(protocol, "a", f"node:{name.format(there)}")
        assert done.returncode == 1
        assert b"which only a shell understands" in done.stderr


def test_patterns_on_the_node(joe: Copying, there: Path, protocol: str) -> None:
    """`*` is expanded there."""
    for name in ("a.txt", "b.txt", "c.md"):
        (there / name).write_text(name)
    succeeded(joe.scp(protocol, f"node:{there}/*.txt", "."))
    assert sorted(path.name for path in joe.here.iterdir()) == ["a.txt", "b.txt"]


def test_the_old_scp_is_not_the_machines(joe: Copying, there: Path) -> None:
    """The node needs no OpenSSH of its own: with nothing in its PATH, copies go on."""
    (joe.here / "a").write_text("x")
    ours = joe.ssh.run(f"scp -f {there}/none", stdin=b"\0")
    assert ours.stdout.startswith(b"\x01scp: ")
    assert ours.returncode == 1


# --- roles ---------------------------------------------------------------------------------------------------------


def test_a_role_that_forbids_copies(joe: Copying, kim: Copying, there: Path, protocol: str) -> None:
    """fileCopy: false refuses scp in both protocols, sftp and rsync, with a text; a command goes on."""
    (there / "a").write_text("x")
    for done in (
        kim.scp(protocol, f"node:{there}/a", "got"),
        kim.scp(protocol, kim.here, f"node:{there}/new"),
        kim.sftp(f"get {there}/a got\n"),
        kim.ssh.run("rsync --server --sender . x"),
        kim.ssh.run("/usr/bin/scp -f /etc/passwd"),
    ):
        assert done.returncode != 0
        assert f"copying files is not allowed as {kim.login.name} on this node".encode() in done.stderr, done
    assert not (kim.here / "got").exists()
    assert not (there / "new").exists()
    assert kim.ssh.run("echo on").stdout == b"on\n"
    refusals = [event for event in kim.events() if event["user"] == "kim"]
    assert {(event["action"], event["success"]) for event in refusals} == {("refused", "false")}
    succeeded(joe.scp(protocol, f"node:{there}/a", "got"))


# --- audit ---------------------------------------------------------------------------------------------------------


def test_each_file_is_audited(joe: Copying, there: Path, protocol: str) -> None:
    """Path, length, direction and success, of uploads and downloads and of what failed."""
    (joe.here / "a").write_bytes(b"12345")
    succeeded(joe.scp(protocol, "a", f"node:{there}/up"))
    succeeded(joe.scp(protocol, f"node:{there}/up", "down"))
    wanted = [("write", 5, "true"), ("read", 5, "true")]

    def told() -> list[tuple[object, object, object]]:
        found = [event for event in joe.events() if event["path"] == f"{there}/up"]
        return [(event["action"], event["len"], event["success"]) for event in found if event["action"] != "attributes"]

    wait_until(lambda: told() == wanted, str(told()))


def test_a_client_that_goes_away_is_recorded(joe: Copying, there: Path) -> None:
    """The part that came stays, the process ends, and the event says that it is not whole."""
    with joe.ssh.running(f"scp -t {there}/part") as sending:
        assert sending.stdin is not None
        assert sending.stdout is not None
        assert sending.stdout.read(1) == b"\0"
        sending.stdin.write(b"C0644 1000000 part\n")
        sending.stdin.flush()
        assert sending.stdout.read(1) == b"\0"
        sending.stdin.write(b"x" * 300_000)
        sending.stdin.flush()
        wait_until(lambda: (there / "part").stat().st_size == 300_000)
        sending.kill()
    wait_until(lambda: any(event["path"] == f"{there}/part" for event in joe.events()), "it was not recorded")
    (event,) = [event for event in joe.events() if event["path"] == f"{there}/part"]
    assert (event["len"], event["success"]) == (300_000, "false")
    assert (there / "part").stat().st_size == 300_000


# --- two users -----------------------------------------------------------------------------------------------------

if IS_ROOT:

    def test_each_login_is_its_own_user(node: Node, tmp_path: Path, protocol: str) -> None:
        """Two logins of one person: what the one may read the other may not."""
        first, second = (Copying(node, "joe", tmp_path, one) for one in node.users)
        for each in (first, second):
            (each.here / "a").write_text("x")
        succeeded(first.scp(protocol, "a", "node:mine"))
        assert (first.login.home / "mine").stat().st_uid == first.login.uid
        done = second.scp(protocol, f"node:{first.login.home}/mine", "got")
        assert is_denial(done)
        succeeded(second.scp(protocol, "a", "node:mine"))
        assert (second.login.home / "mine").stat().st_uid == second.login.uid
