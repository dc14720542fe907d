"""Events to stdout, one line of JSON each, as they are in the log: for the collector of a container."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Sequence

from runtime.core.errors import Unavailable

WAIT_SECONDS = 1.0
"""How long nobody may read before the events wait; a stop of the process takes no longer."""
_PIECE = 4096
"""What a pipe that can be written to takes without waiting (POSIX's PIPE_BUF on Linux)."""


class StdoutSink:
    """Writes lines to a descriptor that may be a pipe nobody reads: nothing else in the process waits for it."""

    name = "stdout"

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._written = b""
        """What of a batch was written when its reader stopped: the same batch, or a longer one, goes on behind it."""

    async def take(self, lines: Sequence[bytes]) -> None:
        """Write the lines. Raises Unavailable when nobody reads them, OSError when nobody ever will."""
        await asyncio.to_thread(self._write, b"".join(line + b"\n" for line in lines))

    async def close(self) -> None:
        """Leave the descriptor as it is: it is the process's."""

    def _write(self, data: bytes) -> None:
        at = len(self._written) if data.startswith(self._written) else 0
        ready = select.poll()
        ready.register(self._descriptor, select.POLLOUT)
        while at < len(data):
            if not ready.poll(WAIT_SECONDS * 1000):
                self._written = data[:at]
                raise Unavailable("nobody reads stdout")
            at += os.write(self._descriptor, data[at : at + _PIECE])
        self._written = b""
