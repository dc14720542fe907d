"""The servers of `bench_sessions` on loopback, and what they use: an sshd behind, an sshd to jump over, and our proxy.

All three believe the same authorities; `ssh` reaches the sshd behind as `direct`, `jump` (`ssh -J`) and `proxy` (our
subsystem as ProxyCommand), each with the same cipher on every connection and curve25519.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.servers.processes import Process, free_port, listens
from tests.servers.sshca import Authority
from tests.servers.sshd import LOGIN, write_private

CIPHERS = {"chacha20-poly1305": "chacha20-poly1305@openssh.com", "aes128-gcm": "aes128-gcm@openssh.com"}
ROUTES = ("direct", "jump", "proxy")

# Defaults where it matters (MaxStartups of the jump); the one behind must never be the one that refuses. With SHLVL set
# bash does not take itself for a person's first shell, whose start-up files can take longer than all that is measured.
_SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/{name}_host_key
HostCertificate {folder}/{name}_host_key-cert.pub
TrustedUserCAKeys {folder}/user_ca_keys
AuthorizedKeysFile none
AuthenticationMethods publickey
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
PidFile none
MaxSessions 100
MaxStartups {startups}
SetEnv SHLVL=1
LogLevel ERROR
"""

_SSH = """\
Host direct jump proxy
  HostName 127.0.0.1
  Port {node}
  HostKeyAlias node
Host jump
  ProxyJump over-sshd
Host proxy
  ProxyCommand {ssh} -F {file} -s over-proxy proxy:127.0.0.1:{node}
Host over-sshd
  HostName 127.0.0.1
  Port {jump}
Host over-proxy
  HostName 127.0.0.1
  Port {proxy}
Host *
  User {login}
  IdentityFile {folder}/id
  CertificateFile {folder}/id-cert.pub
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  LogLevel ERROR
  KexAlgorithms curve25519-sha256
  Ciphers {cipher}
  ControlPath {folder}/{cipher}-%n
"""


class Servers:
    """The three servers; as a context manager they are stopped at the end."""

    def __init__(self, folder: Path) -> None:
        """Write keys and settings to `folder`, and start all three."""
        self.folder = folder
        self._processes: dict[str, Process] = {}
        self._ports: dict[str, int] = {}
        users, hosts = Authority(), Authority()
        (folder / "user_ca_keys").write_bytes(users.line + b"\n")
        (folder / "host_ca").write_bytes(hosts.line + b"\n")
        (folder / "known_hosts").write_text(f"@cert-authority * {hosts.line.decode()}\n")
        users.issue([LOGIN]).write(folder, "id")
        for name in ("node", "jump", "proxy"):
            host = hosts.host(name, "127.0.0.1")
            write_private(folder / f"{name}_host_key", host.key.decode())
            (folder / f"{name}_host_key-cert.pub").write_bytes(host.certificate + b"\n")
        try:
            self._sshd("node", startups="1000")
            self._sshd("jump", startups="10:30:100")
            self._proxy()
        except BaseException:
            self.stop()
            raise
        for cipher in CIPHERS.values():
            self.ssh_config(cipher).write_text(
                _SSH.format(
                    folder=folder,
                    file=self.ssh_config(cipher),
                    ssh=shutil.which("ssh"),
                    login=LOGIN,
                    cipher=cipher,
                    **self._ports,
                )
            )

    def _sshd(self, name: str, *, startups: str) -> None:
        command = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if command is None:
            raise RuntimeError("sshd is not installed: apt-get install openssh-server")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        port = self._ports[name] = free_port()
        config = self.folder / f"{name}_config"
        config.write_text(_SSHD.format(port=port, folder=self.folder, name=name, startups=startups))
        self._processes[name] = Process([command, "-D", "-e", "-f", config], log=self.folder / f"{name}.log")
        self._processes[name].wait_until(lambda: listens(port), timeout=20)

    def _proxy(self) -> None:
        command: list[str | Path] = [sys.executable, "-m", "tests.bench.sessions_proxy", self.folder]
        self._processes["proxy"] = Process(command, log=self.folder / "proxy.log")
        ready = self.folder / "proxy.port"
        self._processes["proxy"].wait_until(ready.exists, timeout=60)
        self._ports["proxy"] = int(ready.read_text())

    def port(self, name: str) -> int:
        """Return the port of `node`, `jump` or `proxy`."""
        return self._ports[name]

    def ssh_config(self, cipher: str) -> Path:
        """Return the configuration that reaches all of them with that cipher."""
        return self.folder / f"ssh_config-{cipher}"

    def ssh(self, cipher: str, *arguments: str) -> list[str]:
        """Return an ssh command."""
        return ["ssh", "-F", str(self.ssh_config(cipher)), *arguments]

    def open_masters(self, cipher: str) -> None:
        """Open one connection by each route, that further commands of that cipher go through."""
        for route in ROUTES:
            command = self.ssh(cipher, "-M", "-N", "-f", route)
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=60)

    def close_masters(self, cipher: str) -> None:
        """Close what `open_masters` has opened."""
        for route in ROUTES:
            subprocess.run(self.ssh(cipher, "-O", "exit", route), capture_output=True, check=False, timeout=60)

    def cpu(self, name: str) -> float:
        """Return the CPU seconds that a server and its children, ended ones too, have used."""
        pid = self._processes[name].pid
        ticks = 0
        for process in _tree(pid):
            fields = _read(f"/proc/{process}/stat").rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15] if process == pid else fields[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self, name: str) -> int:
        """Return the bytes of memory of a server and its children, what they share counted once."""
        total = 0
        for process in _tree(self._processes[name].pid):
            for line in _read(f"/proc/{process}/smaps_rollup").splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def children(self, name: str) -> int:
        """Return how many children a server has."""
        return len(_tree(self._processes[name].pid)) - 1

    def log(self, name: str) -> str:
        """Return what a server has written."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End all three. Safe to call twice."""
        for process in self._processes.values():
            process.stop(grace=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _tree(pid: int) -> list[int]:
    children = _read(f"/proc/{pid}/task/{pid}/children").split()
    return [pid, *(process for child in children for process in _tree(int(child)))]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
