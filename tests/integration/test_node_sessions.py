"""Sessions on a node with the real ssh: commands, shells, terminals, ends; as the user who runs the tests."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import re
import shlex
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest

from tests.servers.people import certify, declare, user
from tests.servers.sshclient import Client, events, wait_until
from tests.servers.teleport import SCRIPTS, Teleport

ME = pwd.getpwuid(os.geteuid())
HOLD_SECONDS = 300
"""What a test starts and ends itself would last so long."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teleport]:
    """Start a cluster of one machine: auth and a node."""
    with Teleport(tmp_path_factory.mktemp("node"), ("auth", "node")).start() as teleport:
        declare(teleport, user("joe", [ME.pw_name]))
        yield teleport


@pytest.fixture
def joe(node: Teleport, tmp_path: Path) -> Client:
    """Return the ssh of a user who may log in as us."""
    return Client(node, certify(node, "joe", [ME.pw_name]), tmp_path, ME.pw_name)


# --- commands ------------------------------------------------------------------------------------------------------


def test_a_command_runs_as_the_login(joe: Client) -> None:
    """What it prints comes back on the stream where it was printed, with its exit code; it starts in the home."""
    done = joe.run("id -u; pwd -P; echo err >&2; exit 7")
    assert done.stdout.split() == [str(ME.pw_uid).encode(), os.path.realpath(ME.pw_dir).encode()]
    assert done.stderr == b"err\n"
    assert done.returncode == 7


def test_a_command_that_is_not_there_fails_as_in_a_shell(joe: Client) -> None:
    """The shell says so, with its 127."""
    done = joe.run("no-such-program-anywhere")
    assert done.returncode == 127
    assert b"no-such-program-anywhere" in done.stderr


def test_large_output_arrives_whole_before_the_exit_code(joe: Client) -> None:
    """Thirty megabytes, then an exit code: none of it is lost or changed."""
    done = joe.run(f"head -c 30000000 /dev/urandom | tee {joe.folder}/sent; exit 9")
    assert done.returncode == 9
    assert len(done.stdout) == 30_000_000
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256((joe.folder / "sent").read_bytes()).digest()


def test_large_input_arrives_whole(joe: Client) -> None:
    """A command reads what was sent, to its end."""
    data = os.urandom(20_000_000)
    done = joe.run("sha256sum", stdin=data)
    assert done.stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert done.returncode == 0


def test_the_two_streams_are_apart_and_each_whole(joe: Client) -> None:
    """A program that writes a lot on both at once loses nothing on either."""
    done = joe.run("head -c 3000000 /dev/zero >&2 & head -c 4000000 /dev/zero; wait")
    assert (len(done.stdout), len(done.stderr)) == (4_000_000, 3_000_000)


def test_any_bytes_pass_in_commands_and_data(joe: Client) -> None:
    """A command is bytes, as the names of files are; nothing takes it for text."""
    done = joe.run(os.fsdecode(b"printf '\xff\xfe'; cat"), stdin=b"\x00\xff\r\n")
    assert done.stdout == b"\xff\xfe\x00\xff\r\n"


def test_what_the_client_does_not_read_the_command_does_not_write(joe: Client) -> None:
    """A client that stands still holds up its own command, and nobody else's; then it gets all."""
    size = 80_000_000
    with joe.running(f"echo $$; exec head -c {size} /dev/zero") as slow:
        assert slow.stdout is not None
        progress = Path(f"/proc/{int(slow.stdout.readline())}/io")  # proc(5): `wchar` is what it has written
        slow.send_signal(signal.SIGSTOP)
        seen: list[str] = []

        def stands_still() -> bool:
            seen.append(re.findall(r"wchar: \d+", progress.read_text())[0])
            return len(seen) > 50 and len(set(seen[-50:])) == 1

        wait_until(stands_still)
        assert joe.run("head -c 20000000 /dev/zero | wc -c").stdout.strip() == b"20000000"
        assert stands_still()
        slow.send_signal(signal.SIGCONT)
        assert len(slow.stdout.read()) == size
        assert slow.wait(60) == 0


def test_what_the_command_does_not_read_the_client_does_not_send(joe: Client) -> None:
    """A command that reads late holds up its client, and then gets all."""
    gate = joe.folder / "gate"
    os.mkfifo(gate)
    with joe.running(f"read x < {gate}; wc -c") as sending:
        assert sending.stdin is not None
        assert sending.stdout is not None
        os.set_blocking(sending.stdin.fileno(), False)
        sent = refused = 0

        def held_up() -> bool:
            """Send on, and tell whether nothing was taken for a while."""
            nonlocal sent, refused
            try:
                sent += os.write(sending.stdin.fileno(), bytes(1_000_000)) if sending.stdin else 0
                refused = 0
            except BlockingIOError:
                refused += 1
            assert sent < 30_000_000, "nothing holds it up"
            return refused > 50

        wait_until(held_up)
        gate.write_text("go\n")
        os.set_blocking(sending.stdin.fileno(), True)
        sending.stdin.close()
        assert int(sending.stdout.read()) == sent


# --- ends ----------------------------------------------------------------------------------------------------------


def test_the_end_of_input_reaches_the_command(joe: Client) -> None:
    """`cat` ends when its input does."""
    assert joe.run("cat; echo over", stdin=b"some\n").stdout == b"some\nover\n"


def test_a_signal_that_ends_the_command_is_told(joe: Client) -> None:
    """The exit-signal message names it (RFC 4254 §6.10), and ssh ends with 255 as with sshd."""
    done = joe.run("kill -TERM $$", options=("-v",))
    assert done.returncode == 255
    assert b"rtype exit-signal" in done.stderr
    wait_until(lambda: ("kill -TERM $$", "signal TERM") in [(e["command"], e["exitError"]) for e in execs(joe)])


async def test_a_signal_of_the_client_reaches_the_command(joe: Client) -> None:
    """RFC 4254 §6.9: the child's process group gets it, and may deal with it; a name that is none does nothing."""
    async with connection(joe) as conn:
        process = await conn.create_process("trap 'echo caught; exit 3' USR1; echo ready; while :; do sleep 0.1; done")
        assert await process.stdout.readline() == "ready\n"
        process.channel.send_signal("NONSENSE")
        process.channel.send_signal("USR1")
        assert await process.stdout.readline() == "caught\n"
        assert (await process.wait()).exit_status == 3


def test_a_background_process_with_the_pipes_keeps_the_session(joe: Client) -> None:
    """As with sshd: what it prints later arrives, and the session ends with it, with the command's exit code."""
    done = joe.run("(sleep 1; echo late) & echo soon; exit 4")
    assert done.stdout == b"soon\nlate\n"
    assert done.returncode == 4


def test_a_background_process_without_the_pipes_keeps_nothing(joe: Client) -> None:
    """A daemon that has let go of them lives on, and the session ends at once."""
    pid_file = joe.folder / "daemon"
    done = joe.run(f"sleep {HOLD_SECONDS} >/dev/null 2>&1 </dev/null & echo $! > {pid_file}; exit 4")
    daemon = int(pid_file.read_text())
    assert Path(f"/proc/{daemon}").exists()
    os.kill(daemon, signal.SIGKILL)
    assert done.returncode == 4


def test_a_terminal_ends_with_its_shell(joe: Client) -> None:
    """As with sshd: a job that still has the terminal open does not keep the session."""
    with joe.terminal() as terminal:
        terminal.type(f"unset HISTFILE; PS1='ready> '; sleep {HOLD_SECONDS} & exit 6\r")
        assert terminal.wait() == 6


def test_all_that_was_printed_in_a_terminal_arrives(joe: Client) -> None:
    """The last of ten thousand lines is there when the session has ended."""
    with joe.terminal("seq 1 10000; exit 2") as terminal:
        assert terminal.wait() == 2
    assert [line for line in terminal.seen.split() if line.isdigit()] == [str(n).encode() for n in range(1, 10001)]


def test_a_client_that_goes_away_hangs_up_the_terminal(joe: Client) -> None:
    """The shell's programs get SIGHUP, as when a line is cut."""
    marker = joe.folder / "hung-up"
    with joe.terminal(f"trap 'touch {marker}; exit' HUP; echo ready; while :; do sleep 0.1; done") as terminal:
        terminal.expect("ready")
    wait_until(marker.exists)


def test_a_client_that_goes_away_closes_the_pipes(joe: Client) -> None:
    """A command without a terminal sees the end of its input, and no signal."""
    marker = joe.folder / "ended"
    with joe.running(f"echo ready; cat >/dev/null; echo $? > {marker}.part; mv {marker}.part {marker}") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
    wait_until(marker.exists)
    assert marker.read_text() == "0\n"


def test_nothing_of_a_session_is_left_in_the_node(joe: Client) -> None:
    """No descriptor stays open, however a session has ended."""
    descriptors = Path(f"/proc/{joe.node.process.pid}/fd")
    joe.run("true")
    before = len(list(descriptors.iterdir()))
    for _ in range(3):
        joe.run("exit 3", stdin=b"unread" * 100_000)
        joe.run("no-such-program")
        joe.run("nonsense", options=("-s",))
        with joe.terminal("exit 3") as terminal:
            terminal.wait()
        with joe.terminal("echo ready; sleep 100") as terminal:
            terminal.expect("ready")
        with joe.running("echo ready; cat") as running:
            assert running.stdout is not None
            running.stdout.readline()
    wait_until(lambda: len(list(descriptors.iterdir())) <= before)


# --- terminals -----------------------------------------------------------------------------------------------------


def test_a_login_shell_in_a_terminal(joe: Client) -> None:
    """It is the user's own, begun as at a login, in a terminal of the size and type that the client has."""
    with joe.terminal() as terminal:
        terminal.type("unset HISTFILE; stty -echo; PS1=''; echo be''gin\r")
        terminal.expect("begin")
        terminal.type('echo "<$0|$TERM|$(stty size)|$(tty)|$SSH_TTY>"\r')
        terminal.expect("<")
        terminal.expect(">")
        terminal.type('echo "<$0|$TERM|$(stty size)|$(tty)|$SSH_TTY|"; exit 5\r')
        assert terminal.wait() == 5
    shell, term, size, tty, told = re.findall(rb"<([^>]*)\|", terminal.seen)[-1].split(b"|")
    assert shell == b"-" + Path(ME.pw_shell).name.encode()
    assert (term, size) == (b"xterm-256color", b"24 80")
    assert tty == told
    assert tty.startswith(b"/dev/pts/")


def test_a_window_that_changes_its_size(joe: Client) -> None:
    """The programs in the terminal are told; so is the audit log."""
    with joe.terminal("trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done") as terminal:
        terminal.expect("ready")
        terminal.resize(132, 43)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.expect("43 132")
    wait_until(lambda: "132:43" in [each["size"] for each in events(joe.node, "resize")])


async def test_a_window_that_changes_its_size_before_there_is_a_child(joe: Client) -> None:
    """The size that the terminal has by then counts, though what makes children is not done yet."""
    command = 'until [ "$(stty size)" = "43 132" ]; do sleep 0.05; done; echo wide'
    async with asyncio.timeout(60), connection(joe) as conn:
        spawner = spawner_of(joe.node)
        os.kill(spawner, signal.SIGSTOP)
        try:
            process = await conn.create_process(command, term_type="xterm", term_size=(80, 24))
            process.channel.change_terminal_size(132, 43)
            await conn.create_process("true")  # answered after all that came before
        finally:
            os.kill(spawner, signal.SIGCONT)
        assert await process.stdout.readline() == "wide\r\n"


def test_the_clients_terminal_modes_hold(joe: Client) -> None:
    """What `stty` has set on the client's side is set in the session (RFC 4254 §8)."""
    script = f"stty -icanon intr ^T; exec {shlex.join(joe.command('stty -a', options=('-tt',)))}"
    done = subprocess.run(
        ["script", "-qec", script, "/dev/null"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert b"intr = ^T" in done.stdout
    assert re.search(rb"-icanon\b", done.stdout)


def test_without_a_terminal_there_is_none(joe: Client) -> None:
    """A command that was not asked to be in one is in none."""
    assert b"not a tty" in joe.run("tty; echo ${SSH_TTY:-none}").stdout
    assert joe.run("echo ${SSH_TTY:-none}").stdout == b"none\n"


def test_a_shell_without_a_terminal_reads_commands(joe: Client) -> None:
    """`ssh host < script` works."""
    done = joe.run(stdin=b"echo one\nexit 3\n", options=("-T",))
    assert done.stdout.endswith(b"one\n")
    assert done.returncode == 3


# --- what a session knows ------------------------------------------------------------------------------------------


def test_a_client_sets_language_and_nothing_else(joe: Client) -> None:
    """LANG and LC_* pass; what could run code or mislead us does not, and a program does not see it."""
    wanted = {
        "LANG": "en_IE.UTF-8",
        "LC_TIME": "C",
        "PATH": "/evil",
        "LD_PRELOAD": "/evil.so",
        "BASH_ENV": "/evil",
        "SSH_TELEPORT_USER": "root",
        "EVIL": "1",
    }
    # One SetEnv: ssh heeds the first only.
    setting = " ".join(f"{name}={value}" for name, value in wanted.items())
    lines = joe.run("env", options=("-o", f"SetEnv={setting}")).stdout.decode().splitlines()
    assert {f"{name}={value}" for name, value in wanted.items()} & set(lines) == {"LANG=en_IE.UTF-8", "LC_TIME=C"}


def test_a_session_knows_what_it_is(joe: Client) -> None:
    """The variables of sshd and ours are there; `teleport status` reads them."""
    lines = dict(line.split("=", 1) for line in joe.run("env").stdout.decode().splitlines() if "=" in line)
    client, port, here, number = lines["SSH_CONNECTION"].split()
    assert (client, here, number) == ("127.0.0.1", "127.0.0.1", str(joe.node.node_port))
    assert lines["SSH_CLIENT"] == f"127.0.0.1 {port} {number}"
    assert lines["SSH_TELEPORT_USER"] == "joe"
    assert lines["SSH_TELEPORT_CLUSTER_NAME"] == "main"
    assert re.fullmatch(r"[0-9a-f-]{36}", lines["SSH_TELEPORT_HOST_UUID"])
    assert re.fullmatch(r"[0-9a-f-]{36}", lines["SSH_SESSION_ID"])
    assert lines["USER"] == lines["LOGNAME"] == ME.pw_name
    assert not [name for name in lines if name.startswith(("NOTIFY", "TELEPORT"))]


def test_teleport_status_tells_it(joe: Client) -> None:
    """Inside of a session; outside of one it says where it works, with 1."""
    status = f"{SCRIPTS}/teleport status"
    lines = joe.run(status).stdout.decode().splitlines()
    assert lines[0] == f"User    : joe, logged in as {ME.pw_name} from 127.0.0.1"
    assert lines[1] == "Cluster : main"
    done = joe.run(f"unset SSH_SESSION_ID; {status}")
    assert done.returncode == 1
    assert b"error: this is not a session of Teleport" in done.stderr


def test_events_tell_of_sessions_with_the_manuals_fields(joe: Client) -> None:
    """A terminal has session.start and session.end, a command exec, each with who, where and which session."""
    with joe.terminal("echo $SSH_SESSION_ID; exit 3") as terminal:
        assert terminal.wait() == 3
    session = re.findall(rb"[0-9a-f-]{36}", terminal.seen)[0].decode()
    wait_until(lambda: [each for each in events(joe.node, "session.end") if each["sid"] == session])
    for kind in ("session.start", "session.end", "exec"):
        (event,) = [each for each in events(joe.node, kind) if each["sid"] == session]
        assert event["user"] == "joe"
        assert event["login"] == ME.pw_name
        assert event["namespace"] == "default"
        assert event["addr.local"] == f"127.0.0.1:{joe.node.node_port}"
        assert str(event["addr.remote"]).startswith("127.0.0.1:")
        assert re.fullmatch(r"[0-9a-f-]{36}", str(event["server_id"]))
        if kind == "exec":
            assert (event["command"], event["exitCode"], event["exitError"]) == (
                "echo $SSH_SESSION_ID; exit 3",
                3,
                "",
            )
        else:
            assert event["size"] == "80:24"


# --- what the certificate says -------------------------------------------------------------------------------------


def test_a_forced_command_is_the_only_one(node: Teleport, tmp_path: Path) -> None:
    """Whatever was asked for, the certificate's command runs; it is told what was asked for (PROTOCOL.certkeys)."""
    forced = certify(
        node, "joe", [ME.pw_name], force_command='echo "forced instead of ${SSH_ORIGINAL_COMMAND-nothing}"'
    )
    client = Client(node, forced, tmp_path, ME.pw_name)
    assert client.run("id; rm -rf /tmp/x").stdout == b"forced instead of id; rm -rf /tmp/x\n"
    assert client.run(options=("-T",)).stdout == b"forced instead of nothing\n"
    with client.terminal() as terminal:
        terminal.expect("forced instead of nothing")
        assert terminal.wait() == 0


def test_a_certificate_without_permit_pty_has_no_terminal(node: Teleport, tmp_path: Path) -> None:
    """The request is refused; commands run."""
    client = Client(node, certify(node, "joe", [ME.pw_name], permit_pty=False), tmp_path, ME.pw_name)
    done = client.run("tty", options=("-tt",))
    assert b"PTY allocation request failed" in done.stderr
    assert done.returncode == 255
    assert client.run("tty").stdout == b"not a tty\n"


def test_a_request_for_an_unknown_subsystem_is_refused(joe: Client) -> None:
    """Ssh says so, and ends as with sshd."""
    done = joe.run("nonsense", options=("-s",))
    assert done.returncode == 255
    assert b"subsystem request failed" in done.stderr


# --- the connection that tests of channels use -----------------------------------------------------------------------


@asynccontextmanager
async def connection(client: Client) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connect with asyncssh: ssh of Debian 12 cannot send signals."""
    key = client.person.write(client.folder)
    async with asyncssh.connect(
        "127.0.0.1",
        client.node.node_port,
        username=client.login,
        client_keys=[(str(key), f"{key}-cert.pub")],
        known_hosts=None,
        config=None,
        agent_path=None,
    ) as made:
        yield made


def spawner_of(node: Teleport) -> int:
    """Return the process that makes the node's children."""
    tasks = Path(f"/proc/{node.process.pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    (spawner,) = (child for child in children if b"/spawning/" in Path(f"/proc/{child}/cmdline").read_bytes())
    return spawner


def execs(client: Client) -> list[dict[str, object]]:
    """Return the exec events that auth has."""
    return events(client.node, "exec")
