"""`make demo`: the main job on this machine. A node joins a cluster; a declared user logs in and runs a command on it.

Everything is real (`teleport start`, `tctl`, `tsh`, HTTPS, ssh), on free loopback ports and in a temporary folder that
is gone at the end. At a terminal the cluster stays up until Ctrl-C; with CI=true, or without a terminal, it ends by
itself.
"""

from __future__ import annotations

import getpass
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
QUICKSTART = Path(__file__).parents[1] / "examples" / "quickstart"
USER, PASSWORD = "joe", "correct horse battery staple"
NODE = "luna"
START_SECONDS = 60
_SECRET = re.compile(r'id="secret">([A-Z2-7 ]+)<')
PROOF = 'echo "I am $(id -un) on $(hostname), let in as $SSH_TELEPORT_USER"'
NEXT = """
The cluster runs until Ctrl-C. In another terminal:
  export HOME={home} PATH={scripts}:$PATH
  tsh ssh {login}@{node}                    # a shell; exit ends it
  tsh scp README.md {login}@{node}:/tmp/    # a file
  tsh config                                # for plain ssh, scp, rsync, Ansible
  tctl -c {config} get roles
README.md goes on from here."""
_URL = re.compile(r"https://\S+/web/newuser/\S+")


class Teleport:
    """One `teleport start` in a folder of its own. Ctrl-C is for the demo, which then ends it."""

    def __init__(self, folder: Path, config: Mapping[str, Mapping[str, object]], *flags: str) -> None:
        folder.mkdir()
        self.config = folder / "teleport.yaml"
        self.config.write_text(json.dumps(config, indent=2))
        self.log = folder / "teleport.log"
        with self.log.open("wb") as log:
            command = [str(SCRIPTS / "teleport"), "start", "-c", str(self.config), *flags]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True)

    def wait(self) -> None:
        """Wait until it serves."""
        deadline = time.monotonic() + START_SECONDS
        while "ready: " not in self.log.read_text():
            if self._process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"teleport did not start:\n{self.log.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it, as `systemctl stop` does."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Cluster:
    """auth and proxy in one process, as on a cluster's first machine."""

    def __init__(self, folder: Path) -> None:
        auth, ssh, tunnel, web = free_ports(4)
        self.auth = f"127.0.0.1:{auth}"
        self.web = f"127.0.0.1:{web}"
        self.data_dir = folder / "cluster" / "data"
        self.process = Teleport(
            folder / "cluster",
            {
                "teleport": {"nodename": "localhost", "data_dir": str(self.data_dir), "log": {"severity": "INFO"}},
                "auth_service": {"cluster_name": "main", "listen_addr": self.auth},
                "ssh_service": {"enabled": False},
                "proxy_service": {
                    "listen_addr": f"127.0.0.1:{ssh}",
                    "tunnel_listen_addr": f"127.0.0.1:{tunnel}",
                    "web_listen_addr": self.web,
                },
            },
        )


def join(folder: Path, cluster: Cluster, printed: str) -> Teleport:
    """Start a node with what `tctl nodes add` printed, and return it."""
    command = re.search(r"> teleport start (.*)", printed)
    if command is None:
        sys.exit("tctl printed no command to join with")
    labels = "--labels=env=staging,team=web"
    print(f"\n$ teleport start --nodename={NODE} {labels} {command[1]}      # on another machine", flush=True)
    (port,) = free_ports(1)
    config: dict[str, dict[str, object]] = {
        "teleport": {"nodename": NODE, "data_dir": str(folder / NODE / "data"), "log": {"severity": "INFO"}},
        "ssh_service": {"listen_addr": f"127.0.0.1:{port}"},
    }
    return Teleport(folder / NODE, config, labels, *shlex.split(command[1]))


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


def declare(folder: Path, tctl: Sequence[str | Path], login: str) -> str:
    """Declare role and user of the quickstart, as kubectl would, and return the user's sign-up link."""
    run([*tctl, "create", QUICKSTART / "role.yaml"], show="tctl create examples/quickstart/role.yaml")
    document = (QUICKSTART / "user.yaml").read_text()
    path, shown = QUICKSTART / "user.yaml", "examples/quickstart/user.yaml"
    if login != "root":
        # A node that is not root's starts sessions of its own user only.
        path = folder / "user.yaml"
        shown = f"user.yaml      # examples/quickstart/user.yaml with logins: [{login}]"
        path.write_text(document.replace("logins: [joe, root]", f"logins: [{login}]"))
    url = _URL.search(run([*tctl, "create", path], show=f"tctl create {shown}"))
    if url is None:
        sys.exit("tctl printed no sign-up link")
    return url[0]


def log_in(web: str, phone: pyotp.TOTP, env: Mapping[str, str]) -> None:
    """Log in as the user would, at the proxy whose HTTPS is at `web`."""
    fingerprint = _sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(host_and_port(web))))
    run(
        [SCRIPTS / "tsh", "login", f"--proxy={web}", f"--user={USER}", "--password-stdin", "--no-agent",
         f"--pin={fingerprint}"],
        show=f"tsh login --proxy={web} --user={USER}",
        env=env,
        # The code of the sign-up is used up; the next one is good already (RFC 6238 §5.2).
        stdin=f"{PASSWORD}\n{phone.at(int(time.time()) + 30)}\n",
    )  # fmt: skip


def demo(folder: Path) -> None:
    """Show the main job from start to end."""
    login = getpass.getuser()
    running: list[Teleport] = []
    print("$ teleport start --roles=auth,proxy      # with free ports and a folder of its own", flush=True)
    try:
        cluster = Cluster(folder)
        running.append(cluster.process)
        cluster.process.wait()
        tctl: list[str | Path] = [SCRIPTS / "tctl", "-c", cluster.process.config]
        node = join(folder, cluster, run([*tctl, "nodes", "add", "--roles=node"], show="tctl nodes add --roles=node"))
        running.append(node)
        phone = sign_up(declare(folder, tctl, login), cluster.data_dir / "web.pem")
        home = folder / "home"
        home.mkdir()
        env = {"HOME": str(home), "SSH_AUTH_SOCK": ""}
        log_in(cluster.web, phone, env)
        node.wait()
        run([SCRIPTS / "tsh", "ls"], show="tsh ls", env=env)
        command = ["ssh", f"{login}@{NODE}", PROOF]
        printed = run([SCRIPTS / "tsh", *command], show=f"tsh {shlex.join(command)}", env=env)
        if f"I am {login} on {socket.gethostname()}, let in as {USER}" not in printed:
            sys.exit("the command did not run as it should")
        print(
            "\nThat was a command over SSH, as a declared user, with a certificate and no key on the node.", flush=True
        )
        if somebody_watches():
            print(NEXT.format(scripts=SCRIPTS, home=home, login=login, node=NODE, config=cluster.process.config))
            signal.pause()
    finally:
        for process in reversed(running):
            process.stop()


def somebody_watches() -> bool:
    """Return whether there is a person at a terminal who can go on."""
    return sys.stdin.isatty() and os.environ.get("CI", "") not in ("1", "true")


def _sha256(certificate: bytes) -> str:
    return hashlib.sha256(certificate).digest().hex(":").upper()


def host_and_port(address: str) -> tuple[str, int]:
    """Split what tsh takes for a proxy."""
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
