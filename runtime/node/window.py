"""The size of a session's terminal: set on the child, and told to the logs, which a mouse would fill with dozens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runtime.transport.sessions import TerminalSize

LOG_SECONDS = 0.5
"""How often at most a new size is logged."""
REPAINT_SECONDS = 0.1
"""How long a terminal has a row less so that programs draw all of it anew: some look only at whether it has changed."""


class Window:
    """One terminal's size."""

    def __init__(
        self, size: TerminalSize, *, resize: Callable[[TerminalSize], None], log: Callable[[TerminalSize], None]
    ) -> None:
        """Take what sets the child's terminal to a size, and what logs one."""
        self.size = size
        self._resize = resize
        self._log = log
        self._logged = size
        self._loop = asyncio.get_running_loop()
        self._silence: asyncio.TimerHandle | None = None
        self._repainting: asyncio.TimerHandle | None = None

    def set(self, size: TerminalSize) -> bool:
        """Let the terminal have that size; return whether it is another."""
        if size == self.size:
            return False
        self.size = size
        self._resize(size)
        if self._silence is None:
            self._tell()
        return True

    def repaint(self) -> None:
        """Make a program that uses the whole screen draw it anew; to the logs the size is what it was."""
        if self._repainting is None and self.size.rows > 1:
            self._resize(self.size._replace(rows=self.size.rows - 1))
            self._repainting = self._loop.call_later(REPAINT_SECONDS, self._repainted)

    def close(self) -> None:
        """Log what was not yet, and do nothing more. Safe to call twice."""
        for timer in (self._silence, self._repainting):
            if timer is not None:
                timer.cancel()
        self._silence = None
        if self.size != self._logged:
            self._logged = self.size
            self._log(self.size)

    def _repainted(self) -> None:
        self._repainting = None
        self._resize(self.size)

    def _tell(self) -> None:
        self._silence = None
        if self.size != self._logged:
            self._logged = self.size
            self._silence = self._loop.call_later(LOG_SECONDS, self._tell)
            self._log(self.size)
