"""`tsh` as processes against a real proxy and a real auth: login, status, agent, logout, and what can go wrong.

What a proxy could lie about is in tests/unit/cli/test_tsh_login.py, with a stand-in.
"""

from __future__ import annotations

import asyncio
import fcntl
import http.client
import json
import os
import pty
import re
import shlex
import signal
import ssl
import subprocess
import sys
import termios
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyotp
import pytest

from runtime.api import messages as m
from runtime.api import methods
from runtime.auth.server import AuthOptions
from runtime.cli.profile import Home, Keys, Profile
from runtime.cli.tsh_address import Address
from runtime.core.callers import CallerKind
from runtime.pki.keys import generate_key
from tests.servers.processes import Process, free_port
from tests.servers.sshd import LOGIN, Sshd
from tests.servers.teleport import Teleport, run
from tests.servers.webproxy import PASSWORD, WebCluster, web_cluster
from tests.unit.cli.tsh_proxy import Cluster

TSH = Path(sys.executable).parent / "tsh"
SECONDS = 60


@dataclass
class Done:
    """A process that has ended."""

    code: int
    out: str
    err: str


@dataclass
class Person:
    """Somebody with a home of their own who runs tsh."""

    cluster: WebCluster
    home: Path
    user: str = "jsmith"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def proxy(self) -> str:
        """The proxy's address as one types it."""
        return f"localhost:{self.cluster.port}"

    @property
    def certificate(self) -> Path:
        """Where the manual says that the certificate is."""
        return self.home / ".tsh" / "keys" / self.proxy / f"{self.user}.cert"

    @property
    def all_environment(self) -> dict[str, str]:
        """The environment of the person's processes."""
        outer = {name: value for name, value in os.environ.items() if not name.startswith(("SSH_", "TELEPORT_"))}
        return {**outer, "HOME": str(self.home), **self.environment}

    async def run(self, *command: str | Path, stdin: str = "") -> Done:
        """Run a program to its end, without a terminal."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.all_environment,
            start_new_session=True,
        )
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate(stdin.encode())
        return Done(process.returncode or 0, out.decode(), err.decode())

    async def tsh(self, *arguments: str, stdin: str = "") -> Done:
        """Run tsh."""
        return await self.run(TSH, *arguments, stdin=stdin)

    async def tsh_with_clock(self, ahead: timedelta, *arguments: str, stdin: str = "") -> Done:
        """Run tsh on a machine whose clock is that much ahead."""
        code = (
            "import sys\n"
            "from datetime import timedelta\n"
            "from runtime.core.clock import SystemClock\n"
            "now, ahead = SystemClock.now, timedelta(seconds=float(sys.argv.pop(1)))\n"
            "SystemClock.now = lambda clock: now(clock) + ahead\n"
            "from runtime.cli.tsh import main\n"
            "main()\n"
        )
        return await self.run(sys.executable, "-c", code, str(ahead.total_seconds()), *arguments, stdin=stdin)

    async def pin(self) -> str:
        """Return the fingerprint of the proxy's certificate as an administrator reads it with openssl."""
        shown = await self.run("openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", self.cluster.pem)
        return shown.out.strip().partition("=")[2]

    async def log_in(self, *arguments: str, code: str = "", password: str = PASSWORD) -> Done:
        """Log in by a pipe, with the proxy's certificate pinned."""
        command = [f"--proxy={self.proxy}", f"--user={self.user}", "login", "--password-stdin"]
        return await self.tsh(*command, f"--pin={await self.pin()}", *arguments, stdin=f"{password}\n{code}\n")


class Terminal:
    """A terminal with a tsh in it: what it shows, and keys to type."""

    def __init__(self, person: Person, *arguments: str) -> None:
        self._person = person
        self._arguments = arguments
        self._master, self._slave = pty.openpty()
        self.shown = ""
        self._more = asyncio.Event()

    async def __aenter__(self) -> Terminal:
        """Start tsh as the terminal's foreground process."""
        slave = self._slave
        self._process = await asyncio.create_subprocess_exec(
            TSH,
            *self._arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=self._person.all_environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),  # its controlling terminal: /dev/tty
        )
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it if it has not ended, and close the terminal."""
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)

    async def expect(self, text: str) -> None:
        """Wait until the terminal shows a text that it did not show at the last call."""
        try:
            async with asyncio.timeout(SECONDS):
                while text not in self.shown[self._seen :]:
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"{text!r} is not shown:\n{self.shown}") from None
        self._seen = self.shown.index(text, self._seen) + len(text)

    _seen = 0

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    async def end(self) -> int:
        """Wait until tsh ends, and return its exit code."""
        async with asyncio.timeout(SECONDS):
            return await self._process.wait()

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def _read(self) -> None:
        with suppress(OSError):
            self.shown += os.read(self._master, 65536).decode(errors="replace").replace("\r\n", "\n")
        self._more.set()


@contextmanager
def ssh_agent(folder: Path) -> Iterator[dict[str, str]]:
    """Run a real ssh-agent and yield the environment that leads to it."""
    path = folder / "agent"
    with Process(["ssh-agent", "-D", "-a", path], log=folder / "agent.log") as process:
        process.wait_until(path.is_socket, timeout=10)
        yield {"SSH_AUTH_SOCK": str(path)}


async def sign_up(cluster: WebCluster, user: str, *logins: str) -> pyotp.TOTP:
    """Invite a user with these logins and complete the sign-up; the code of half a minute ago is used up."""
    token = (await cluster.invite(user, *logins)).rsplit("/", 1)[1]
    proxy = cluster.client(CallerKind.PROXY)
    query = m.SignupQuery.model_validate({"token": token, "address": "192.0.2.9"})
    form = await proxy.call(methods.SIGNUP_SHOW, query)
    totp = pyotp.parse_uri(form.otp_uri) if form.otp_uri else pyotp.TOTP(pyotp.random_base32())
    assert isinstance(totp, pyotp.TOTP)
    code = totp.at(cluster.clock.now() - timedelta(seconds=30))
    form_filled = {"token": token, "password": PASSWORD, "otp": code, "address": "192.0.2.9"}
    await proxy.call(methods.SIGNUP_COMPLETE, m.SignupRequest.model_validate(form_filled))
    return totp


def person_at(cluster: WebCluster, folder: Path) -> Person:
    """Return a person with an empty home."""
    (home := folder / "home").mkdir(mode=0o700)
    return Person(cluster, home)


@pytest.fixture
async def simple(tmp_path: Path) -> AsyncIterator[Person]:
    """Yield a person who has signed up to a cluster without a second factor, so that one can log in often."""
    auth = AuthOptions(address="127.0.0.1", port=0, cluster_name="main", second_factor="off")
    async with web_cluster(tmp_path, auth=auth) as cluster:
        await sign_up(cluster, "jsmith", *sorted({"root", "jsmith", LOGIN}))
        yield person_at(cluster, tmp_path)


async def test_transcript_of_the_manual(tmp_path: Path) -> None:
    """The manual's login and its ssh-keygen -L, at a terminal: fingerprint, password and code, which are not shown."""
    async with web_cluster(tmp_path) as cluster:
        totp = await sign_up(cluster, "jsmith", "root", "jsmith")
        person = person_at(cluster, tmp_path)
        pin = await person.pin()
        code = totp.at(cluster.clock.now())
        async with Terminal(person, f"--proxy={person.proxy}", "--user=jsmith", "login") as terminal:
            await terminal.expect(f"Its fingerprint is SHA256:{pin}\n")
            await terminal.expect("(yes/no) ")
            terminal.type("maybe\n")
            await terminal.expect("(yes/no) ")
            terminal.type("yes\n")
            await terminal.expect("Enter password for Teleport user jsmith: ")
            assert not terminal.echoes
            terminal.type(f"{PASSWORD}\n")
            await terminal.expect("Enter your OTP token: ")
            assert not terminal.echoes
            terminal.type(f"{code}\n")
            assert await terminal.end() == 0, terminal.shown
            await terminal.expect("Valid until:")
            assert terminal.echoes
            assert PASSWORD not in terminal.shown
            assert code not in terminal.shown
        shown = await person.run("ssh-keygen", "-L", "-f", person.certificate)
        assert re.search(r"Type: ssh-ed25519-cert-v01@openssh\.com user certificate", shown.out)
        assert re.search(r"Public key: ED25519-CERT SHA256:", shown.out)
        assert re.search(r"Signing CA: ED25519 SHA256:", shown.out)
        assert 'Key ID: "jsmith"' in shown.out
        assert re.search(r"Principals:\s+jsmith\s+root\s+Critical Options: \(none\)", shown.out)
        status = await person.tsh("status")
        assert (status.code, status.err) == (0, "")
        assert re.search(r"^> Proxy: +localhost:\d+\n +User: +jsmith\n +Cluster: +main\n", status.out)
        assert re.search(
            r"Logins: +jsmith, root\n +Roles: +user:jsmith\n +Valid until: .* UTC \(2[23]h.* left\)", status.out
        )
        # The next login asks neither for the fingerprint nor for what the profile knows.
        async with Terminal(person, "login") as terminal:
            await terminal.expect("Enter password for Teleport user jsmith: ")
            assert "fingerprint" not in terminal.shown


def test_from_the_invite_to_the_login(tmp_path: Path) -> None:
    """The manual's way with nothing but processes: teleport start, tctl users add, the sign-up page, tsh login."""
    with Teleport(tmp_path / "teleport", ("auth", "proxy")).start() as teleport:
        added = teleport.tctl("users", "add", "jsmith", "root,jsmith")
        found = re.search(r"https://[^/\s]+(/web/newuser/\S+)", added.stdout)
        assert found, added.stderr
        trusted = ssl.create_default_context(cafile=teleport.data_dir / "web.pem")
        connection = http.client.HTTPSConnection("127.0.0.1", teleport.web_port, context=trusted, timeout=SECONDS)
        connection.request("GET", found[1])
        secret = re.search(r"secret=([A-Z2-7]+)", connection.getresponse().read().decode())
        assert secret
        totp = pyotp.TOTP(secret[1])
        code = totp.at(datetime.now(UTC) - timedelta(seconds=30))
        form = urllib.parse.urlencode({"password": PASSWORD, "again": PASSWORD, "otp": code})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"https://{teleport.web_address}"}
        connection.request("POST", found[1], form, headers)
        assert connection.getresponse().status == 200
        connection.close()
        login = run(
            "tsh",
            *(f"--proxy=localhost:{teleport.web_port}", "--user=jsmith", "login", "--password-stdin", "--no-agent"),
            stdin=f"{PASSWORD}\n{totp.at(datetime.now(UTC))}\n",
            env={"TELEPORT_HOME": str(tmp_path / "tsh"), "SSL_CERT_FILE": str(teleport.data_dir / "web.pem")},
        )
        assert (login.returncode, login.stderr) == (0, "")
        assert re.search(r"Logins: +jsmith, root\n", login.stdout)
        certificate = tmp_path / "tsh" / "keys" / f"localhost:{teleport.web_port}" / "jsmith.cert"
        shown = subprocess.run(["ssh-keygen", "-L", "-f", certificate], capture_output=True, text=True, check=True)
        assert 'Key ID: "jsmith"' in shown.stdout


async def test_login_status_agent_logout(simple: Person, tmp_path: Path) -> None:
    """One life of a login: the running ssh-agent gets the certificate, the JSON tells it, logging out takes it all."""
    with ssh_agent(tmp_path) as simple.environment:
        login = await simple.log_in("--format=json", "--ttl=90")
        assert (login.code, login.err) == (0, "")
        told = json.loads(login.out)
        assert (told["user"], told["cluster"], told["logins"]) == ("jsmith", "main", sorted({"root", "jsmith", LOGIN}))
        left = datetime.fromisoformat(told["valid_before"]) - datetime.now(UTC)
        assert timedelta(minutes=88) < left <= timedelta(minutes=90)
        listed = await simple.run("ssh-add", "-l")
        assert f"teleport:jsmith@{simple.proxy} (ED25519-CERT)" in listed.out
        assert json.loads((await simple.tsh("status", "--format=json")).out) == [told]
        await simple.log_in()
        assert len((await simple.run("ssh-add", "-l")).out.splitlines()) == 1, "the older login is still in the agent"
        logout = await simple.tsh("logout")
        assert (logout.code, logout.err) == (0, "")
        assert f"removed teleport:jsmith@{simple.proxy} from the ssh-agent\n" in logout.out
        assert f"removed {simple.certificate}\n" in logout.out
        assert (await simple.run("ssh-add", "-l")).out == "The agent has no identities.\n"
    assert not [path for path in simple.home.rglob("*") if path.name.startswith("jsmith")]
    status = await simple.tsh("status")
    assert status.code == 1
    assert "not logged in" in status.out
    assert f"hint: Log in: tsh --proxy={simple.proxy} --user=jsmith login\n" in status.err
    again = await simple.tsh("logout")
    assert (again.code, again.out, again.err) == (0, "", "Nobody was logged in.\n")


async def test_agent_for_a_shell(simple: Person) -> None:
    """`tsh agent` is what the manual says: its output, pasted into a shell, leads OpenSSH to the key."""
    assert (await simple.tsh("agent")).code == 1
    await simple.log_in("--no-agent")
    tsh = shlex.quote(str(TSH))
    script = f'eval "$({tsh} agent)"; ssh-add -l; eval "$({tsh} agent --kill)"; ssh-add -l'
    shell = await simple.run("sh", "-c", script)
    lines = shell.out.splitlines()
    assert re.fullmatch(r"Agent pid \d+", lines[0])
    assert f"teleport:jsmith@{simple.proxy} (ED25519-CERT)" in lines[1]
    assert lines[2] == f"{lines[0]} killed"
    assert shell.code == 2, "the agent still answers"
    started = json.loads((await simple.tsh("agent", "--format=json")).out)
    simple.environment = {name: str(value) for name, value in started.items()}
    try:
        assert f"teleport:jsmith@{simple.proxy}" in (await simple.run("ssh-add", "-l")).out
        killed = await simple.tsh("agent", "--kill", "--format=json")
        assert json.loads(killed.out) == {"killed": started["SSH_AGENT_PID"]}
        assert (await simple.run("ssh-add", "-l")).code == 2
    finally:
        with suppress(ProcessLookupError):
            os.kill(started["SSH_AGENT_PID"], signal.SIGTERM)


async def test_openssh_uses_the_files(simple: Person, tmp_path: Path) -> None:
    """A real sshd that trusts the user authority lets `ssh -i KEY` in, and nobody after logging out.

    ssh finds the certificate by its name, and knows the host by ~/.tsh/known_hosts.
    """
    cluster = simple.cluster
    await simple.log_in("--no-agent")
    node = cluster.identity(CallerKind.NODE)
    users = next(each for each in node.authorities if each.type == "user")
    (folder := tmp_path / "sshd").mkdir()
    key = simple.certificate.with_suffix("")
    with Sshd(
        folder,
        host_key=node.key.get_secret_value(),
        host_certificate=node.host_certificate.encode(),
        trusted_user_ca_keys="".join(f"{line}\n" for line in users.keys),
    ) as sshd:
        ssh = [
            *("ssh", "-F", "none", "-p", str(sshd.port), "-i", str(key), "-o", "IdentitiesOnly=yes"),
            *("-o", f"UserKnownHostsFile={simple.home}/.tsh/known_hosts", "-o", "GlobalKnownHostsFile=/dev/null"),
            *("-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlias=localhost.main", "-o", "BatchMode=yes"),
            *("-o", "IdentityAgent=none", f"{LOGIN}@127.0.0.1", "echo in"),
        ]
        done = await simple.run(*ssh)
        assert (done.code, done.out) == (0, "in\n"), done.err + sshd.log()
        await simple.tsh("logout")
        assert (await simple.run(*ssh)).code == 255


async def test_wrong_answers(tmp_path: Path) -> None:
    """A wrong password, a wrong code, a code used twice and a locked user each end with 1, auth's words and a hint."""
    async with web_cluster(tmp_path) as cluster:
        totp = await sign_up(cluster, "jsmith")
        person = person_at(cluster, tmp_path)
        code = totp.at(cluster.clock.now() + timedelta(seconds=30))
        for wrong in (
            await person.log_in(code=code, password="not it"),
            await person.log_in(code="000000" if code != "000000" else "000001"),
        ):
            assert (wrong.code, wrong.out) == (1, "")
            assert wrong.err.startswith("error: wrong user name, password or one-time password\nhint: ")
        assert not (person.home / ".tsh" / "keys").exists()
        assert (await person.log_in(code=code)).code == 0
        key = person.certificate.read_text()
        reused = await person.log_in(code=code)
        assert (reused.code, reused.err.splitlines()[0]) == (1, "error: wrong user name, password or one-time password")
        assert person.certificate.read_text() == key, "a login that failed has changed the one before"
        for _ in range(5):
            locked = await person.log_in(code="000000")
        assert locked.code == 1
        assert locked.err.startswith("error: locked after ")
        assert "hint: Wait" in locked.err
        person.user = "nobody"
        assert (await person.log_in()).code == 1


@pytest.mark.parametrize("prompt", ["(yes/no) ", "password", "OTP token"])
async def test_ctrl_c(tmp_path: Path, prompt: str) -> None:
    """Ctrl-C at any prompt ends with 130, leaves no file, and gives the terminal back as it was."""
    async with web_cluster(tmp_path) as cluster:
        person = person_at(cluster, tmp_path)
        async with Terminal(person, f"--proxy={person.proxy}", "--user=jsmith", "login") as terminal:
            for expected, answer in (("(yes/no) ", "yes\n"), ("password", "secret\n"), ("OTP token", "")):
                await terminal.expect(expected)
                if expected == prompt:
                    terminal.type("\x03")
                    break
                terminal.type(answer)
            assert await terminal.end() == 130
            assert terminal.echoes
            assert "Traceback" not in terminal.shown
        assert list(person.home.iterdir()) == []


async def test_without_a_terminal(simple: Person) -> None:
    """In a script an unknown certificate is no question: exit 1, its fingerprint, and the option that trusts it."""
    refused = await simple.tsh(
        f"--proxy={simple.proxy}", "--user=jsmith", "login", "--password-stdin", stdin=f"{PASSWORD}\n"
    )
    assert (refused.code, refused.out) == (1, "")
    pin = await simple.pin()
    assert f"tsh login --proxy={simple.proxy} --pin=SHA256:{pin}" in refused.err
    asked = await simple.tsh(f"--proxy={simple.proxy}", "--user=jsmith", "login", f"--pin={pin}")
    assert asked.code == 1
    assert asked.err.startswith("error: there is no terminal to ask for the password\nhint: ")
    assert "--password-stdin" in asked.err
    assert not (simple.home / ".tsh").exists()


async def test_a_proxy_that_shows_another_certificate(simple: Person) -> None:
    """Once pinned, a changed certificate is refused with both fingerprints; --pin takes the new one."""
    assert (await simple.log_in()).code == 0
    old = await simple.pin()
    simple.cluster.pem.unlink()
    await simple.cluster.proxy.reload()
    new = await simple.pin()
    refused = await simple.tsh("login", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert refused.code == 1
    assert f"pinned: SHA256:{old}\nshown:  SHA256:{new}\n" in refused.err
    assert "hint: Somebody may be between you and the proxy." in refused.err
    insecure = await simple.tsh("login", "--insecure", "--password-stdin", stdin=f"{PASSWORD}\n")
    assert insecure.code == 0
    assert insecure.err.startswith("warning: --insecure")
    assert new in insecure.err
    assert (await simple.tsh("login", "--password-stdin", stdin=f"{PASSWORD}\n")).code == 1
    assert (await simple.log_in()).code == 0
    assert (await simple.tsh("login", "--password-stdin", stdin=f"{PASSWORD}\n")).code == 0


async def test_a_certificate_that_the_machine_trusts(simple: Person) -> None:
    """Where an authority of the machine vouches for the proxy nothing is asked and nothing pinned."""
    simple.environment = {"SSL_CERT_FILE": str(simple.cluster.pem)}
    command = [f"--proxy={simple.proxy}", "--user=jsmith", "login", "--password-stdin"]
    assert (await simple.tsh(*command, stdin=f"{PASSWORD}\n")).code == 0
    simple.environment = {}
    assert (await simple.tsh(*command, stdin=f"{PASSWORD}\n")).code == 1


async def test_nobody_at_the_address(simple: Person) -> None:
    """A proxy that is away, and one whose auth is away, end with 1 and say what to look at."""
    away = await simple.tsh(f"--proxy=localhost:{free_port()}", "login")
    assert (away.code, away.out) == (1, "")
    assert "cannot be reached: nobody listens there\nhint: " in away.err
    await simple.cluster.auth.stop()
    without_auth = await simple.log_in()
    assert without_auth.code == 1
    assert without_auth.err.startswith("error: ")
    assert "Traceback" not in without_auth.err


async def test_a_clock_hours_off(simple: Person) -> None:
    """By a clock that is hours behind nothing would be valid: refused before anybody is asked, with the right time.

    Some hours ahead there is a warning; and what was valid then, expires when the clock passes its end.
    """
    behind = await simple.tsh_with_clock(timedelta(hours=-3), "login", f"--proxy={simple.proxy}", "--insecure")
    assert behind.code == 1
    assert re.search(
        r"error: this machine's clock is (3h|2h59m)\S* behind the cluster's: a certificate would", behind.err
    )
    assert f"there it is {datetime.now(UTC):%Y-%m-%d}" in behind.err
    assert "timedatectl" in behind.err
    assert '"event":"auth"' not in simple.cluster.events()
    command = [f"--proxy={simple.proxy}", "--user=jsmith", "login", "--password-stdin", "--insecure", "--ttl=180"]
    ahead = await simple.tsh_with_clock(timedelta(hours=2), *command, stdin=f"{PASSWORD}\n")
    assert ahead.code == 0
    assert re.search(r"warning: this machine's clock is (2h|1h59m)\S* ahead of the cluster's", ahead.err)
    assert (await simple.tsh("status")).code == 0
    expired = await simple.tsh_with_clock(timedelta(hours=4), "status")
    assert expired.code == 1
    assert re.search(r"\(EXPIRED 1h\S* ago\)", expired.out) or "(EXPIRED 59m" in expired.out


async def test_an_expired_certificate(simple: Person) -> None:
    """An expired login is marked by `tsh status`, which ends with 1; `tsh agent` refuses it; one can log out of it."""
    then = datetime.now(UTC) - timedelta(hours=2)
    key, cluster = generate_key(), Cluster(now=lambda: then)
    said = cluster.login({"user": "jsmith", "public_key": key.public.line, "ttl": 60})
    home = Home(simple.home / ".tsh")
    home.store(
        Profile(Address.parse(simple.proxy), "jsmith", cluster="main"),
        Keys(key.to_openssh(), key.public.line, said["certificate"]),
    )
    status = await simple.tsh("status")
    assert status.code == 1
    assert re.search(r"Valid until: .* UTC \(EXPIRED 1h59m\S* ago\)", status.out)
    assert status.err.startswith("error: the certificate expired at ")
    assert "hint: Log in: tsh" in status.err
    assert json.loads((await simple.tsh("status", "--format=json")).out)[0]["valid"] is False
    agent = await simple.tsh("agent")
    assert (agent.code, agent.out) == (1, "")
    assert (await simple.tsh("logout")).out.count("removed ") == 4


async def test_logins_at_once(simple: Person) -> None:
    """Of four logins at once each succeeds, and what is left is one whole login: key, public key and certificate."""
    pin = await simple.pin()
    command = [f"--proxy={simple.proxy}", "--user=jsmith", "login", "--password-stdin", f"--pin={pin}"]
    done = await asyncio.gather(*(simple.tsh(*command, stdin=f"{PASSWORD}\n") for _ in range(4)))
    assert [each.code for each in done] == [0] * 4, [each.err for each in done]
    key = simple.certificate.with_suffix("")
    private = await simple.run("ssh-keygen", "-y", "-f", key)
    public = key.with_suffix(".pub").read_text()
    assert private.out.split()[:2] == public.split()[:2]
    named = (await simple.run("ssh-keygen", "-l", "-f", key.with_suffix(".pub"))).out.split()[1]
    assert f"Public key: ED25519-CERT {named}\n" in (await simple.run("ssh-keygen", "-L", "-f", simple.certificate)).out


async def test_an_agent_that_is_away(simple: Person) -> None:
    """A login without the agent that SSH_AUTH_SOCK names is a login, with a warning; --no-agent has none."""
    simple.environment = {"SSH_AUTH_SOCK": str(simple.home / "gone")}
    login = await simple.log_in()
    assert login.code == 0
    assert login.err.startswith("warning: the key was not loaded into an agent: no ssh-agent answers")
    assert (await simple.log_in("--no-agent")).err == ""
    logout = await simple.tsh("logout")
    assert logout.code == 0
    assert logout.err.startswith("warning: no key was removed from an agent")


async def test_killed_while_it_waits(simple: Person) -> None:
    """A login that is killed at its prompt leaves the one before as it was."""
    assert (await simple.log_in()).code == 0
    before = simple.certificate.read_text()
    async with Terminal(simple, "login") as terminal:
        await terminal.expect("password")
        terminal._process.send_signal(signal.SIGKILL)
        assert await terminal.end() == -signal.SIGKILL
    assert simple.certificate.read_text() == before
    assert (await simple.tsh("status")).code == 0


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["login", "--ttl=59s"], "59s is outside of the limits, 1m to 30h"),
        (["login", "--ttl=1801"], "30h1m is outside of the limits"),
        (["--ttl=soon", "login"], "'soon' is not a duration"),
        (["login", "--format=xml"], "'xml' is not one of"),
        (["login", "secret"], "unexpected extra argument"),
        (["ssh", "root@luna"], "No such command 'ssh'"),
        (["ls"], "No such command 'ls'"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
)
async def test_misuse(tmp_path: Path, words: list[str], match: str) -> None:
    """A wrong command line, and a command of a later release, end with 2."""
    cluster = WebCluster.__new__(WebCluster)  # none is called
    done = await Person(cluster, tmp_path).tsh(*words)
    assert (done.code, done.out) == (2, "")
    assert match in done.err


async def test_other_mistakes(tmp_path: Path) -> None:
    """What can be said and not be done ends with 1 and a hint."""
    person = Person(WebCluster.__new__(WebCluster), tmp_path)
    for words, match in (
        (["login"], "error: which proxy?\nhint: "),
        (["--proxy=../../x", "login"], "is not the address of a proxy"),
        (["--proxy=localhost", "--user=../../x", "login"], "cannot be the name of a Teleport user"),
        (["login", "--proxy=localhost", "--pin=abc"], "is not a SHA-256 fingerprint"),
        (["status"], "error: not logged in\nhint: "),
        (["logout", "--proxy=other"], "error: proxy other:3080 is not known here\nhint: "),
        (["agent"], "which proxy?"),
    ):
        done = await person.tsh(*words)
        assert (done.code, done.out) == (1, "")
        assert match in done.err
    assert (await person.run("ls", "-A", tmp_path)).out == ""


async def test_completion(tmp_path: Path) -> None:
    """A shell that loads the script, and then asks, is told the commands and options that there are."""
    person = Person(WebCluster.__new__(WebCluster), tmp_path)
    script = await person.tsh("completion", "bash")
    assert (await person.run("bash", "-n", stdin=script.out)).code == 0
    for typed, expected in (("tsh lo", {"login", "logout"}), ("tsh login --no", {"--no-agent"})):
        words = typed.split()
        person.environment = {"_TSH_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1)}
        assert {line.partition(",")[2] for line in (await person.tsh()).out.splitlines()} == expected


async def test_a_login_loads_little(simple: Person) -> None:
    """What takes long to import is not imported for a login."""
    code = (
        "import sys\n"
        "from runtime.cli.tsh import main\n"
        "try: main()\n"
        "finally: print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    done = await simple.run(
        sys.executable, "-c", code, f"--proxy={simple.proxy}", "--user=jsmith", "login", "--password-stdin",
        f"--pin={await simple.pin()}", stdin=f"{PASSWORD}\n",
    )  # fmt: skip
    assert done.code == 0
    loaded = set(done.err.split())
    assert {"ssl", "cryptography"} <= loaded
    assert not loaded & {"pydantic", "asyncssh", "aiohttp", "asyncio", "boto3", "grpc", "kubernetes"}
