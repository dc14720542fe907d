"""People of a cluster for tests: declared with tctl, certified by the cluster's own authority, logged in as tsh is.

Signing up and logging in over HTTPS has tests of its own and takes seconds; here a certificate is issued as auth does,
by the authority that is in the running cluster's storage (sqlite in data_dir).
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pyotp

from runtime.auth.authorities import LocalAuthorities, read_authorities
from runtime.backend.open import open_backend
from runtime.backend.options import Options, SqliteOptions
from runtime.cli.profile import Home, Keys, Profile
from runtime.cli.tsh_address import Address
from runtime.cli.tsh_messages import AuthorityKeys
from runtime.core.clock import SystemClock
from runtime.pki.claims import UserClaims
from runtime.pki.export import export_authority
from runtime.pki.keys import PrivateKey, generate_key
from runtime.pki.signing import random_serial, sign_user
from tests.servers.teleport import Teleport, run

T = TypeVar("T")
CLOCK = SystemClock()
HOUR = timedelta(hours=1)
PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class Person:
    """Somebody with a certificate: `key` and `certificate` are the contents of OpenSSH files."""

    name: str
    cluster: str
    private: PrivateKey
    certificate: bytes
    known_hosts: str
    """A line of known_hosts that believes any host of the cluster."""
    host_authorities: tuple[str, ...]

    def write(self, folder: Path) -> Path:
        """Write key, key-cert.pub and known_hosts into a folder, and return the key's path."""
        folder.mkdir(parents=True, exist_ok=True)
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_text(self.private.to_openssh())
        (folder / "key.pub").write_text(self.private.public.line + "\n")
        (folder / "key-cert.pub").write_bytes(self.certificate)
        (folder / "known_hosts").write_text(self.known_hosts)
        return key

    def ssh_options(self, folder: Path) -> list[str]:
        """Write the files and return ssh's options that use these and nothing else of this machine."""
        key = self.write(folder)
        options = {
            "IdentityFile": key,
            "CertificateFile": f"{key}-cert.pub",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "UserKnownHostsFile": folder / "known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": 20,
        }
        return ["-F", "none", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]

    def log_in(self, home: Path, proxy: Teleport, user: str | None = None) -> None:
        """Leave in the folder `home` (TELEPORT_HOME) what `tsh login` at that proxy leaves there."""
        profile = Profile(
            proxy=Address.parse(proxy.web_address),
            user=user or self.name,
            cluster=self.cluster,
            ssh_port=proxy.ssh_port,
            authorities=(AuthorityKeys(self.cluster, "host", self.host_authorities),),
            pin=proxy_pin(proxy),
        )
        text = self.certificate.decode().strip() + "\n"
        Home(home).store(profile, Keys(self.private.to_openssh(), f"{self.private.public.line}\n", text))


def declare(teleport: Teleport, *documents: dict[str, Any]) -> None:
    """Create or replace resources with tctl; each document is `{"kind", "metadata", "spec"}`."""
    text = "\n---\n".join(json.dumps({"apiVersion": "teleport.internal/v1", **each}) for each in documents)
    done = teleport.tctl("create", "--force", "-f", "-", stdin=text)
    assert done.returncode == 0, done.stderr


def user(name: str, logins: Sequence[str], roles: Sequence[str] = ()) -> dict[str, Any]:
    """Return a document of kind User."""
    return {"kind": "User", "metadata": {"name": name}, "spec": {"logins": list(logins), "roles": list(roles)}}


def role(name: str, **spec: Any) -> dict[str, Any]:
    """Return a document of kind Role, of `allow`, `deny` and `options`."""
    return {"kind": "Role", "metadata": {"name": name}, "spec": spec}


def sign_up(proxy: Teleport, url: str) -> pyotp.TOTP:
    """Complete a sign-up link with PASSWORD, as a browser would; return what the phone then holds."""
    context = ssl.create_default_context(cafile=str(proxy.data_dir / "web.pem"))
    with urllib.request.urlopen(url, context=context, timeout=30) as page:  # noqa: S310 - https, from tctl
        secret = re.search(r'id="secret">([A-Z2-7 ]+)<', page.read().decode())
    assert secret is not None
    phone = pyotp.TOTP(secret[1].replace(" ", ""))
    origin = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url))
    while True:
        # The code of the step before: that of now is left for the login. A step that ends meanwhile makes it too old.
        began = CLOCK.now()
        code = phone.at(began - timedelta(seconds=30))
        form = urllib.parse.urlencode({"password": PASSWORD, "again": PASSWORD, "otp": code}).encode()
        request = urllib.request.Request(url, form, {"Origin": origin})  # noqa: S310 - https, from tctl
        try:
            with urllib.request.urlopen(request, context=context, timeout=30) as answer:  # noqa: S310 - https, from tctl
                assert answer.status == 200
        except urllib.error.HTTPError as error:
            if error.code != 400 or phone.timecode(began) == phone.timecode(CLOCK.now()):
                raise
        else:
            return phone


def tsh_login(proxy: Teleport, home: Path, name: str, phone: pyotp.TOTP) -> subprocess.CompletedProcess[str]:
    """Log in as a person does, with the code of now."""
    return run(
        "tsh",
        "login",
        f"--proxy={proxy.web_address}",
        f"--user={name}",
        "--password-stdin",
        f"--pin={proxy_pin(proxy)}",
        stdin=f"{PASSWORD}\n{phone.now()}\n",
        env={"TELEPORT_HOME": str(home), "SSH_AUTH_SOCK": ""},
    )


def authorities_of(teleport: Teleport, storage: Options | None = None) -> LocalAuthorities:
    """Return the cluster's authorities, able to sign, out of the storage of a process with the role auth."""
    options = storage or SqliteOptions(str(teleport.data_dir / "backend.sqlite"))

    async def read() -> LocalAuthorities:
        backend = await open_backend(options, clock=CLOCK)
        try:
            return await read_authorities(backend)
        finally:
            await backend.close()

    return in_thread(read())


def certify(
    teleport: Teleport,
    name: str,
    logins: Sequence[str],
    *,
    roles: Sequence[str] = (),
    ttl: timedelta = HOUR,
    age: timedelta = timedelta(),
    storage: Options | None = None,
    **claims: Any,
) -> Person:
    """Return somebody with a certificate for these logins, issued `age` ago; declared or not is another matter.

    `storage` is the cluster's where that is not the file in data_dir; `claims` are further fields of
    `runtime.pki.claims.UserClaims`; all is permitted that is not said.
    """
    authorities = authorities_of(teleport, storage)
    permitted = {"permit_pty": True, "permit_port_forwarding": True, "permit_agent_forwarding": True}
    permitted["join_sessions"] = True
    said = UserClaims(
        user=name,
        cluster=authorities.cluster,
        logins=tuple(logins),
        roles=tuple(roles) or (f"user:{name}",),
        ttl=ttl,
        **{**permitted, **claims},
    )
    key = generate_key()
    signer = authorities.user.signer
    certificate = sign_user(said, key.public, signer=signer, now=CLOCK.now() - age, serial=random_serial())
    host = authorities.host.signer.public
    return Person(
        name=name,
        cluster=authorities.cluster,
        private=key,
        certificate=certificate.line,
        known_hosts=f"@cert-authority * {host.key.line}\n" + export_authority(host) + "\n",
        host_authorities=(host.key.line,),
    )


def proxy_pin(proxy: Teleport) -> str:
    """Return the fingerprint of the certificate that a proxy serves HTTPS with."""
    from runtime.cli.webclient import TlsTrust, WebClient

    return WebClient(Address.parse(proxy.web_address), TlsTrust(anything=True)).shown_fingerprint()


def in_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a thread, so that tests with a running loop of their own may call this."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
