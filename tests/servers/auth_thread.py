"""An auth service in a thread of this process, with all that tctl on its machine finds; and tctl itself, called here.

tctl starts its own event loop, so that a test which calls it is no coroutine, and the service has a thread to itself.
Importing asyncssh for each of a hundred calls would take minutes; that tctl works as a process, few tests show.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from runtime.auth.tokens import JoinToken
from runtime.cli import console
from runtime.cli.tctl import tctl
from runtime.core.callers import CallerKind
from runtime.core.clock import SystemClock
from runtime.service.identity import DataDir
from tests.servers.auth_port import OPTIONS, AuthPort

T = TypeVar("T")
CLOCK = SystemClock()
STATIC = JoinToken(token="eoKoh0caiw6weoGupahgh6Wuo7jaTee2", roles=("proxy",), static=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended."""

    code: int
    out: str
    err: str


def ok(outcome: Outcome) -> str:
    """Return what a command printed; it succeeded and had nothing else to say."""
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


def failed(outcome: Outcome) -> str:
    """Return what a command said when it failed; it printed nothing."""
    assert (outcome.code, outcome.out) == (1, "")
    return outcome.err


class AuthThread(AuthPort):
    """A running auth service of the cluster `main`, its data_dir, and teleport.yaml."""

    def __init__(self, folder: Path, *, dynamic_config: bool = True) -> None:
        super().__init__(folder, replace(OPTIONS, static_tokens=(STATIC,), dynamic_config=dynamic_config))
        self.data_dir = folder / "data"
        self.config = folder / "teleport.yaml"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="auth")

    def start(self) -> None:
        """Listen on a free port, and write the administrator's identity and the configuration."""
        self._thread.start()
        self.run(self._start())

    def stop(self) -> None:
        """End the service and its thread."""
        self.run(self.end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine where the service runs, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def local(self, kind: CallerKind, name: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """Call auth as a caller of a kind, over the connection that `work` is given."""

        async def do() -> T:
            client = self.service.local.client(lambda: (kind, name))
            try:
                return await work(client)
            finally:
                await client.close()

        return self.run(do())

    def tctl(self, *arguments: str, stdin: str = "") -> Outcome:
        """Run tctl with this cluster's configuration."""
        return run("--config", str(self.config), *arguments, stdin=stdin)

    async def _start(self) -> None:
        await self.listen()
        data_dir = DataDir(self.data_dir)
        data_dir.open()
        data_dir.keep(self.identity(CallerKind.ADMIN))
        self.config.write_text(
            json.dumps(
                {"teleport": {"data_dir": str(self.data_dir)}, "auth_service": {"listen_addr": self.address}}, indent=1
            )
        )


@contextmanager
def auth_thread(folder: Path, *, dynamic_config: bool = True) -> Iterator[AuthThread]:
    """Run an auth service."""
    auth = AuthThread(folder, dynamic_config=dynamic_config)
    auth.start()
    try:
        yield auth
    finally:
        auth.stop()


def run(*arguments: str, stdin: str = "") -> Outcome:
    """Run tctl in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as end:
            console.run(tctl, arguments)
    assert isinstance(end.value.code, int)
    return Outcome(end.value.code, out.getvalue(), err.getvalue())
