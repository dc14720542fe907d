"""tsh as a process, and a cluster with two nodes for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from tests.servers.people import HOUR, certify, declare, user
from tests.servers.sshclient import Terminal, wait_until
from tests.servers.sshd import LOGIN
from tests.servers.teleport import SCRIPTS, Teleport

TOKEN = "a-token-for-the-nodes-of-this-test"
DEADLINE = 60.0

# A session's first process has to ask for its terminal: only then there is /dev/tty, and news of another size.
_OWN_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Tsh:
    """Somebody with a folder of their own in place of ~/.tsh."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_environment(self) -> dict[str, str]:
        """The environment of this person's processes."""
        outer = {name: value for name, value in os.environ.items() if not name.startswith(("SSH_", "TELEPORT_"))}
        return {**outer, "TELEPORT_HOME": str(self.home), **self.environment}

    def words(self, *arguments: str | Path) -> list[str]:
        """Return the command line."""
        return [str(SCRIPTS / "tsh"), *map(str, arguments)]

    def run(self, *arguments: str | Path, stdin: str = "") -> Done:
        """Run it to its end, without a terminal."""
        return self.run_other(*self.words(*arguments), stdin=stdin)

    def run_other(self, *words: str | Path, stdin: str = "") -> Done:
        """Run another program in the same environment."""
        return subprocess.run(
            [str(word) for word in words],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            env=self.all_environment,
            check=False,
            start_new_session=True,  # no /dev/tty: nobody is there to be asked
        )

    @contextmanager
    def terminal(self, *arguments: str | Path) -> Iterator[Terminal]:
        """Run it in a terminal of 80 columns and 24 rows; it is killed at the end."""
        with self.terminal_of(*self.words(*arguments)) as made:
            yield made

    @contextmanager
    def terminal_of(self, *words: str) -> Iterator[Terminal]:
        """Run another program so."""
        environment = {"TELEPORT_HOME": str(self.home), **self.environment}
        settings = (f"{name}={value}" for name, value in environment.items())
        made = Terminal([sys.executable, "-c", _OWN_TERMINAL, "env", *settings, *words])
        try:
            yield made
        finally:
            made.close()

    @contextmanager
    def running(self, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Run it with pipes; it is killed at the end."""
        with subprocess.Popen(
            self.words(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.all_environment,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()


@dataclass(frozen=True)
class TshCluster:
    """The cluster `main`: auth, a proxy and the node db1 in one process, the node db2 in another."""

    main: Teleport
    second: Teleport

    @property
    def proxy(self) -> str:
        """The proxy's address as one types it."""
        return self.main.web_address

    def person(self, home: Path, name: str = "joe", *, ttl: timedelta = HOUR, age: timedelta = timedelta()) -> Tsh:
        """Return somebody who has logged in and may be LOGIN and `guest`; the latter is nobody on the nodes."""
        certify(self.main, name, [LOGIN, "guest"], ttl=ttl, age=age).log_in(home, self.main)
        return Tsh(home)


@contextmanager
def tsh_cluster(folder: Path) -> Iterator[TshCluster]:
    """Run the cluster; db1 has the labels env=staging, role=db, db2 env=staging, role=web."""
    with ExitStack() as stack:
        main = Teleport(
            folder / "main",
            ("auth", "proxy", "node"),
            config={
                "teleport": {"nodename": "db1"},
                "auth_service": {"tokens": [f"node:{TOKEN}"]},
                "ssh_service": {"labels": {"env": "staging", "role": "db"}},
            },
        )
        stack.enter_context(main.start())
        second = Teleport(
            folder / "second",
            ("node",),
            auth_servers=[main.auth_address],
            token=TOKEN,
            config={
                "teleport": {"nodename": "db2"},
                "ssh_service": {"labels": {"env": "staging", "role": "web"}},
            },
        )
        try:
            stack.enter_context(second.start())
        except RuntimeError as error:
            error.add_note(f"The process that it joins:\n{main.process.log_tail()}")
            raise
        declare(main, user("joe", [LOGIN, "guest"]))
        wait_until(lambda: main.tctl("nodes", "ls").stdout.count("db") >= 2, "both nodes are listed")
        yield TshCluster(main, second)
