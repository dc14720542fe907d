"""Our side of sftp and scp in a process of its own, and the real clients, or a test in the place of one."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from runtime.node.transfer import FileTransfer, Transcript

SECONDS = 30.0
PROGRAM = Path(__file__).with_name("transfer_ssh.py")


class Finished(NamedTuple):
    """How a transfer ended."""

    code: int
    text: bytes
    """What it said to the person."""
    records: list[FileTransfer]
    """What it told the node."""


class Peer:
    """A test in the place of a client."""

    def __init__(self, asked: str, home: Path, *, umask: int = 0o022) -> None:
        # A file takes whatever is told, as the node does; a pipe that nobody reads would hold the process up.
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 - closed by finish() or close()
        self.process = subprocess.Popen(
            [sys.executable, "-I", str(PROGRAM), asked],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            env={"HOME": str(home), "LANG": "C.UTF-8"},
            umask=umask,
        )
        self._read = b""

    def send(self, data: bytes) -> None:
        """Send bytes."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def receive(self, count: int) -> bytes:
        """Return exactly so many bytes; fewer at the end."""
        while len(self._read) < count and self._more():
            pass
        data, self._read = self._read[:count], self._read[count:]
        return data

    def line(self) -> bytes:
        """Return a line with its end; less at the end of all."""
        while b"\n" not in self._read and self._more():
            pass
        end = self._read.find(b"\n") + 1 or len(self._read)
        data, self._read = self._read[:end], self._read[end:]
        return data

    def answer(self) -> bytes:
        """Return an answer of the old protocol: one byte, or an error with its text."""
        first = self.receive(1)
        return first if first in (b"", b"\0") else first + self.line()

    def finish(self) -> Finished:
        """End our side, and return how the other one ended."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdin = None
        self.process.communicate(timeout=SECONDS)
        self._told.seek(0)
        records: list[FileTransfer] = []
        transcript = Transcript(records.append)
        text = transcript.feed(self._told.read())
        return Finished(self.process.returncode, text + transcript.close(), records)

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()
        self._told.close()

    def _more(self) -> bool:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        assert ready, "nothing came"
        data = os.read(self.process.stdout.fileno(), 1 << 20)
        self._read += data
        return bool(data)


@contextmanager
def peer(asked: str, home: Path, *, umask: int = 0o022) -> Iterator[Peer]:
    """Serve `asked` (sftp, or a command of scp's) with `home` as HOME; it is killed at the end."""
    made = Peer(asked, home, umask=umask)
    try:
        yield made
    finally:
        made.close()


def until(path: Path, size: int) -> None:
    """Wait until a file has so many bytes."""
    deadline = time.monotonic() + SECONDS
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < deadline, path
        time.sleep(0.01)
