"""The process that looks through recordings for auth: `python -m runtime.audit.search_process`.

It is one of its own because searching takes a core, an expression may take for ever, and auth has other things to do.
It has no files and no network: what it reads it asks auth for. On stdin and stdout, a line of JSON each:

    auth  {"text":"passwd","regex":false,"ignore_case":false}
      it    {"refused":"","hint":""}                                 or why not
    auth  {"limit":100}                                              look through a recording
      it    {"read":"bytes","offset":0,"size":262144}                as often as it likes
      auth  {"size":1234} and so many bytes, or {"error":"…","kind":"…"}
      it    {"found":[[1204,"the line"],…],"problem":"","error":"","bytes":123456}
    auth  {"limit":99}                                               the next, and so on; it ends with stdin
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from dataclasses import asdict
from typing import BinaryIO

from runtime.audit.reading import File
from runtime.audit.text_search import Match, Wanted, search
from runtime.core.errors import InvalidInput, TeleportError, kind_named

NICE = 10
SILENCE_SECONDS = 120
"""It ends when it has said nothing for so long: an expression takes for ever, and auth was killed before it gave up."""
MAX_MEMORY_BYTES = 1024 * 1024 * 1024
"""Of address space; it takes some 60 MB."""


class _Asked:
    """A recording that is read by asking auth for it."""

    def __init__(self, asked: BinaryIO, said: BinaryIO) -> None:
        self._asked = asked
        self._said = said

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Ask for bytes."""
        _say(self._said, {"read": part, "offset": offset, "size": size})
        reply = json.loads(self._asked.readline())
        if "error" in reply:
            raise kind_named(reply["kind"])(str(reply["error"]))
        return self._asked.read(reply["size"])


def serve(asked: BinaryIO, said: BinaryIO) -> None:
    """Look through recordings until there are none."""
    try:
        finder = Wanted(**json.loads(asked.readline())).finder()
    except InvalidInput as error:
        _say(said, {"refused": str(error), "hint": error.hint})
        return
    _say(said, {"refused": "", "hint": ""})
    source = _Asked(asked, said)
    while line := asked.readline():
        looked_through = 0

        def count(size: int) -> None:
            nonlocal looked_through
            looked_through += size

        found: list[Match] = []
        problem = failure = ""
        try:
            found, problem = search(source, finder, json.loads(line)["limit"], count)
        except TeleportError as failed:
            failure = str(failed)
        _say(
            said,
            {
                "found": [list(asdict(match).values()) for match in found],
                "problem": problem,
                "error": failure,
                "bytes": looked_through,
            },
        )


def _say(said: BinaryIO, message: dict[str, object]) -> None:
    said.write(json.dumps(message).encode() + b"\n")
    said.flush()
    signal.alarm(SILENCE_SECONDS)  # nothing of Python's would be called within an expression


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICE)
    serve(sys.stdin.buffer, sys.stdout.buffer)
