"""`tsh ssh`, `tsh scp`, `tsh sftp` with the installed OpenSSH against a real cluster of two nodes."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from runtime.cli.profile import Home, Profile
from runtime.cli.tsh_messages import AuthorityKeys
from runtime.pki.keys import generate_key
from tests.servers.people import PASSWORD, sign_up
from tests.servers.processes import free_port
from tests.servers.spawners import is_there
from tests.servers.sshclient import wait_until
from tests.servers.sshd import LOGIN
from tests.servers.tsh import Tsh, TshCluster, tsh_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TshCluster]:
    """Run a cluster for all tests of this file."""
    with tsh_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def joe(cluster: TshCluster, tmp_path_factory: pytest.TempPathFactory) -> Tsh:
    """Return somebody who is logged in, whose folder's name holds what shells and configurations trip over."""
    return cluster.person(tmp_path_factory.mktemp("home of %h joe") / ".tsh")


def test_a_command(joe: Tsh) -> None:
    """Output, errors, input and exit code are the command's."""
    done = joe.run("ssh", f"{LOGIN}@db1", "id -un; cat; echo err >&2; exit 7", stdin="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{LOGIN}\nin\n", "err\n")


def test_the_manuals_lines(joe: Tsh, cluster: TshCluster) -> None:
    """`tsh --proxy=work --user=joe root@luna` and `tsh --proxy <proxy-addr> ssh <hostname>` work as written."""
    done = joe.run(f"--proxy={cluster.proxy}", "--user=joe", f"{LOGIN}@db1", "ls", "/")
    assert (done.returncode, done.stderr) == (0, "")
    assert "etc" in done.stdout.split()
    done = joe.run("--proxy", cluster.proxy, "ssh", "db1", "id", "-un")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{LOGIN}\n", "")


def test_by_name_id_and_cluster(joe: Tsh, cluster: TshCluster) -> None:
    """A node is reached by its name, in any case, by name.cluster, and by its host id; and it proves to be that one."""
    shown = cluster.main.tctl("nodes", "ls", "--format=json").stdout
    found = re.search(r'"id": "([0-9a-f-]{36})"', shown)
    assert found, shown
    for name in ("db1", "DB1", "db1.main", found[1]):
        done = joe.run("ssh", name, "echo", "in")
        assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", ""), name


def test_options_stand_where_ssh_has_them(joe: Tsh) -> None:
    """Options come before the host or right after it; what follows is the command, whatever it begins with."""
    done = joe.run("ssh", "db1", "-l", LOGIN, "-T", "printf", "%s.", "-l", "x", "--cluster=y")
    assert (done.returncode, done.stdout, done.stderr) == (0, "-l.x.--cluster=y.", "")
    done = joe.run("ssh", "-T", "db1", "--", "echo", "-n", "--", "-p")
    assert (done.returncode, done.stdout, done.stderr) == (0, "-- -p", "")
    assert joe.run("ssh", "db1", "--", "-x").returncode not in {0, 255}, "ssh took a command for an option"
    assert joe.run("ssh", "db1", "-l").returncode == 2
    assert joe.run("ssh", "db1", "--nosuch").returncode == 2


def test_a_shell_in_a_terminal(joe: Tsh) -> None:
    """Without a command it is a shell in a terminal of this one's size, which it follows; its end is ours."""
    with joe.terminal("ssh", f"{LOGIN}@db1") as terminal:
        terminal.type("stty size; exec sh\n")
        terminal.expect("24 80")
        terminal.type("stty -echo; echo a$((1+1))b\n")
        terminal.expect("a2b")
        terminal.resize(100, 40)
        terminal.type("until [ \"$(stty size)\" = '40 100' ]; do sleep 0.1; done; echo re$((1+1))sized\n")
        terminal.expect("re2sized")
        terminal.type("sh -c 'echo be$((1+1))gun; exec sleep 1000'\n")
        terminal.expect("be2gun")
        terminal.type("\x03")
        terminal.type("exit 9\n")
        assert terminal.wait() == 9


@contextmanager
def echo_server() -> Iterator[int]:
    """Run a TCP server on loopback that sends back what it gets, and yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    while data := connection.recv(4096):
                        connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def echoes(port: int) -> bool:
    """Tell whether what is sent to a port of loopback comes back."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"ping")
            return connection.recv(4) == b"ping"
    except OSError:
        return False


@pytest.mark.parametrize("direction", ["-L", "-R"])
def test_forwarded_ports(joe: Tsh, direction: str) -> None:
    """-L and -R carry connections, and end with the session."""
    port = free_port()
    with echo_server() as target:
        with joe.running("ssh", "-N", direction, f"127.0.0.1:{port}:127.0.0.1:{target}", "db1") as process:
            wait_until(lambda: echoes(port) or process.poll() is not None)
            assert process.poll() is None, process.communicate()
        wait_until(lambda: not echoes(port))


def descendants(pid: int) -> set[int]:
    """Return the processes below one."""
    children = {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return children.union(*map(descendants, children))


def test_a_transparent_process(joe: Tsh, cluster: TshCluster) -> None:
    """It is ssh from the moment that all is checked: a signal ends it, and the proxy's connection with it."""
    with joe.running("ssh", "db1", "echo started; exec sleep 1000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
        assert name == "ssh"
        below = descendants(process.pid)
        assert len(below) == 2, "a shell, and the ssh to the proxy"
        # Nor does anything wait for a proxy that no longer answers.
        cluster.main.process.freeze()
        try:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in {-signal.SIGTERM, 255, 143}
            deadline = time.monotonic() + 20
            while any(map(is_there, below)):
                assert time.monotonic() < deadline, "the ssh to the proxy is still there"
                time.sleep(0.02)
        finally:
            cluster.main.process.thaw()


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["-s", "-O"])
def test_scp(joe: Tsh, tmp_path: Path, protocol: str) -> None:
    """Files and folders go there and back, with both of scp's protocols, with blanks in their names."""
    here, there, back = tmp_path / "here", tmp_path / "there", tmp_path / "back"
    (here / "in ner").mkdir(parents=True)
    (here / "in ner" / "file").write_bytes(os.urandom(100_000))
    done = joe.run("scp", protocol, "-r", "-q", here, f"{LOGIN}@db1:{there}")
    assert (done.returncode, done.stderr) == (0, "")
    done = joe.run("scp", protocol, "-r", "-q", f"db1:{there}", back)
    assert (done.returncode, done.stderr) == (0, "")
    assert (back / "in ner" / "file").read_bytes() == (here / "in ner" / "file").read_bytes()
    done = joe.run("scp", protocol, f"db1:{tmp_path}/none", back)
    assert done.returncode == 1
    assert "No such file" in done.stderr


def test_sftp(joe: Tsh, tmp_path: Path) -> None:
    """A batch runs, from a file and from stdin."""
    (tmp_path / "file").write_text("text")
    batch = f"put {tmp_path}/file {tmp_path}/put\nget {tmp_path}/put {tmp_path}/got\n"
    done = joe.run("sftp", "-q", "-b", "-", f"{LOGIN}@db1", stdin=batch)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "got").read_text() == "text"
    (tmp_path / "batch").write_text(f"get {tmp_path}/none")
    assert joe.run("sftp", "-q", "-b", tmp_path / "batch", f"db1:{tmp_path}").returncode == 1


def test_copies_that_name_no_node(joe: Tsh, tmp_path: Path) -> None:
    """Files on this machine alone, a URI, and a bad name are refused before anything runs."""
    for words, text in (
        ((tmp_path / "a", tmp_path / "b"), "none of the files is on a node"),
        (("scp://db1/a", tmp_path), "is a URI"),
        (("db1;x:a", tmp_path), "cannot be the name of a node"),
        (("-oProxyCommand=x:a", tmp_path), "cannot be the name of a node"),
        (("bob@db1:a", tmp_path), "your certificate is not for login 'bob'"),
    ):
        done = joe.run("scp", "--", *words)
        assert done.returncode == 255, words
        assert text in done.stderr
    assert joe.run("scp", "db1:x").returncode == 2
    assert "cannot be the name of a node" in joe.run("sftp", "a b").stderr


# --- many nodes ------------------------------------------------------------------------------------------------------


def test_all_nodes_with_some_labels(joe: Tsh) -> None:
    """A command runs on every node that has the labels; each line is marked with the node that it is of."""
    done = joe.run("ssh", "-l", LOGIN, "env=staging", "echo one; echo two; echo bad >&2; printf end")
    assert done.returncode == 0
    lines = [f"{node}: {word}" for node in ("db1", "db2") for word in ("one", "two", "end")]
    assert sorted(done.stdout.splitlines()) == sorted(lines)
    assert sorted(done.stderr.splitlines()) == ["db1: bad", "db2: bad"]
    done = joe.run("ssh", "--parallel=1", "env=staging,role=web", "id -un")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"db2: {LOGIN}\n", "")


def test_some_nodes_fail(joe: Tsh) -> None:
    """The exit code is 0 only if all succeeded, else the highest; who failed is told at the end."""
    done = joe.run("ssh", f"{LOGIN}@env=staging", 'test "$PPID" != "" && exit 3')
    assert done.returncode == 3
    assert done.stderr == "error: failed on 2 of 2 nodes:\n  db1: exit code 3\n  db2: exit code 3\n"


def test_lines_in_a_terminal(joe: Tsh) -> None:
    """In a terminal what a node prints cannot move the cursor or pass for another node's line."""
    with joe.terminal("ssh", "role=db", r"printf 'a\tb\033[2Jc\rdb2 d\n'") as terminal:
        assert terminal.wait() == 0
        assert b"a\tb\\x1b[2Jc\\x0ddb2 d\r\n" in terminal.seen
        assert b"\x1b[2J" not in terminal.seen


def test_interrupting_many(joe: Tsh) -> None:
    """Ctrl-C ends all that run; so does SIGTERM, and nothing of ours stays behind."""
    with joe.terminal("ssh", "env=staging", "echo be$((1+1))gun; exec sleep 1000") as terminal:
        terminal.expect("be2gun")
        terminal.expect("be2gun")
        terminal.type("\x03")
        assert terminal.wait() == 130
    with joe.running("ssh", "env=staging", "echo begun; exec sleep 1000") as process:
        assert process.stdout is not None
        assert {process.stdout.readline() for _ in range(2)} == {"db1: begun\n", "db2: begun\n"}
        below = descendants(process.pid)
        assert len(below) >= 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))


def test_one_node_by_label(joe: Tsh) -> None:
    """Labels that one node has are as good as its name; several without a command are an error that lists them."""
    done = joe.run("ssh", "role=web", stdin="echo in $0\n")
    assert done.returncode == 0, done.stderr
    assert "in " in done.stdout
    done = joe.run("ssh", "env=staging")
    assert done.returncode == 255
    assert "error: 2 nodes have the labels env=staging:\n" in done.stderr
    assert re.search(r"^  db1  [0-9a-f-]{36}$", done.stderr, re.MULTILINE)


def test_no_node_has_the_labels(joe: Tsh) -> None:
    """Labels that nobody has are an error that tells those there are; so is what is no list of labels."""
    done = joe.run("ssh", "env=production", "true")
    assert done.returncode == 255
    assert "error: no node has the labels env=production\n" in done.stderr
    assert "hint: Labels there are: env=staging, role=db, role=web\n" in done.stderr
    done = joe.run("ssh", "env=a,,b", "true")
    assert (done.returncode, "expected labels" in done.stderr) == (255, True)


# --- what can go wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["db1;touch x"], "'db1;touch x' cannot be the name of a node"),
        (["$(touch x)"], "cannot be the name of a node"),
        (["a b"], "cannot be the name of a node"),
        (["--", "-oProxyCommand=touch x"], "'-oProxyCommand=touch x' cannot be the name of a node"),
        (["root@"], "'' cannot be the name of a node"),
        (["proxy.teleport.internal"], "cannot be the name of a node"),
        (["--cluster=other", "db1"], "vouches for no cluster 'other'"),
        (["-l", "bob", "db1"], f"your certificate is not for login 'bob'\nhint: It is for {LOGIN}, guest."),
        (["bob@db1"], "your certificate is not for login 'bob'"),
        (["nosuch"], "there is no node 'nosuch' that you may reach"),
        (["--proxy=a..b", "db1"], "'a..b' is not the address of a proxy"),
        (["--user=ann", "db1"], "not logged in at proxy"),
    ],
)
def test_refused(joe: Tsh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], text: str) -> None:
    """What cannot lead to a session ends with 255, says why and what to do, and runs nothing of what was typed."""
    monkeypatch.chdir(tmp_path)
    done = joe.run("ssh", *arguments, "true") if arguments[0] != "--" else joe.run("ssh", *arguments)
    assert done.returncode == 255
    assert text in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_what_the_proxy_says_is_enough(joe: Tsh) -> None:
    """Where the proxy has told what is wrong, no hint of ours follows."""
    done = joe.run("ssh", "nosuch", "true")
    assert done.returncode == 255
    assert "teleport: there is no node 'nosuch'" in done.stderr
    assert "hint:" not in done.stderr


def test_a_login_that_the_node_does_not_have(joe: Tsh) -> None:
    """A login that roles allow and the machine does not know is the node's to refuse, in its words."""
    done = joe.run("ssh", "guest@db1", "true")
    assert done.returncode != 0
    assert "guest" in done.stderr


def test_nobody_is_logged_in(tmp_path: Path, cluster: TshCluster) -> None:
    """Without a login, and without a terminal to log in at, it is an error that says how to."""
    stranger = Tsh(tmp_path / "tsh")
    done = stranger.run("ssh", "db1", "true")
    assert (done.returncode, done.stdout) == (255, "")
    assert "which proxy?" in done.stderr
    done = stranger.run(f"--proxy={cluster.proxy}", "--user=joe", "ssh", "db1", "true")
    assert done.returncode == 255
    assert f"error: not logged in at proxy {cluster.proxy}\n" in done.stderr
    assert f"hint: Log in: tsh --proxy={cluster.proxy} --user=joe login\n" in done.stderr
    for command in (["scp", "db1:a", "b"], ["sftp", "db1"]):
        done = stranger.run(f"--proxy={cluster.proxy}", "--user=joe", *command)
        assert (done.returncode, "not logged in" in done.stderr) == (255, True)


def test_an_expired_certificate(cluster: TshCluster, tmp_path: Path) -> None:
    """A certificate that is over is told before ssh runs; in a terminal the way to log in follows at once."""
    late = cluster.person(tmp_path / "tsh", ttl=timedelta(minutes=5), age=timedelta(minutes=10))
    done = late.run("ssh", "db1", "true")
    assert done.returncode == 255
    assert re.match(r"error: the certificate expired at .* UTC\nhint: Log in: tsh --proxy=", done.stderr)
    with late.terminal("ssh", "db1", "true") as terminal:
        terminal.expect("the certificate expired at")
        terminal.expect("Enter password for Teleport user joe: ")


def test_logging_in_on_the_way(cluster: TshCluster, tmp_path: Path) -> None:
    """`tsh --proxy <proxy-addr> ssh <hostname>` asks who is not logged in, and goes on with the session at once."""
    url = next(word for word in cluster.main.tctl("users", "add", "ann", LOGIN).stdout.split() if "https://" in word)
    phone = sign_up(cluster.main, url)
    person = Tsh(tmp_path / "tsh")
    with person.terminal(
        f"--proxy={cluster.proxy}", "--user=ann", "ssh", "db1", "echo in $((40+2)); exit 4"
    ) as terminal:
        terminal.expect(f"not logged in at proxy {cluster.proxy}. Log in at proxy {cluster.proxy} as ann:")
        terminal.expect("(yes/no) ")
        terminal.type("yes\n")
        terminal.expect("Enter password for Teleport user ann: ")
        terminal.type(f"{PASSWORD}\n")
        terminal.expect("Enter your OTP token: ")
        terminal.type(f"{phone.now()}\n")
        terminal.expect("in 42")
        assert terminal.wait() == 4
    done = person.run("ssh", "db1", "id -un")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{LOGIN}\n", "")


OTHER_PIN = "SHA256:" + ":".join(["AB"] * 32)
"""Of an HTTPS certificate that nobody shows."""


def changed(joe: Tsh, folder: Path, **fields: object) -> Tsh:
    """Return somebody with joe's login and another idea of the cluster."""
    source = Home(joe.home)
    profile = source.current()
    assert profile is not None
    keys = source.keys(profile.proxy, profile.user)
    assert keys is not None
    other = Home(folder / "tsh")
    values: dict[str, object] = {name: getattr(profile, name) for name in profile.__dataclass_fields__} | fields
    other.store(Profile(**values), keys)  # type: ignore[arg-type]  # fields of a profile
    return Tsh(other.path)


def test_the_proxy_is_away(joe: Tsh, tmp_path: Path) -> None:
    """When nobody answers at the proxy's port the end is 255, with what to do."""
    alone = changed(joe, tmp_path, ssh_port=free_port())
    done = alone.run("ssh", "db1", "true")
    assert done.returncode == 255
    assert "Connection refused" in done.stderr
    assert "hint: The way through proxy 127.0.0.1:" in done.stderr
    assert "tsh status" in done.stderr
    done = alone.run("ssh", "env=staging", "true")
    assert done.returncode == 255
    assert "  db1: no connection (exit code 255)\n" in done.stderr


def test_a_proxy_of_another_cluster(joe: Tsh, tmp_path: Path) -> None:
    """Whoever answers at the proxy's address, with certificates of another cluster's, is not believed."""
    stranger = AuthorityKeys("main", "host", (generate_key().public.line,))
    done = changed(joe, tmp_path, authorities=(stranger,), pin=OTHER_PIN).run("ssh", "db1", "true")
    assert done.returncode == 255
    assert "host key is known for proxy.teleport.internal and you have requested strict checking" in done.stderr
    assert done.stderr.count("Host key verification failed") == 1, "it went on to the node"


def test_nothing_of_the_users_configuration(joe: Tsh, tmp_path: Path) -> None:
    """-F names the one file that is read; -o passes an option on."""
    done = joe.run("ssh", "-v", "db1", "true")
    read = re.findall(r"Reading configuration data (.*)", done.stderr)
    assert read
    assert all(str(joe.home) in path for path in read)
    assert joe.run("ssh", "-o", "ProxyCommand=false", "db1", "true").returncode == 255


def test_two_at_once(joe: Tsh) -> None:
    """Any number of tsh run at once: the files that they make are whole at each moment."""
    processes = [
        subprocess.Popen(
            joe.words("ssh", "db1", "echo", str(number)), stdout=subprocess.PIPE, text=True, env=joe.all_environment
        )
        for number in range(4)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == [f"{number}\n" for number in range(4)]
    made = [path for path in joe.home.rglob("*") if path.name.startswith(("ssh_config", "known_hosts"))]
    assert made
    assert {path.stat().st_mode & 0o777 for path in made} == {0o600}
    assert not list(joe.home.rglob(".*~*config*"))


def test_logging_out_takes_the_files(cluster: TshCluster, tmp_path: Path) -> None:
    """What was made for OpenSSH goes with the login."""
    person = cluster.person(tmp_path / "tsh")
    assert person.run("ssh", "db1", "true").returncode == 0
    assert list(person.home.rglob("ssh_config.joe@main"))
    assert person.run("logout").returncode == 0
    assert not [path for path in person.home.rglob("*") if "ssh_config" in path.name or "known_hosts." in path.name]
