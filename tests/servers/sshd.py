"""A real sshd on a loopback port, and the real ssh to try it with: as root or as an ordinary user, whoever runs it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from runtime.pki.export import export_authority
from runtime.pki.trust import AuthorityKey
from tests.servers.processes import Process, free_port, listens

LOGIN = pwd.getpwuid(os.getuid()).pw_name
"""The only login that an sshd of an ordinary user can let in; root's sshd takes it too."""

_PRIVILEGE_SEPARATION = Path("/run/sshd")
"""Where an sshd of root locks its unprivileged half in; the system service makes it when it starts."""

# Certificates only: whatever else the machine's user could log in with is off.
_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
HostCertificate {folder}/host_key-cert.pub
TrustedUserCAKeys {folder}/user_ca_keys
AuthorizedKeysFile none
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
LogLevel DEBUG2
"""

# bash alone connects: what is typed is the name, as behind a proxy, and no resolver has to know it.
# The trap is for ssh that gives up: it ends the shell alone, and the first cat would keep the connection.
_CONNECT = """bash -c 'exec 3<>/dev/tcp/127.0.0.1/%p; cat <&3 & trap "kill $!" HUP EXIT; cat >&3'"""


def trusted_user_ca_keys(*authorities: AuthorityKey) -> str:
    """Return the file for sshd's TrustedUserCAKeys: the export without its first word, as the manual has it."""
    return "".join(export_authority(each).removeprefix("cert-authority ") + "\n" for each in authorities)


class Sshd:
    """One running sshd; as a context manager it is stopped at the end."""

    def __init__(self, folder: Path, *, host_key: str, host_certificate: bytes, trusted_user_ca_keys: str) -> None:
        """Start it and wait until it listens. The texts are what stands in its files; they go to `folder`."""
        command = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if command is None:
            raise RuntimeError("sshd is not installed: apt-get install openssh-server")
        self.folder = folder
        self.port = free_port()
        write_private(folder / "host_key", host_key)
        (folder / "host_key-cert.pub").write_bytes(host_certificate + b"\n")
        (folder / "user_ca_keys").write_text(trusted_user_ca_keys)
        (folder / "sshd_config").write_text(_CONFIG.format(port=self.port, folder=folder))
        if os.geteuid() == 0:
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
        self._process = Process([command, "-D", "-e", "-f", folder / "sshd_config"], log=folder / "sshd.log")
        try:
            self._process.wait_until(lambda: listens(self.port), timeout=20)
        except BaseException:
            self._process.stop()
            raise

    def log(self) -> str:
        """Return what it has logged so far."""
        return (self.folder / "sshd.log").read_text(errors="replace")

    def ssh(
        self, host: str, *, key: str, certificate: bytes, known_hosts: str, login: str = LOGIN
    ) -> subprocess.CompletedProcess[str]:
        """Run `echo in` there with the real ssh, which knows itself only by key and certificate, and hosts only so."""
        write_private(self.folder / "id", key)
        (self.folder / "id-cert.pub").write_bytes(certificate + b"\n")
        (self.folder / "known_hosts").write_text(known_hosts)
        options = {
            "ProxyCommand": _CONNECT,
            "IdentityFile": f"{self.folder}/id",
            "CertificateFile": f"{self.folder}/id-cert.pub",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "UserKnownHostsFile": f"{self.folder}/known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
        }
        arguments = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return subprocess.run(
            ["ssh", "-F", "none", *arguments, "-p", str(self.port), "-l", login, host, "echo in"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def stop(self) -> None:
        """End it. Safe to call twice."""
        self._process.stop()

    def __enter__(self) -> Sshd:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def write_private(path: Path, text: str) -> None:
    """Write a file that ssh takes a private key from: readable by its owner only."""
    path.touch(mode=0o600)
    path.write_text(text)
