"""Somebody outside of the cluster, with a home of their own: the link of an invite, a browser, a phone, and tsh."""

from __future__ import annotations

import re
import socket
import ssl
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.client import HTTPResponse
from pathlib import Path

import pyotp

from runtime.cli.tsh_address import Address
from runtime.cli.webclient import TlsTrust, WebClient
from tests.e2e.scenarios.place import API, Object, until
from tests.e2e.scenarios.release import Release
from tests.servers.tsh import Done, Tsh

PASSWORD = "correct horse battery staple"
PAGE_SECONDS = 30.0


def user(name: str, *, logins: tuple[str, ...] = (), roles: tuple[str, ...] = ()) -> Object:
    """Return a document of kind User."""
    spec = {key: [*value] for key, value in (("logins", logins), ("roles", roles)) if value}
    return {"apiVersion": API, "kind": "User", "metadata": {"name": name}, "spec": spec}


@dataclass(frozen=True)
class Someone:
    """A person whom a release knows by that name."""

    release: Release
    name: str
    home: Path
    phones: list[pyotp.TOTP] = field(default_factory=list)
    password: str = PASSWORD
    codes: list[str] = field(default_factory=list)
    """Those that were used."""

    @property
    def shell(self) -> Tsh:
        """The person's command line."""
        return Tsh(self.home / ".tsh", {"HOME": str(self.home), "SSH_AUTH_SOCK": ""})

    def tsh(self, *words: str | Path, stdin: str = "") -> Done:
        """Run tsh to its end."""
        return self.shell.run(*words, stdin=stdin)

    def ssh(self, where: str, *command: str) -> Done:
        """Run a command on a node."""
        return self.tsh("ssh", where, *command)

    def sign_up(self) -> None:
        """Wait for the invite's Secret, open its link, and fill in the form as a browser sends it."""
        url = self.release.secret(f"{self.name}-invite", "url")["url"]
        until(self._reaches_proxy, "the proxy is reached from outside", self.release)
        with self.open(url) as page:
            shown = re.search(r'id="secret">([A-Z2-7 ]+)<', page.read().decode())
        assert shown is not None
        phone = pyotp.TOTP(shown[1].replace(" ", ""))
        # The code of the step before: that of now is left for the login.
        code = phone.at(datetime.now(UTC) - timedelta(seconds=30))
        form = urllib.parse.urlencode({"password": self.password, "again": self.password, "otp": code}).encode()
        with self.open(url, form) as answer:
            assert answer.status == 200
        self.phones.append(phone)

    def log_in(self) -> Done:
        """Log in with the code of now; each code is good once."""
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.codes.append(self.phones[-1].now())
        return self.tsh(
            "login",
            f"--proxy={self.release.web}",
            f"--user={self.name}",
            f"--pin={self._pin()}",
            "--password-stdin",
            stdin=f"{self.password}\n{self.codes[-1]}\n",
        )

    def log_in_again(self) -> Done:
        """Log in once the phone shows another code."""
        until(lambda: self.phones[-1].now() not in self.codes, "another code")
        return self.log_in()

    def nodes(self) -> str:
        """Return what `tsh ls` shows."""
        return self.tsh("ls").stdout

    def until_in(self, where: str) -> None:
        """Wait until a command runs on a node."""
        until(lambda: self.ssh(where, "true").returncode == 0, f"{self.name} gets in as {where}", self.release)

    def until_refused(self, where: str) -> str:
        """Wait until no command runs on a node any more, and return what ssh said."""
        said: list[str] = []

        def refused() -> bool:
            done = self.ssh(where, "true")
            said.append(done.stderr)
            return done.returncode == 255

        until(refused, f"{self.name} is refused as {where}", self.release)
        return said[-1]

    def _reaches_proxy(self) -> bool:
        """Tell whether there is somebody at the address: a Service leads to a pod some time after that is ready."""
        host, _, port = self.release.web.rpartition(":")
        try:
            socket.create_connection((host, int(port)), PAGE_SECONDS).close()
        except OSError:
            return False
        return True

    def _pin(self) -> str:
        """Return the fingerprint of the proxy's certificate, which an administrator would have told."""
        return WebClient(Address.parse(self.release.web), TlsTrust(anything=True)).shown_fingerprint()

    def open(self, url: str, form: bytes | None = None) -> HTTPResponse:
        """Open a page of the proxy as a browser does, or send a form to it. Raises urllib.error.HTTPError."""
        address = urllib.parse.urlsplit(url)
        assert address.netloc == self.release.web, url
        context = ssl.create_default_context(
            cadata=ssl.get_server_certificate((address.hostname or "", address.port or 443))
        )
        request = urllib.request.Request(url, form, {"Origin": f"https://{address.netloc}"})  # noqa: S310 - https
        answer: HTTPResponse = urllib.request.urlopen(request, context=context, timeout=PAGE_SECONDS)  # noqa: S310 - https
        return answer


def newcomer(release: Release, folder: Path, name: str, **rights: tuple[str, ...]) -> Someone:
    """Declare a user with kubectl, and return them signed up and logged in."""
    release.apply(user(name, **rights))
    made = Someone(release, name, folder / name)
    made.sign_up()
    done = made.log_in()
    assert done.returncode == 0, done.stderr
    return made
