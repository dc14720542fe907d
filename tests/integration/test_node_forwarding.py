"""Forwarding through a node with the real ssh: -L, -W, -D, -R, Unix sockets; who may, and what who may not is told."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.openssh import ME, Ssh, events, eventually, upper_port, upper_socket
from tests.servers.osusers import OsUser, os_users
from tests.servers.people import Person, certify, declare, role, user
from tests.servers.processes import free_port, listens
from tests.servers.teleport import Teleport

NOT_ALLOWED = "port forwarding is not allowed by the roles of user {}"
HINT = "An administrator can allow it by portForwarding in the roles' options."
FORBIDS = {"options": {"portForwarding": False}}
ALLOWS = {"options": {"portForwarding": True, "forwardAgent": True}}
STRICT = ("-o", "ExitOnForwardFailure=yes")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Yield a cluster of one machine: auth and a node."""
    with Teleport(tmp_path_factory.mktemp("node"), ("auth", "node")).start() as teleport:
        declare(teleport, role("no-ports", **FORBIDS), user("joe", [ME]), user("bob", [ME], ["no-ports"]))
        yield teleport


@pytest.fixture(scope="module")
def joe(node: Teleport) -> Person:
    """Return a user who may forward."""
    return certify(node, "joe", [ME])


@pytest.fixture(scope="module")
def bob(node: Teleport) -> Person:
    """Return a user whose certificate permits what a role of his forbids."""
    return certify(node, "bob", [ME])


@pytest.fixture
def upper() -> Iterator[int]:
    """Yield a port that answers in capitals."""
    with upper_port() as number:
        yield number


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for sockets, which every user may enter and whose path is short."""
    folder = tmp_path_factory.mktemp("s")
    for parent in (folder, *folder.parents[:3]):  # pytest's own; a worker of pytest-xdist has one more
        with contextlib.suppress(PermissionError):
            parent.chmod(parent.stat().st_mode | 0o011)
    return folder


def ask(number: int, host: str = "127.0.0.1") -> bytes:
    """Return what a port answers to `abc` once we have said all; nothing when it closes the connection."""
    with socket.create_connection((host, number), timeout=20) as sock:
        return _ask(sock)


def ask_unix(path: str) -> bytes:
    """Return what a Unix socket answers, as `ask` does."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(path)
        return _ask(sock)


def _ask(sock: socket.socket) -> bytes:
    with contextlib.suppress(OSError):  # whichever of these finds that it was closed
        sock.sendall(b"abc")
        sock.shutdown(socket.SHUT_WR)
        return sock.makefile("rb").read()
    return b""


def forwards_of(node: Teleport, count: int, **fields: str) -> list[dict[str, str]]:
    """Return the audited forwards that have these fields, once there are so many."""
    return events(node, "port.forward", count, **fields)


def allocated(ssh: Ssh, number: int = 0) -> int:
    """Return the port that ssh says the node has picked for `-R 0`."""
    ssh.says("Allocated port")
    return int(re.findall(r"Allocated port (\d+) for remote forward", ssh.log.read_text())[number])


# --- from the client to the node's side ------------------------------------------------------------------------------


def test_local_forward(node: Teleport, joe: Person, upper: int, tmp_path: Path) -> None:
    """-L: several connections, each answered to its end; the audit log has where to, and who."""
    number = free_port()
    ssh = Ssh(node, joe, tmp_path, *STRICT)
    with ssh.start("-L", f"127.0.0.1:{number}:127.0.0.1:{upper}"):
        eventually(lambda: listens(number), "ssh listens")
        assert [ask(number) for _ in range(3)] == [b"ABC"] * 3
    (event, *_) = forwards_of(node, 1, destination=f"127.0.0.1:{upper}")
    assert event["user"] == "joe"
    assert event["login"] == ME
    assert event["direction"] == "local"
    assert event["success"] == "true"
    assert event["addr.remote"].startswith("127.0.0.1:")


def test_stdio_forward(node: Teleport, joe: Person, upper: int, tmp_path: Path) -> None:
    """-W: stdin and stdout are the connection, both ends of file pass; that is how ssh -J goes through a host."""
    done = Ssh(node, joe, tmp_path).run("-W", f"localhost:{upper}", stdin=b"through\n")
    assert (done.returncode, done.stdout) == (0, "THROUGH\n"), done.stderr


def test_nobody_listens_there(node: Teleport, joe: Person, tmp_path: Path) -> None:
    """The text is sshd's, with the destination; ssh ends with 255, and it is audited as a failure."""
    number = free_port()
    done = Ssh(node, joe, tmp_path).run("-W", f"127.0.0.1:{number}")
    assert done.returncode == 255
    assert f"open failed: connect failed: 127.0.0.1 port {number}: Connection refused" in done.stderr
    (event,) = forwards_of(node, 1, destination=f"127.0.0.1:{number}")
    assert (event["success"], event["error"]) == ("false", f"127.0.0.1 port {number}: Connection refused")


def test_dynamic_forward(node: Teleport, joe: Person, upper: int, tmp_path: Path) -> None:
    """-D: a SOCKS client names host and port, and the node resolves the name."""
    number = free_port()
    with Ssh(node, joe, tmp_path, *STRICT).start("-D", f"127.0.0.1:{number}"):
        eventually(lambda: listens(number), "ssh listens")
        with socket.create_connection(("127.0.0.1", number), timeout=20) as sock:
            sock.sendall(b"\x05\x01\x00")  # RFC 1928: version 5, one method, no authentication
            assert sock.recv(2) == b"\x05\x00"
            sock.sendall(b"\x05\x01\x00\x03\x09localhost" + upper.to_bytes(2, "big"))
            assert sock.recv(10)[:2] == b"\x05\x00"
            assert _ask(sock) == b"ABC"


def test_through_the_node_to_the_node(node: Teleport, joe: Person, tmp_path: Path) -> None:
    """-J: one connection inside the other, the node's own port included."""
    inner = Ssh(node, joe, tmp_path / "inner")
    outer = " ".join(Ssh(node, joe, tmp_path / "outer").command("-W", f"127.0.0.1:{node.node_port}"))
    done = inner.run("-o", f"ProxyCommand={outer}", command="echo inside")
    assert (done.returncode, done.stdout) == (0, "inside\n"), done.stderr


# --- from the node's side to the client ------------------------------------------------------------------------------


def test_remote_forward_to_a_free_port(node: Teleport, joe: Person, upper: int, tmp_path: Path) -> None:
    """-R 0: the node picks a port, says which, and listens on this machine alone until the connection ends."""
    ssh = Ssh(node, joe, tmp_path, *STRICT)
    with ssh.start("-R", f"*:0:127.0.0.1:{upper}"):
        number = allocated(ssh)
        assert [ask(number) for _ in range(3)] == [b"ABC"] * 3
        # 0.0.0.0 would have taken this one; sshd with GatewayPorts no does not either.
        with pytest.raises(ConnectionRefusedError):
            ask(number, "127.0.0.2")
    eventually(lambda: not listens(number), "the port is free again")
    (event,) = forwards_of(node, 1, destination=f"127.0.0.1:{number}")
    assert (event["direction"], event["success"]) == ("remote", "true")


def test_remote_forward_on_ipv6_too(node: Teleport, joe: Person, upper: int, tmp_path: Path) -> None:
    """`localhost` is both of a machine's loopback addresses, where it has both."""
    ssh = Ssh(node, joe, tmp_path, *STRICT)
    with ssh.start("-R", f"0:127.0.0.1:{upper}"):
        number = allocated(ssh)
        try:
            with socket.create_server(("::1", 0), family=socket.AF_INET6):
                pass
        except OSError:  # a machine without IPv6
            assert ask(number) == b"ABC"
        else:
            assert ask(number, "::1") == b"ABC"


def test_a_port_that_is_taken(node: Teleport, joe: Person, upper: int, tmp_path: Path) -> None:
    """Ssh ends with 255 if it is told to; -v has the reason; the audit log too."""
    done = Ssh(node, joe, tmp_path, *STRICT).run("-v", "-N", "-R", f"{upper}:127.0.0.1:1")
    assert done.returncode == 255
    assert f"Error: remote port forwarding failed for listen port {upper}" in done.stderr
    reason = f"cannot listen at 127.0.0.1:{upper}: Address already in use"
    assert f"Remote: {reason}" in done.stderr
    assert [event["error"] for event in forwards_of(node, 1, direction="remote", success="false")] == [reason]


def test_a_remote_forward_is_cancelled(node: Teleport, joe: Person, upper: int, tmp_path: Path) -> None:
    """-O cancel frees the port while the connection goes on, and it can be had again."""
    ssh = Ssh(node, joe, tmp_path)
    control, number = f"{tmp_path}/c", free_port()
    forward = f"{number}:127.0.0.1:{upper}"
    with ssh.start("-M", "-S", control):
        eventually(lambda: ssh.run("-S", control, "-O", "check").returncode == 0, "the master runs")
        for _ in range(2):
            assert ssh.run("-S", control, "-O", "forward", "-R", forward).returncode == 0
            assert ask(number) == b"ABC"
            assert ssh.run("-S", control, "-O", "cancel", "-R", forward).returncode == 0
            eventually(lambda: not listens(number), "the port is free")
        assert ssh.run("-S", control, "-O", "check").returncode == 0


# --- Unix sockets ----------------------------------------------------------------------------------------------------


def test_unix_sockets_both_ways(node: Teleport, joe: Person, short: Path, tmp_path: Path) -> None:
    """-L and -R with paths: the node's socket is the user's alone, and is removed with the connection."""
    there, local, remote = short / "there", short / "local", short / "remote"
    with upper_socket(there) as path:
        ssh = Ssh(node, joe, tmp_path, *STRICT)
        with ssh.start("-v", "-L", f"{local}:{path}", "-R", f"{remote}:{path}"):
            ssh.says("remote forward success")
            eventually(local.exists, "ssh listens")
            assert ask_unix(str(local)) == b"ABC"
            assert ask_unix(str(remote)) == b"ABC"
            assert remote.stat().st_mode & 0o777 == 0o600
            assert remote.stat().st_uid == os.geteuid()
        eventually(lambda: not remote.exists(), "the socket is removed")
    assert [event["success"] for event in forwards_of(node, 1, destination=str(remote))] == ["true"]
    assert [event["success"] for event in forwards_of(node, 1, destination=path)] == ["true"]


def test_a_path_that_is_taken(node: Teleport, joe: Person, short: Path, tmp_path: Path) -> None:
    """What is there is left alone, be it a socket or a file."""
    taken = short / "taken"
    taken.write_text("mine")
    done = Ssh(node, joe, tmp_path, *STRICT).run("-v", "-N", "-R", f"{taken}:127.0.0.1:1")
    assert done.returncode == 255
    assert f"Remote: cannot listen at {taken}: Address already in use" in done.stderr
    assert taken.read_text() == "mine"


if os.geteuid() == 0:
    # Who is not root has no second user to try it with.

    @pytest.fixture(scope="module")
    def other() -> Iterator[OsUser]:
        """Yield an OS user that is not root."""
        with os_users() as (user_, _):
            yield user_

    @pytest.fixture(scope="module")
    def ann(node: Teleport, other: OsUser) -> Person:
        """Return a user who may be root and that OS user."""
        declare(node, user("ann", ["root", other.name]))
        return certify(node, "ann", ["root", other.name])

    def test_another_users_socket_is_out_of_reach(
        node: Teleport, ann: Person, other: OsUser, short: Path, tmp_path: Path
    ) -> None:
        """A socket that root alone may open stays shut for another login, and is open for root."""
        local = short / "local"
        with upper_socket(short / "roots") as path:
            Path(path).chmod(0o600)
            ssh = Ssh(node, ann, tmp_path / "other", *STRICT, login=other.name)
            with ssh.start("-L", f"{local}:{path}"):
                eventually(local.exists, "ssh listens")
                assert ask_unix(str(local)) == b""
                ssh.says(f"cannot connect to {path}: Permission denied")
            local.unlink()
            with Ssh(node, ann, tmp_path / "root", *STRICT, login="root").start("-L", f"{local}:{path}"):
                eventually(local.exists, "ssh listens")
                assert ask_unix(str(local)) == b"ABC"
        assert [event["login"] for event in forwards_of(node, 1, destination=path, success="false")] == [other.name]

    def test_no_socket_in_another_users_folder(
        node: Teleport, ann: Person, other: OsUser, short: Path, tmp_path: Path
    ) -> None:
        """Where the login user may not write, no socket is made; where everybody may, it is the user's."""
        closed, shared = short / "closed", short / "shared"
        closed.mkdir(mode=0o755)
        shared.mkdir()
        shared.chmod(0o1777)
        ssh = Ssh(node, ann, tmp_path, *STRICT, login=other.name)
        done = ssh.run("-v", "-N", "-R", f"{closed}/s:127.0.0.1:1")
        assert done.returncode == 255
        assert f"Remote: cannot listen at {closed}/s: Permission denied" in done.stderr
        assert not list(closed.iterdir())
        with ssh.start("-v", "-R", f"{shared}/s:127.0.0.1:1"):
            ssh.says("remote forward success")
            assert (shared / "s").stat().st_uid == other.uid
        eventually(lambda: not list(shared.iterdir()), "the socket is removed by its user")

    def test_a_forwarded_port_is_the_users(
        node: Teleport, ann: Person, other: OsUser, upper: int, tmp_path: Path
    ) -> None:
        """The socket that listens belongs to the login user, so that a port of root's is not to be had."""
        ssh = Ssh(node, ann, tmp_path, *STRICT, login=other.name)
        with ssh.start("-R", f"127.0.0.1:0:127.0.0.1:{upper}"):
            number = allocated(ssh)
            rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            owners = {row[7] for row in rows if row[1] == f"0100007F:{number:04X}" and row[3] == "0A"}
            assert owners == {str(other.uid)}
            assert ask(number) == b"ABC"
        lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
        for port in range(lowest - 1, max(lowest - 2, 0), -1):  # none, on a machine where no port is root's
            done = ssh.run("-v", "-N", "-R", f"{port}:127.0.0.1:1")
            assert done.returncode == 255
            assert f"Remote: cannot listen at 127.0.0.1:{port}: Permission denied" in done.stderr


# --- who may not -----------------------------------------------------------------------------------------------------


def test_a_role_that_forbids_it(node: Teleport, bob: Person, upper: int, short: Path, tmp_path: Path) -> None:
    """Each way is refused and says why; sessions go on as ever; each refusal is audited with its destination."""
    ssh = Ssh(node, bob, tmp_path, *STRICT)
    reason = NOT_ALLOWED.format("bob")
    stdio = ssh.run("-W", f"127.0.0.1:{upper}")
    assert stdio.returncode == 255
    assert f"open failed: administratively prohibited: {reason}. {HINT}" in stdio.stderr
    with ssh.start("-L", f"{short}/local:{short}/none"):
        eventually((short / "local").exists, "ssh listens")
        assert ask_unix(f"{short}/local") == b""
        ssh.says(f"administratively prohibited: {reason}")
    (short / "local").unlink()
    for remote in ("0:127.0.0.1:1", f"{short}/new:127.0.0.1:1"):
        listening = ssh.run("-v", "-N", "-R", remote)
        assert listening.returncode == 255
        assert f"Remote: {reason}. {HINT}" in listening.stderr
    assert not list(short.iterdir())
    assert ssh.run(command="echo in").stdout == "in\n"
    refused = [
        (event["direction"], event["destination"]) for event in forwards_of(node, 4, user="bob", success="false")
    ]
    assert refused == [
        ("local", f"127.0.0.1:{upper}"),
        ("local", f"{short}/none"),
        ("remote", "127.0.0.1:0"),
        ("remote", f"{short}/new"),
    ]
    assert not forwards_of(node, 0, user="bob", success="true")


def test_a_certificate_that_does_not_permit_it(node: Teleport, upper: int, tmp_path: Path) -> None:
    """The roles allow it now, the certificate did not when it was issued: a new one is due, and the text says so."""
    person = certify(node, "joe", [ME], permit_port_forwarding=False)
    ssh = Ssh(node, person, tmp_path, *STRICT)
    reason = "port forwarding is not permitted by the certificate of user joe"
    stdio = ssh.run("-W", f"127.0.0.1:{upper}")
    assert stdio.returncode == 255
    assert (
        f"administratively prohibited: {reason}. Where the roles allow it now, log in again: tsh login." in stdio.stderr
    )
    listening = ssh.run("-v", "-N", "-R", "0:127.0.0.1:1")
    assert listening.returncode == 255
    assert f"Remote: {reason}" in listening.stderr
    assert ssh.run(command="echo in").stdout == "in\n"


def test_a_role_is_edited_while_connected(node: Teleport, upper: int, tmp_path: Path) -> None:
    """The right counts at each new connection, both ways, on one and the same SSH connection; and comes back."""
    declare(node, role("edited", **ALLOWS), user("eve", [ME], ["edited"]))
    ssh = Ssh(node, certify(node, "eve", [ME]), tmp_path, *STRICT)
    number = free_port()

    def forward(spec: dict[str, dict[str, bool]], there: bytes, back: bytes) -> None:
        declare(node, role("edited", **spec))
        eventually(lambda: (ask(number), ask(remote)) == (there, back), f"it answers {there!r} and {back!r}")

    with ssh.start("-L", f"127.0.0.1:{number}:127.0.0.1:{upper}", "-R", f"0:127.0.0.1:{upper}"):
        remote = allocated(ssh)
        with socket.create_connection(("127.0.0.1", number), timeout=20) as before:
            before.sendall(b"abc")
            assert before.recv(3) == b"ABC"
            forward(FORBIDS, b"", b"")
            ssh.says(f"administratively prohibited: {NOT_ALLOWED.format('eve')}")
            before.sendall(b"def")  # what was open stays open, as with an edited sshd_config
            assert before.recv(3) == b"DEF"
        forward(ALLOWS, b"ABC", b"ABC")
    assert forwards_of(node, 1, user="eve", direction="remote", destination=f"127.0.0.1:{remote}", success="false")


def test_a_user_is_deleted_while_connected(node: Teleport, upper: int, tmp_path: Path) -> None:
    """Who is no longer a user forwards nothing more on a connection that is still there."""
    declare(node, user("gone", [ME]))
    ssh = Ssh(node, certify(node, "gone", [ME]), tmp_path, *STRICT)
    number = free_port()
    with ssh.start("-L", f"127.0.0.1:{number}:127.0.0.1:{upper}"):
        eventually(lambda: listens(number), "ssh listens")
        assert ask(number) == b"ABC"
        assert node.tctl("users", "del", "gone").returncode == 0
        eventually(lambda: ask(number) == b"", "it is refused")
        ssh.says("administratively prohibited: there is no user gone")


def test_x11_is_refused(node: Teleport, joe: Person, tmp_path: Path) -> None:
    """There is no X11 forwarding for anybody: ssh says so, and the session has no DISPLAY."""
    done = Ssh(node, joe, tmp_path).run("-Y", command='echo "display=$DISPLAY"', env={"DISPLAY": "localhost:99"})
    assert done.stdout == "display=\n"
    assert "X11 forwarding request failed on channel 0" in done.stderr


# --- nothing is left -------------------------------------------------------------------------------------------------


def test_nothing_is_left_of_many_forwards(node: Teleport, joe: Person, upper: int, tmp_path: Path) -> None:
    """After two hundred connections both ways, and the end, the node has as many files open as before."""

    def open_files() -> int:
        return len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))

    ssh, number = Ssh(node, joe, tmp_path, *STRICT), free_port()
    eventually(lambda: not connections_of(node), "connections of other tests are over")
    before = open_files()
    with ssh.start("-L", f"127.0.0.1:{number}:127.0.0.1:{upper}", "-R", f"0:127.0.0.1:{upper}"):
        remote = allocated(ssh)
        for _ in range(100):
            assert (ask(number), ask(remote)) == (b"ABC", b"ABC")
    eventually(lambda: open_files() <= before, "all files are closed", open_files)


def connections_of(node: Teleport) -> int:
    """Return how many TCP connections to the node's port there are on its side."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1] == f"0100007F:{node.node_port:04X}" and row[3] == "01" for row in rows)
