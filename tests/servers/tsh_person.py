"""Somebody who runs tsh as a process, at a terminal or without one, and has signed up to a cluster."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pyotp

from runtime.api import methods
from runtime.api.people_messages import SignupQuery, SignupRequest
from runtime.auth.server import AuthOptions
from runtime.core.callers import CallerKind
from tests.servers.processes import Process
from tests.servers.sshd import LOGIN
from tests.servers.webproxy import PASSWORD, WebCluster, web_cluster

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
    query = SignupQuery.model_validate({"token": token, "address": "192.0.2.9"})
    form = await proxy.call(methods.SIGNUP_SHOW, query)
    totp = pyotp.parse_uri(form.otp_uri) if form.otp_uri else pyotp.TOTP(pyotp.random_base32())
    assert isinstance(totp, pyotp.TOTP)
    code = totp.at(cluster.clock.now() - timedelta(seconds=30))
    form_filled = {"token": token, "password": PASSWORD, "otp": code, "address": "192.0.2.9"}
    await proxy.call(methods.SIGNUP_COMPLETE, SignupRequest.model_validate(form_filled))
    return totp


def person_at(cluster: WebCluster, folder: Path) -> Person:
    """Return a person with an empty home."""
    (home := folder / "home").mkdir(mode=0o700)
    return Person(cluster, home)


@asynccontextmanager
async def simple_person(folder: Path) -> AsyncIterator[Person]:
    """Yield a person who has signed up to a cluster without a second factor, so that one can log in often."""
    auth = AuthOptions(address="127.0.0.1", port=0, cluster_name="main", second_factor="off")
    async with web_cluster(folder, auth=auth) as cluster:
        await sign_up(cluster, "jsmith", *sorted({"root", "jsmith", LOGIN}))
        yield person_at(cluster, folder)
