"""A network that goes wrong in the worst way: connections stay, and carry nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit


class DeafProxy:
    """A TCP relay whose connections may fall silent without being closed, as some load balancers let them."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._target = (address.hostname, address.port)
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._silent: list[asyncio.StreamWriter] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    def fall_silent(self) -> None:
        """Pass nothing more on the connections that there are."""
        self._silent += self._writers

    async def _relay(self, near: asyncio.StreamReader, to_near: asyncio.StreamWriter) -> None:
        far, to_far = await asyncio.open_connection(*self._target)
        self._writers += [to_near, to_far]
        await asyncio.gather(self._pass_on(near, to_far), self._pass_on(far, to_near))

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if target not in self._silent:
                    target.write(data)
                    await target.drain()
        if target not in self._silent:
            target.close()
