"""Recordings of the cluster as tsh reads them: through the proxy, a block at a time, the next one ahead."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime

from runtime.audit.reading import File, Source
from runtime.cli.tsh_lists import Session, ask

BLOCK_BYTES = 512 * 1024
"""As much as the proxy gives at once."""
BLOCKS = 16
"""Blocks that are kept, to go back and forth in."""


class ClusterSource:
    """A recording that the proxy gives. Raises AccessDenied, NotFound, Unavailable."""

    def __init__(self, session: Session, sid: str, *, insecure: bool, now: Callable[[], datetime]) -> None:
        self._session = session
        self._sid = sid
        self._insecure = insecure
        self._now = now

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Ask for bytes of a file."""
        where = [("offset", str(offset)), ("size", str(size))]
        path = f"/webapi/recordings/{self._sid}/{part}"
        return ask(self._session, path, where, insecure=self._insecure, now=self._now()).bytes("data")


class ReadAhead:
    """Reads another source in blocks, keeps the last of them, and has the next one read while this one is used."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._kept: OrderedDict[tuple[File, int], bytes] = OrderedDict()
        self._coming: dict[tuple[File, int], Future[bytes]] = {}

    def read(self, part: File, offset: int, size: int) -> bytes:
        """Return bytes, up to the end of a block."""
        number, within = divmod(offset, BLOCK_BYTES)
        return self._block(part, number)[within : within + size]

    def _block(self, part: File, number: int) -> bytes:
        key = part, number
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        coming = self._coming.pop(key, None)
        data = coming.result() if coming is not None else b""
        if len(data) < BLOCK_BYTES:  # none was asked for; or it was when there was less than there may be now
            data = self._fetch(key)
        if len(data) == BLOCK_BYTES:
            self._kept[key] = data
            if len(self._kept) > BLOCKS:
                self._kept.popitem(last=False)
            if (part, number - 1) in self._kept:  # somebody reads on, and does not only look
                self._ask((part, number + 1))
        return data

    def _ask(self, key: tuple[File, int]) -> None:
        """Have a block read by somebody else, who holds nobody up who ends the program."""
        if key in self._kept or key in self._coming:
            return
        self._coming = {each: future for each, future in self._coming.items() if each[0] != key[0]}
        future = self._coming[key] = Future[bytes]()

        def work() -> None:
            try:
                future.set_result(self._fetch(key))
            except BaseException as error:  # for whoever asks for the block
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()

    def _fetch(self, key: tuple[File, int]) -> bytes:
        part, number = key
        data = b""
        while len(data) < BLOCK_BYTES:
            more = self._source.read(part, number * BLOCK_BYTES + len(data), BLOCK_BYTES - len(data))
            data += more
            if not more:
                break
        return data
