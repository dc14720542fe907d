"""Standard input, output and error of the process that copies files."""

from __future__ import annotations

import os

from runtime.node.copying.records import FileTransfer, record_to_bytes, text_to_bytes

READ_BYTES = 256 * 1024


class Gone(Exception):
    """The client went away in the middle of something."""


class Channel:
    """The client, and the node behind standard error. Everything waits: a slow client slows this process alone.

    Raises Gone where the client no longer reads, BrokenPipeError where the node no longer listens.
    """

    def __init__(self, protocol: str, stdin: int, stdout: int, stderr: int) -> None:
        for descriptor in (stdin, stdout, stderr):
            os.set_blocking(descriptor, True)
        self._protocol = protocol
        self._input, self._output, self._error = stdin, stdout, stderr
        self._pending = bytearray()
        self._here = os.getcwd()

    def read_some(self) -> bytes:
        """Return what has come, at most READ_BYTES; nothing at the end."""
        if self._pending:
            data = bytes(self._pending[:READ_BYTES])
            del self._pending[:READ_BYTES]
            return data
        return os.read(self._input, READ_BYTES)

    def read_line(self, limit: int) -> bytes:
        """Return a line with its LF; less at the end of input. Raises Gone for one longer than `limit` bytes."""
        while (end := self._pending.find(b"\n", 0, limit)) < 0:
            if len(self._pending) >= limit:
                raise Gone
            data = os.read(self._input, READ_BYTES)
            if not data:
                end = len(self._pending) - 1
                break
            self._pending += data
        line = bytes(self._pending[: end + 1])
        del self._pending[: end + 1]
        return line

    def read_up_to(self, count: int) -> bytes:
        """Return between 1 and `count` bytes. Raises Gone at the end of input."""
        data = b""
        if self._pending:
            data = bytes(self._pending[:count])
            del self._pending[:count]
        elif count:
            data = os.read(self._input, min(count, READ_BYTES))
        if not data and count:
            raise Gone
        return data

    def write(self, *pieces: bytes) -> None:
        """Send it all."""
        left = sum(map(len, pieces))
        try:
            sent = os.writev(self._output, pieces)
            if sent < left:
                rest = memoryview(b"".join(pieces))[sent:]
                while rest:
                    rest = rest[os.write(self._output, rest) :]
        except (BrokenPipeError, ConnectionError) as error:
            raise Gone from error

    def say(self, text: str) -> None:
        """Tell the person something, on standard error."""
        self._write_error(text_to_bytes(text))

    def record(
        self, action: str, path: bytes, error: Exception | str | None = None, *, size: int = 0, target: bytes = b""
    ) -> None:
        """Tell the node of an operation. It succeeded when there is no error."""
        text = "" if error is None else reason(error)
        shown = (os.path.normpath(os.path.join(self._here, os.fsdecode(name))) for name in (path, target) if name)
        absolute = [*shown, "", ""]
        self._write_error(
            record_to_bytes(FileTransfer(self._protocol, action, absolute[0], error is None, size, text, absolute[1]))
        )

    def _write_error(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._error, rest) :]


def reason(error: Exception | str) -> str:
    """Return an error as a person reads it."""
    if isinstance(error, OSError) and error.errno:
        return error.strerror or os.strerror(error.errno)
    return str(error)
