"""What a session's child reads and writes, between its descriptors and the session; from before there is a child."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from runtime.node.pipes import Sink, Source
from runtime.node.spawner import Child, Exit

Received = Callable[[bytes], None]


class Streams:
    """The child's input, which waits here until there is a child, and its outputs: one of a terminal, else two."""

    def __init__(
        self, *, congested: Callable[[bool], None], output: Received, error_output: Received, ended: Callable[[], None]
    ) -> None:
        """`congested` is told to send no more input (True) and to go on; `ended` once, after the last output."""
        self._sink = Sink(congested)
        self._output = output
        self._error_output = error_output
        self._ended = ended
        self._sources: list[Source] = []
        self._unended = 0
        self._over = asyncio.Event()
        self._writable = True

    @property
    def open(self) -> bool:
        """Whether the first output is still there: with a terminal, whether that may be used."""
        return bool(self._sources) and self._sources[0].open

    def write(self, data: bytes) -> None:
        """Pass input on."""
        self._sink.write(data)

    def end_input(self) -> None:
        """Let the child see the end of its input, once it has read all that came before."""
        self._sink.end()

    def writable(self, yes: bool) -> None:
        """Read from the child only while its outputs are taken."""
        self._writable = yes
        for source in self._sources:
            (source.resume if yes else source.pause)()

    def connect(self, child: Child, *, wanted: bool) -> None:
        """Let bytes pass; or, if that is not wanted any more, let go of the outputs."""
        if child.terminal is not None:
            self._add(child.terminal, self._output)
            self._sink.attach(os.dup(child.terminal))
        elif child.stdin is not None and child.stdout is not None and child.stderr is not None:
            self._add(child.stdout, self._output)
            self._add(child.stderr, self._error_output)
            self._sink.attach(child.stdin)
        self._unended = len(self._sources)
        for source in self._sources:
            if not wanted:
                source.close()
            elif self._writable:
                source.resume()

    async def drained(self, child: Child) -> Exit:
        """Wait until the child has ended and all that it wrote has arrived, and return how it ended.

        As with sshd, of pipes the end counts, which whoever else has them may put off; of a terminal what is in it now.
        Raises TeleportError if nobody can know.
        """
        exited = await child.wait()
        if child.terminal is not None:
            for source in self._sources:
                source.finish()
        await self._over.wait()
        return exited

    def close(self, *, hear_last: bool = False) -> None:
        """Let go of the child; with `hear_last` its last output is heard to the end, which its input's end brings."""
        heard = self._sources[-1] if hear_last and self._sources else None
        for source in self._sources:
            (source.resume if source is heard else source.close)()
        self._sink.close()

    def _add(self, fd: int, received: Received) -> None:
        self._sources.append(Source(fd, received=received, ended=self._source_ended))

    def _source_ended(self) -> None:
        self._unended -= 1
        if not self._unended:
            self._ended()
            self._over.set()
