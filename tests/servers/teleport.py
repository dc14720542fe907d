"""Real `teleport start` processes on loopback, each with a folder, a configuration file and free ports of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from runtime.api.client import AuthClient
from runtime.core.clock import SystemClock
from runtime.service.identity import DataDir, read_identity
from runtime.service.member import AuthServers, auth_client
from tests.servers.processes import Process, free_ports

SCRIPTS = Path(sys.executable).parent
START_SECONDS = 60.0
"""How long a start may take on a busy machine."""

Config = dict[str, Any]
"""teleport.yaml as data: sections of keys."""


class Teleport:
    """One `teleport start`. Its settings are those of the manual with the given ones over them; ports are picked here.

    As a context manager it is stopped at the end. `start` waits until it serves; `launch` does not.
    """

    def __init__(
        self,
        folder: Path,
        roles: Sequence[str] = ("auth",),
        *,
        cluster: str = "main",
        auth_servers: Sequence[str] = (),
        token: str | None = None,
        ca_pin: str | None = None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """Write `folder`/teleport.yaml, in JSON, which is YAML. `config` is laid over it section by section."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = folder / "data"
        self.config_file = folder / "teleport.yaml"
        self.log_file = folder / "teleport.log"
        self.auth_port, self.ssh_port, self.tunnel_port, self.web_port, self.node_port = free_ports(5)
        self._process: Process | None = None
        self.prefix: tuple[str, ...] = ()
        """A program, with its arguments, that starts the process: as another user, say."""
        teleport: Config = {
            "nodename": "localhost",
            "data_dir": str(self.data_dir),
            "log": {"output": "stderr", "severity": "DEBUG"},
        }
        if auth_servers:
            teleport["auth_servers"] = list(auth_servers)
        if token is not None:
            teleport["auth_token"] = token
        if ca_pin is not None:
            teleport["ca_pin"] = ca_pin
        auth: Config = {"enabled": "auth" in roles, "listen_addr": self.auth_address}
        if "auth" in roles:
            auth["cluster_name"] = cluster
        self.config: Config = {
            "teleport": teleport,
            "auth_service": auth,
            "ssh_service": {"enabled": "node" in roles, "listen_addr": f"127.0.0.1:{self.node_port}"},
            "proxy_service": {
                "enabled": "proxy" in roles,
                "listen_addr": f"127.0.0.1:{self.ssh_port}",
                "tunnel_listen_addr": f"127.0.0.1:{self.tunnel_port}",
                "web_listen_addr": self.web_address,
            },
        }
        self.configure(config or {})

    @property
    def auth_address(self) -> str:
        """Where auth listens (host:port)."""
        return f"127.0.0.1:{self.auth_port}"

    @property
    def web_address(self) -> str:
        """Where the proxy serves HTTPS (host:port)."""
        return f"127.0.0.1:{self.web_port}"

    @property
    def admin_identity(self) -> Path:
        """The file with which tctl administers the cluster; auth writes it at its start."""
        return self.data_dir / "admin.identity"

    def configure(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Lay settings over those there are, and write the file; a running process reads it at its next start."""
        for section, keys in changes.items():
            self.config.setdefault(section, {}).update(keys)
        self.config_file.write_text(json.dumps(self.config, indent=2))

    def launch(self, *flags: str, env: Mapping[str, str] | None = None) -> Process:
        """Start the process and do not wait. Its output goes to `log_file`, behind what is there."""
        self._process = Process(
            [*self.prefix, SCRIPTS / "teleport", "start", "-c", self.config_file, *flags],
            log=self.log_file,
            output=self.folder / "stdout",
            env=env,
        )
        return self._process

    def start(self, *flags: str, env: Mapping[str, str] | None = None) -> Self:
        """Start the process and wait until it serves. Raises RuntimeError, with the log, when it does not."""
        before = self.log().count("ready: ")
        process = self.launch(*flags, env=env)
        try:
            process.wait_until(lambda: self.log().count("ready: ") > before, timeout=START_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self

    @property
    def process(self) -> Process:
        """The process that was started last."""
        if self._process is None:
            raise RuntimeError("it was not started")
        return self._process

    def wait_for_log(self, text: str, *, timeout: float = START_SECONDS) -> None:
        """Block until the log holds a text. Raises RuntimeError when it does not come."""
        self.process.wait_until(lambda: text in self.log(), timeout=timeout)

    def wait(self, *, timeout: float = START_SECONDS) -> int:
        """Block until the process ends by itself, and return its exit code; that of a signal is negative."""
        return self.process.wait(timeout=timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.signal(number)

    def log(self) -> str:
        """Return all that the process, and those before it in this folder, have written."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def output(self) -> str:
        """Return what was written to stdout, where the log does not go."""
        return (self.folder / "stdout").read_text()

    def tctl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run tctl on this machine, with this configuration, to its end."""
        return run("tctl", "-c", str(self.config_file), *arguments, stdin=stdin)

    def stop(self) -> None:
        """End the process: SIGTERM, and SIGKILL for what is left. Safe to call twice, and before a start."""
        if self._process is not None:
            self._process.stop(grace=15)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@asynccontextmanager
async def admin(teleport: Teleport) -> AsyncIterator[AuthClient]:
    """Yield a client that calls auth as its administrator, over its port."""
    identity = read_identity(teleport.admin_identity)
    client = auth_client(
        lambda: identity, AuthServers(DataDir(teleport.folder / "admin"), [teleport.auth_address]), SystemClock()
    )
    try:
        yield client
    finally:
        await client.close()


def run(
    program: str, *arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run one of our scripts to its end; `env` is added to this process's environment."""
    return subprocess.run(
        [str(SCRIPTS / program), *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        check=False,
    )
