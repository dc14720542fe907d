"""The SSH client of tsh's own, `--builtin` or where no OpenSSH is installed; and for both clients, a wrong server."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runtime.cli.profile import Home, Keys, Profile
from runtime.cli.tsh_address import Address
from runtime.cli.tsh_messages import AuthorityKeys
from runtime.core.clock import SystemClock
from runtime.core.defaults import CERTIFICATE_TTL
from runtime.pki.claims import UserClaims
from runtime.pki.keys import generate_key
from runtime.pki.signing import random_serial, sign_user
from tests.integration.test_tsh_ssh import OTHER_PIN, changed, echo_server, echoes
from tests.servers.processes import free_port
from tests.servers.sshclient import wait_until
from tests.servers.sshd import LOGIN
from tests.servers.sshproxy import SSHProxyCluster, ssh_proxy
from tests.servers.tsh import Done, Tsh, TshCluster, tsh_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TshCluster]:
    """Run a cluster for all tests of this file."""
    with tsh_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def joe(cluster: TshCluster, tmp_path_factory: pytest.TempPathFactory) -> Tsh:
    """Return somebody who is logged in."""
    return cluster.person(tmp_path_factory.mktemp("home") / ".tsh")


def builtin(person: Tsh, *arguments: str | Path, stdin: str = "") -> Done:
    """Run `tsh ssh --builtin` to its end."""
    return person.run("ssh", "--builtin", *arguments, stdin=stdin)


def test_a_command(joe: Tsh) -> None:
    """Output, errors, input and exit code are the command's; a signal's end is 255, as ssh has it."""
    done = builtin(joe, f"{LOGIN}@db1", "id -un; cat; echo err >&2; exit 7", stdin="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{LOGIN}\nin\n", "err\n")
    assert builtin(joe, "db1", "kill -9 $$").returncode == 255


def test_much_data(joe: Tsh, tmp_path: Path) -> None:
    """Files as input and output come through whole, whatever the kinds of the descriptors."""
    data = os.urandom(3_000_000)
    (tmp_path / "in").write_bytes(data)
    command = f"{joe.words()[0]} ssh --builtin db1 cat"
    for redirected in (
        "< in > out",
        "< in | cat > out",
        "< in 2>/dev/null > out",
        ">/dev/null 2>&1 </dev/null; cp in out",
    ):
        done = joe.run_other("sh", "-c", f"cd {tmp_path} && {command} {redirected}")
        assert (done.returncode, done.stderr) == (0, ""), redirected
        assert (tmp_path / "out").read_bytes() == data
        (tmp_path / "out").unlink()


def test_descriptors_stay_as_they_were(joe: Tsh) -> None:
    """What others have open, too, is left as it was found: a shell's terminal that does not block is a broken one."""
    inputs, outputs = os.pipe(), os.pipe()
    try:
        with subprocess.Popen(
            joe.words("ssh", "--builtin", "db1", "echo in"), stdin=inputs[0], stdout=outputs[1], env=joe.all_environment
        ) as process:
            assert process.wait(60) == 0
        assert os.get_blocking(inputs[0])
        assert os.get_blocking(outputs[1])
        assert os.read(outputs[0], 100) == b"in\n"
    finally:
        for descriptor in (*inputs, *outputs):
            os.close(descriptor)


def test_without_openssh(joe: Tsh, tmp_path: Path) -> None:
    """Where no ssh is in PATH it is used without being asked for."""
    bare = Tsh(joe.home, {"PATH": str(tmp_path)})
    done = bare.run("ssh", "db1", "id -un")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{LOGIN}\n", "")
    assert "sftp is not installed" in bare.run("sftp", "db1").stderr


def test_a_shell_in_a_terminal(joe: Tsh) -> None:
    """Keys go through unread, the size is followed, and the terminal is afterwards as it was."""
    with joe.terminal("ssh", "--builtin", f"{LOGIN}@db1") as terminal:
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
    shell = [
        "sh",
        "-c",
        f"stty -a > {joe.home}/before; {joe.words()[0]} ssh --builtin -t db1 true; stty -a > {joe.home}/after",
    ]
    with joe.terminal_of(*shell) as terminal:
        assert terminal.wait() == 0
    assert (joe.home / "after").read_text() == (joe.home / "before").read_text()


@pytest.mark.parametrize("direction", ["-L", "-R"])
def test_forwarded_ports(joe: Tsh, direction: str) -> None:
    """-L and -R carry connections, and end with the session."""
    port = free_port()
    with echo_server() as target:
        forward = f"127.0.0.1:{port}:127.0.0.1:{target}"
        with joe.running("ssh", "--builtin", "-N", direction, forward, "db1") as process:
            wait_until(lambda: echoes(port) or process.poll() is not None)
            assert process.poll() is None, process.communicate()
        wait_until(lambda: not echoes(port))


def test_socks(joe: Tsh) -> None:
    """-D serves SOCKS 5 (RFC 1928), and connects from the node."""
    port = free_port()

    def asked(target: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                connection.sendall(b"\x05\x01\x00")
                if connection.recv(2) != b"\x05\x00":
                    return False
                connection.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + target.to_bytes(2, "big"))
                connection.recv(10)
                connection.sendall(b"ping")
                return connection.recv(4) == b"ping"
        except OSError:
            return False

    with echo_server() as target, joe.running("ssh", "--builtin", "-N", "-D", str(port), "db1") as process:
        wait_until(lambda: asked(target) or process.poll() is not None)
        assert process.poll() is None, process.communicate()


def test_the_agent(joe: Tsh) -> None:
    """-A lends the agent to the session; without it there is none, and without an agent here a warning."""
    script = (
        f'eval "$(tsh agent)" >&2; {joe.words()[0]} ssh --builtin %s db1 ssh-add -l; eval "$(tsh agent --kill)" >&2'
    )
    here = Tsh(joe.home, {"PATH": f"{Path(joe.words()[0]).parent}:/usr/bin:/bin"})
    assert "teleport:joe@" in here.run_other("sh", "-c", script % "-A").stdout
    assert "teleport:joe@" not in here.run_other("sh", "-c", script % "").stdout
    assert "no ssh-agent to forward" in builtin(joe, "-A", "db1", "true").stderr


def test_copies(joe: Tsh, tmp_path: Path) -> None:
    """Files and folders go there and back."""
    here, there, back = tmp_path / "here", tmp_path / "there", tmp_path / "back"
    (here / "in ner").mkdir(parents=True)
    (here / "in ner" / "file").write_bytes(os.urandom(100_000))
    done = joe.run("scp", "--builtin", "-r", "-p", here, f"{LOGIN}@db1:{there}")
    assert (done.returncode, done.stderr) == (0, "")
    done = joe.run("scp", "--builtin", "-r", f"db1:{there}", back)
    assert (done.returncode, done.stderr) == (0, "")
    assert (back / "in ner" / "file").read_bytes() == (here / "in ner" / "file").read_bytes()


def test_copies_that_fail(joe: Tsh, tmp_path: Path) -> None:
    """A file that is not there, here or there, a folder without -r, and two nodes at once are errors."""
    for words, text in (
        ((f"db1:{tmp_path}/none", tmp_path / "x"), "none"),
        ((tmp_path / "none", "db1:x"), "none"),
        ((tmp_path, f"db1:{tmp_path}/x"), "is a directory"),
        (("db1:a", "db2:b"), "between here and one node"),
        (("db1:a", "b", "c"), "between here and one node"),
    ):
        done = joe.run("scp", "--builtin", *words)
        assert done.returncode == 255, (words, done)
        assert text in done.stderr, (words, done)
        assert done.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["nosuch", "true"], "error: there is no node 'nosuch' that you may reach\n"),
        (["a;b", "true"], "cannot be the name of a node"),
        (["bob@db1", "true"], "your certificate is not for login 'bob'"),
        (["--cluster=other", "db1", "true"], "vouches for no cluster 'other'"),
        (["-o", "Port=22", "db1", "true"], "tsh's own client has no option -o"),
        (["-L", "nonsense", "db1", "true"], "'nonsense' cannot be forwarded: expected [BIND:]PORT:HOST:PORT"),
        (["-D", "99999", "db1", "true"], "'99999' cannot be forwarded: expected [BIND:]PORT"),
    ],
)
def test_refused(joe: Tsh, arguments: list[str], text: str) -> None:
    """What cannot lead to a session ends with 255 and says why, without a traceback."""
    done = builtin(joe, *arguments)
    assert done.returncode == 255
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_port_that_is_taken(joe: Tsh) -> None:
    """A port that cannot be listened on ends the session before it begins."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = builtin(joe, "-L", f"127.0.0.1:{port}:127.0.0.1:1", "db1", "true")
    assert done.returncode == 255
    assert f"error: port {port} cannot be listened on" in done.stderr


def test_the_proxy_is_away(joe: Tsh, tmp_path: Path) -> None:
    """When nobody answers at the proxy's port the end is 255 and one line."""
    done = builtin(changed(joe, tmp_path, ssh_port=free_port()), "db1", "true")
    assert done.returncode == 255
    assert re.match(r"error: proxy\.teleport\.internal \(127\.0\.0\.1 port \d+\) cannot be reached: ", done.stderr)


def test_a_proxy_of_another_cluster(joe: Tsh, tmp_path: Path) -> None:
    """Whoever answers at the proxy's address, with certificates of another cluster's, is not believed."""
    stranger = AuthorityKeys("main", "host", (generate_key().public.line,))
    done = builtin(changed(joe, tmp_path, authorities=(stranger,), pin=OTHER_PIN), "db1", "true")
    assert done.returncode == 255
    assert "cannot prove that it is proxy.teleport.internal" in done.stderr


# --- a node's address with somebody else behind it --------------------------------------------------------------------


@pytest.fixture
async def swapped(tmp_path: Path) -> AsyncIterator[Tsh]:
    """Yield somebody in a cluster where an sshd of the node db2 listens at the address that db1 tells."""
    async with ssh_proxy(tmp_path / "cluster") as cluster:
        one, two = cluster.node("db1"), cluster.node("db2")
        await cluster.joe()
        with cluster.sshd(two) as sshd:
            for node in (one, two):
                await node.heartbeat(f"127.0.0.1:{sshd.port}")
            yield logged_in(cluster, tmp_path / "tsh")


def logged_in(cluster: SSHProxyCluster, home: Path) -> Tsh:
    """Return somebody who has logged in to that cluster."""
    key = generate_key()
    claims = UserClaims(user="joe", cluster="main", logins=(LOGIN,), roles=("user:joe",), ttl=CERTIFICATE_TTL)
    signer = cluster.authorities.user.signer
    certificate = sign_user(claims, key.public, signer=signer, now=SystemClock().now(), serial=random_serial())
    host = cluster.authorities.host.signer.public
    profile = Profile(
        Address("127.0.0.1"),
        "joe",
        cluster="main",
        ssh_port=cluster.address.port,
        authorities=(AuthorityKeys("main", "host", (host.key.line,)),),
    )
    Home(home).store(profile, Keys(key.to_openssh(), key.public.line + "\n", certificate.line.decode() + "\n"))
    return Tsh(home)


@pytest.mark.parametrize("client", ["openssh", "builtin"])
async def test_a_swapped_address(swapped: Tsh, client: str) -> None:
    """A host certificate of another node is not enough: neither client goes on; by its own name the node is reached."""
    options = ["--builtin"] if client == "builtin" else ["-o", "StrictHostKeyChecking=yes"]
    done = await in_thread(swapped, "ssh", *options, "db2", "echo in")
    assert (done.returncode, done.stdout) == (0, "in\n"), done
    done = await in_thread(swapped, "ssh", *options, "db1", "echo in")
    assert (done.returncode, done.stdout) == (255, "")
    if client == "builtin":
        assert "db1 cannot prove that it is db1: the host certificate is not for 'db1'" in done.stderr
    else:
        assert "Host key verification failed" in done.stderr


async def in_thread(person: Tsh, *arguments: str) -> Done:
    """Run tsh while this process serves the proxy."""
    return await asyncio.to_thread(person.run, *arguments)
