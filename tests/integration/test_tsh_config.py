"""Plain ssh, scp, rsync with what `tsh config` prints; and the manual's own way, with `tsh agent` and known_hosts."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.servers.people import sign_up, tsh_login
from tests.servers.sshd import LOGIN
from tests.servers.tsh import Tsh, TshCluster, tsh_cluster

QUIET = ("-o", "BatchMode=yes")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TshCluster]:
    """Run a cluster for all tests of this file."""
    with tsh_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def joe(cluster: TshCluster, tmp_path_factory: pytest.TempPathFactory) -> Tsh:
    """Return somebody who is logged in."""
    return cluster.person(tmp_path_factory.mktemp("home of %h joe") / ".tsh")


@pytest.fixture(scope="module")
def config(joe: Tsh, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with what `tsh config` prints, behind what somebody has had there before."""
    path = tmp_path_factory.mktemp("ssh") / "config"
    done = joe.run("config")
    assert (done.returncode, done.stderr) == (0, "")
    path.write_text(f"Host work\n    HostName work.example.com\n\n{done.stdout}")
    return path


def test_ssh(joe: Tsh, config: Path) -> None:
    """`tsh config >> ~/.ssh/config`, then `ssh root@db1.main`; without a login it is the default one."""
    for destination in (f"{LOGIN}@db1.main", "db2.main"):
        done = joe.run_other("ssh", "-F", config, *QUIET, destination, "id -un; exit 3")
        assert (done.returncode, done.stdout, done.stderr) == (3, f"{LOGIN}\n", "")


def test_other_hosts_are_left_alone(joe: Tsh, config: Path) -> None:
    """The block is for NODE.CLUSTER only: of other hosts nothing changes."""
    shown = joe.run_other("ssh", "-G", "-F", config, "work").stdout
    assert "hostname work.example.com\n" in shown
    assert "proxycommand" not in shown
    assert ".tsh" not in shown


def test_a_node_that_is_not_there(joe: Tsh, config: Path) -> None:
    """An unknown node is an error in the proxy's words, and 255."""
    done = joe.run_other("ssh", "-F", config, *QUIET, "db9.main", "true")
    assert done.returncode == 255
    assert "there is no node 'db9.main' that you may reach" in done.stderr


@pytest.mark.parametrize("name", ["a;touch x.main", "$(touch x).main", "a'b;touch x;'.main", "`touch x`.main"])
def test_names_never_reach_a_shell(
    joe: Tsh, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever somebody makes ssh connect to, as a URL in a repository may: no shell runs any of it."""
    monkeypatch.chdir(tmp_path)
    assert joe.run_other("ssh", "-F", config, *QUIET, name, "true").returncode == 255
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", ["scp", "sftp", "rsync"])
def test_copies(joe: Tsh, config: Path, tmp_path: Path, program: str) -> None:
    """Scp, sftp and rsync copy through the proxy, there and back."""
    source, there, back = tmp_path / "a b", tmp_path / "there", tmp_path / "back"
    source.write_bytes(b"\0text\n" * 1000)
    ssh = ("-F", config, *QUIET)
    if program == "scp":
        assert joe.run_other("scp", *ssh, source, f"{LOGIN}@db1.main:{there}").returncode == 0
        done = joe.run_other("scp", *ssh, f"db1.main:{there}", back)
    elif program == "sftp":
        done = joe.run_other("sftp", *ssh, "-b", "-", "db1.main", stdin=f'put "{source}" {there}\nget {there} {back}\n')
    else:
        assert shutil.which("rsync"), "apt-get install rsync"
        remote = f"ssh -F {shlex.quote(str(config))} -o BatchMode=yes"
        assert joe.run_other("rsync", "-a", "-e", remote, source, f"db1.main:{there}").returncode == 0
        done = joe.run_other("rsync", "-a", "-e", remote, f"{LOGIN}@db1.main:{there}", back)
    assert done.returncode == 0, done.stderr
    assert back.read_bytes() == source.read_bytes()


def test_an_expired_certificate(cluster: TshCluster, tmp_path: Path) -> None:
    """The block can be printed at any time; with a certificate that is over, ssh shows what the proxy says of it."""
    late = cluster.person(tmp_path / "tsh", ttl=timedelta(minutes=5), age=timedelta(minutes=10))
    printed = late.run("config")
    assert printed.returncode == 0
    (tmp_path / "config").write_text(printed.stdout)
    done = late.run_other("ssh", "-F", tmp_path / "config", *QUIET, "db1.main", "true")
    assert done.returncode == 255
    assert "the certificate expired at" in done.stderr
    assert "Permission denied (publickey)" in done.stderr


def test_it_outlives_a_login(cluster: TshCluster, tmp_path: Path) -> None:
    """What was printed once works after logging out and in again, by the real `tsh login`."""
    added = cluster.main.tctl("users", "add", "ann", LOGIN)
    url = next(word for word in added.stdout.split() if word.startswith("https://"))
    phone = sign_up(cluster.main, url)
    ann = Tsh(tmp_path / "tsh")
    done = tsh_login(cluster.main, ann.home, "ann", phone)
    assert done.returncode == 0, done.stderr
    (tmp_path / "config").write_text(ann.run("config").stdout)
    ssh = ("ssh", "-F", tmp_path / "config", *QUIET, "db1.main", "id", "-un")
    assert ann.run_other(*ssh).stdout == f"{LOGIN}\n"
    assert ann.run("logout").returncode == 0
    assert ann.run_other(*ssh).returncode == 255
    assert ann.run("config").returncode == 1
    cluster.person(ann.home, "ann")
    assert ann.run("ssh", "db1", "true").returncode == 0
    assert ann.run_other(*ssh).stdout == f"{LOGIN}\n"


def test_installing_it(cluster: TshCluster, tmp_path: Path) -> None:
    """`tsh config --install` makes ~/.ssh/config include a file of tsh's, once, and leaves the rest as it was."""
    person = cluster.person(tmp_path / "a home" / ".tsh")
    person = Tsh(person.home, {"HOME": str(tmp_path / "a home")})
    config = tmp_path / "a home" / ".ssh" / "config"
    assert person.run("config", "--install").returncode == 0
    assert config.stat().st_mode & 0o777 == 0o600
    assert config.parent.stat().st_mode & 0o777 == 0o700
    config.write_text(f"# mine\nHost work\n    Port 2222\n{config.read_text()}")
    config.chmod(0o644)
    before = config.read_text()
    done = person.run("config", "--install")
    assert (done.returncode, config.read_text()) == (0, before)
    config.write_text("# mine\nHost work\n    Port 2222\n")
    done = person.run("config", "--install")
    include, _, rest = config.read_text().partition("\n")
    assert include == f'Include "{person.home}/ssh_config"'
    assert rest == "# mine\nHost work\n    Port 2222\n"
    assert config.stat().st_mode & 0o777 == 0o644
    assert person.run_other("ssh", "-F", config, *QUIET, "db1.main", "id -un").stdout == f"{LOGIN}\n"


def test_what_cannot_be_printed(cluster: TshCluster, joe: Tsh, tmp_path: Path) -> None:
    """Who has not logged in, and a cluster that is not there, get an error and no configuration."""
    stranger = Tsh(tmp_path / "tsh")
    for arguments, text in (
        (["config"], "which proxy?"),
        ([f"--proxy={cluster.proxy}", "config"], "not logged in"),
    ):
        done = stranger.run(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert text in done.stderr
    done = joe.run("--cluster=other", "config")
    assert (done.returncode, done.stdout) == (1, "")
    assert "vouches for no cluster 'other'" in done.stderr
    odd = cluster.person(tmp_path / 'a "home"')
    done = odd.run("config")
    assert (done.returncode, "cannot be named in OpenSSH's configuration" in done.stderr) == (1, True)


# --- the manual, "Using OpenSSH Client" -------------------------------------------------------------------------------

MANUAL = """\
# work is the jump host (proxy). credentials will be obtained from the
# teleport agent.
Host work
    HostName 127.0.0.1
    Port {proxy_port}
    HostKeyAlias db1.main

# connect to nodes in the cluster through the jump
# host (proxy) using the same. credentials will be obtained from the
# teleport agent.
Host *.main
    HostName %h
    Port 3022
    ProxyCommand ssh -p {proxy_port} {login}@work -s proxy:%h:%p
"""


@pytest.fixture
def manual(cluster: TshCluster, joe: Tsh, tmp_path: Path) -> Tsh:
    """Return joe on a machine that is set up as the manual says: known_hosts and ~/.ssh/config.

    ssh finds these beside the home of the user in /etc/passwd, which is no test's to write: an `ssh` that comes first
    in PATH names the two files in their stead. The loopback address has no name, hence the HostKeyAlias.
    """
    exported = cluster.main.tctl("auth", "--type=host", "export")
    assert exported.returncode == 0, exported.stderr
    (tmp_path / "known_hosts").write_text(exported.stdout)
    (tmp_path / "config").write_text(MANUAL.format(proxy_port=cluster.main.ssh_port, login=LOGIN))
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    real = shlex.quote(str(shutil.which("ssh")))
    files = shlex.quote(f"UserKnownHostsFile={tmp_path}/known_hosts")
    wrapper.write_text(
        f"#!/bin/sh\nexec {real} -F {shlex.quote(str(tmp_path / 'config'))} -o {files}"
        ' -o GlobalKnownHostsFile=/dev/null -o BatchMode=yes "$@"\n'
    )
    wrapper.chmod(0o755)
    return Tsh(joe.home, {"PATH": f"{wrapper.parent}:{Path(joe.words()[0]).parent}:/usr/bin:/bin"})


def test_the_manuals_way(manual: Tsh) -> None:
    """`eval $(tsh agent)` and the manual's ProxyCommand: plain ssh reaches the nodes by NAME.CLUSTER."""
    script = f'eval "$(tsh agent)"; ssh {LOGIN}@db2.main "id -un; exit 5"; echo "code $?"; eval "$(tsh agent --kill)"'
    done = manual.run_other("sh", "-c", script)
    assert done.stdout.splitlines()[1:3] == [LOGIN, "code 5"], done
    assert done.stderr == ""


def test_the_manuals_way_needs_the_agent(manual: Tsh) -> None:
    """Without the agent nobody gets in; nor by a name that no host certificate has, such as an address."""
    done = manual.run_other("ssh", f"{LOGIN}@db2.main", "true")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr
    script = f'eval "$(tsh agent)" >&2; ssh {LOGIN}@nosuch.main true; echo "code $?"; eval "$(tsh agent --kill)" >&2'
    done = manual.run_other("sh", "-c", script)
    assert "code 255\n" in done.stdout
    assert "there is no node 'nosuch.main'" in done.stderr
