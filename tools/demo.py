"""`make demo`: a cluster on this machine, a user who signs up and logs in, and the certificate that comes of it.

Everything is real (`teleport start`, `tctl`, `tsh`, HTTPS, ssh-keygen), on free loopback ports and in a temporary
folder that is gone at the end. At a terminal the cluster stays up until Ctrl-C; with CI=true, or without a terminal, it
ends by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyotp

SCRIPTS = Path(sys.executable).parent
USER, PASSWORD = "joe", "correct horse battery staple"
START_SECONDS = 60
_SECRET = re.compile(r'id="secret">([A-Z2-7 ]+)<')
_URL = re.compile(r"https://\S+/web/newuser/\S+")


class Cluster:
    """auth and proxy in one `teleport start`, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        auth, ssh, tunnel, web = free_ports(4)
        self.web = f"127.0.0.1:{web}"
        self.config = folder / "teleport.yaml"
        self.config.write_text(
            json.dumps(
                {
                    "teleport": {
                        "nodename": "localhost",
                        "data_dir": str(folder / "data"),
                        "log": {"severity": "INFO"},
                    },
                    "auth_service": {"cluster_name": "main", "listen_addr": f"127.0.0.1:{auth}"},
                    "ssh_service": {"enabled": False},
                    "proxy_service": {
                        "listen_addr": f"127.0.0.1:{ssh}",
                        "tunnel_listen_addr": f"127.0.0.1:{tunnel}",
                        "web_listen_addr": self.web,
                    },
                },
                indent=2,
            )
        )
        self.log = folder / "teleport.log"
        with self.log.open("wb") as log:
            # A group of its own: Ctrl-C is for the demo, which then ends the cluster.
            command = [str(SCRIPTS / "teleport"), "start", "-c", str(self.config)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True)

    def wait(self) -> None:
        """Wait until it serves."""
        deadline = time.monotonic() + START_SECONDS
        while "ready: " not in self.log.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the cluster did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, as `systemctl stop` does."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_ports(count: int) -> list[int]:
    """Return TCP ports of loopback on which nobody listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(sock.getsockname()[1]) for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def run(arguments: Sequence[str | Path], *, show: str, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
    """Show a command as one would type it, run it, show what it prints, and return that."""
    print(f"\n$ {show}", flush=True)
    done = subprocess.run(
        [str(argument) for argument in arguments],
        input=stdin,
        text=True,
        stdout=subprocess.PIPE,
        stderr=None,
        env={**os.environ, **(env or {})},
        check=False,
    )
    print(done.stdout, end="", flush=True)
    if done.returncode:
        sys.exit(f"{show}: ended with {done.returncode}")
    return done.stdout


def sign_up(url: str, certificate: Path) -> pyotp.TOTP:
    """Open a sign-up link and fill in its form, as a person would in a browser; return what the phone would hold."""
    print(f"\n# The user opens the link, picks a password and scans the QR code:\n#   {url}", flush=True)
    context = ssl.create_default_context(cafile=str(certificate))
    with urllib.request.urlopen(url, context=context, timeout=30) as page:  # noqa: S310 - https, from tctl
        secret = _SECRET.search(page.read().decode())
    if secret is None:
        sys.exit("the sign-up page shows no secret")
    phone = pyotp.TOTP(secret[1].replace(" ", ""))
    form = urllib.parse.urlencode({"password": PASSWORD, "again": PASSWORD, "otp": phone.now()}).encode()
    origin = "{0.scheme}://{0.netloc}".format(urllib.parse.urlsplit(url))
    request = urllib.request.Request(url, form, {"Origin": origin})  # noqa: S310 - https, from tctl
    with urllib.request.urlopen(request, context=context, timeout=30) as answer:  # noqa: S310 - https, from tctl
        print(f"#   {answer.status} {answer.reason}: signed up", flush=True)
    return phone


def demo(folder: Path) -> None:
    """Show the main job from start to end."""
    print("$ teleport start --roles=auth,proxy      # with free ports and a folder of its own", flush=True)
    cluster = Cluster(folder)
    try:
        cluster.wait()
        tctl: list[str | Path] = [SCRIPTS / "tctl", "-c", cluster.config]
        printed = run([*tctl, "users", "add", USER, f"{USER},root"], show=f"tctl users add {USER} {USER},root")
        url = _URL.search(printed)
        if url is None:
            sys.exit("tctl printed no sign-up link")
        certificate = folder / "data" / "web.pem"
        phone = sign_up(url[0], certificate)
        fingerprint = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(_host_and_port(cluster.web)))
        home = folder / "home"
        home.mkdir()
        env = {"HOME": str(home), "SSH_AUTH_SOCK": ""}
        # The code of the sign-up is used up; the next one is good already (RFC 6238 §5.2).
        code = phone.at(int(time.time()) + 30)
        run(
            [SCRIPTS / "tsh", "login", f"--proxy={cluster.web}", f"--user={USER}", "--password-stdin", "--no-agent",
             f"--pin={_sha256(fingerprint)}"],
            show=f"tsh login --proxy={cluster.web} --user={USER}",
            env=env,
            stdin=f"{PASSWORD}\n{code}\n",
        )  # fmt: skip
        (cert,) = (home / ".tsh" / "keys").rglob(f"{USER}.cert")
        shown = cert.relative_to(home)
        run(["ssh-keygen", "-L", "-f", cert], show=f"ssh-keygen -L -f ~/{shlex.quote(str(shown))}")
        run([*tctl, "users", "ls"], show="tctl users ls")
        print("\nSSH sessions through the proxy to nodes come with a later release (CHANGELOG.md).", flush=True)
        if sys.stdin.isatty() and os.environ.get("CI", "") not in ("1", "true"):
            print(f"\nThe cluster runs until Ctrl-C. Try:\n  {SCRIPTS}/tctl -c {cluster.config} get roles", flush=True)
            signal.pause()
    finally:
        cluster.stop()


def _sha256(certificate: bytes) -> str:
    return hashlib.sha256(certificate).digest().hex(":").upper()


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def main() -> None:
    """Run the demo, and leave nothing behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="teleport-demo-"))
    try:
        demo(folder)
    except KeyboardInterrupt:
        print("\nstopped", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
