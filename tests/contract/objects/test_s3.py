"""Objects on a real S3 server: whole files in, parts of them out, and words that help when something is wrong."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from unittest.mock import patch

import pytest

from runtime.backend.objects import S3Options
from runtime.backend.s3 import PART_BYTES, S3Store
from runtime.core.errors import AccessDenied, InvalidSettings, NotFound, TeleportError, Unavailable
from tests.servers.s3 import CREDENTIALS, REGION, S3

MIB = 1024 * 1024
SECONDS = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """Run the server."""
    with S3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@asynccontextmanager
async def opened(options: S3Options, **environment: str) -> AsyncIterator[S3Store]:
    """Open a store with these credentials, or those that are right."""
    with patch.dict(os.environ, {**CREDENTIALS, **environment}):
        store = await S3Store.open(options)
        try:
            yield store
        finally:
            await store.close()


def options(server: S3) -> S3Options:
    """Return what opens the server's bucket."""
    return S3Options(server.bucket, "here/", REGION, server.endpoint, timeout=2, put_timeout=5)


@pytest.mark.parametrize("size", [0, 1, 3 * MIB, 2 * PART_BYTES + 12345, 6 * PART_BYTES])
async def test_in_and_out(server: S3, size: int) -> None:
    """Files of any length: in one piece, or in parts; any part of them; and gone once they are deleted."""
    data = os.urandom(size)
    async with opened(options(server)) as store:
        assert await store.put("some.file", lambda: BytesIO(data)) == size
        assert server.names() == {"here/some.file"}
        for start, length in ((0, 10), (size // 2, 512 * 1024), (max(0, size - 5), 100), (size, 1), (size + 99, 7)):
            assert await store.read("some.file", start, length) == data[start : start + length]
        await store.delete("some.file")
        await store.delete("some.file")
        with pytest.raises(NotFound, match=r"there is no some\.file in s3://recordings/here/"):
            await store.read("some.file", 0, 1)
    assert server.names() == set()


async def test_what_is_there_is_replaced(server: S3) -> None:
    """Putting it twice, after a crash in between, is putting it once."""
    async with opened(options(server)) as store:
        await store.put("twice", lambda: BytesIO(b"x" * 100))
        await store.put("twice", lambda: BytesIO(b"y" * 10))
        assert await store.read("twice", 0, 1000) == b"y" * 10
        await store.delete("twice")


async def test_little_is_in_memory(server: S3, tmp_path: Path) -> None:
    """Of a long file some parts."""
    path = tmp_path / "long"
    with path.open("wb") as file:
        for _ in range(96):
            file.write(os.urandom(MIB))
    async with opened(options(server)) as store:
        await store.check()
        tracemalloc.start()
        try:
            await store.put("long", lambda: path.open("rb"))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await store.delete("long")
    assert peak < 8 * PART_BYTES


async def test_a_check_leaves_nothing_behind(server: S3) -> None:
    """It puts, reads and deletes something small."""
    async with opened(options(server)) as store:
        await store.check()
    assert server.names() == set()


@pytest.mark.parametrize(
    ("change", "environment", "error", "message"),
    [
        ({}, {"AWS_SECRET_ACCESS_KEY": "wrong"}, AccessDenied, "SignatureDoesNotMatch"),
        ({}, {"AWS_ACCESS_KEY_ID": "NOBODY"}, AccessDenied, "InvalidAccessKeyId"),
        ({"bucket": "nowhere"}, {}, InvalidSettings, "there is no bucket for s3://nowhere/here/"),
        ({"endpoint": "http://127.0.0.1:1"}, {}, Unavailable, "s3://recordings/here/ cannot be reached"),
        ({}, {"AWS_PROFILE": "none"}, InvalidSettings, "none"),
    ],
)
async def test_what_is_wrong_is_said(
    server: S3, change: dict[str, str], environment: dict[str, str], error: type[TeleportError], message: str
) -> None:
    """With what to do next, and without a secret."""
    with pytest.raises(error, match=message) as caught:
        async with opened(replace(options(server), **change), **environment) as store:  # type: ignore[arg-type]  # texts
            await store.check()
    assert caught.value.hint
    assert "wrong" not in str(caught.value)
    assert server.names() == set()


async def test_without_credentials(server: S3) -> None:
    """It is said where they are looked for."""
    with patch.dict(os.environ, CREDENTIALS):
        del os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        store = await S3Store.open(options(server))
        try:
            with pytest.raises(InvalidSettings, match="no AWS credentials") as caught:
                await store.check()
        finally:
            await store.close()
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint


class _Dying(BytesIO):
    """A file in the midst of which the server goes away."""

    def __init__(self, data: bytes, server: S3) -> None:
        super().__init__(data)
        self._server = server

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 3 * PART_BYTES:
            self._server.kill()
        return super().read(size)


async def test_a_server_that_goes_away_half_way(tmp_path: Path) -> None:
    """Half of a file is no object; once the server is back it can be put again."""
    data = os.urandom(8 * PART_BYTES)
    with S3(tmp_path) as server:
        async with opened(options(server)) as store:
            dying: BinaryIO = _Dying(data, server)
            with pytest.raises(Unavailable, match="cannot be reached"):
                await store.put("half", lambda: dying)
            server.start()
            assert server.names() == set()
            assert await store.put("half", lambda: BytesIO(data)) == len(data)
            assert server.names() == {"here/half"}


async def test_what_was_put_is_compared(server: S3) -> None:
    """An object that is not what was put there is found, whoever changed it: the file is still needed."""
    data = os.urandom(5 * MIB)
    for wrong in (data[:-1] + b"?", data[:-1], data + b"?"):
        files = iter([BytesIO(wrong), BytesIO(data)])
        async with opened(options(server)) as store:
            with pytest.raises(Unavailable, match=r"is not what was put there|is longer than what was put there"):
                await store.put("changed", lambda files=files: next(files))  # type: ignore[misc]  # bound at once
            await store.delete("changed")


async def test_a_server_that_says_no_more(server: S3) -> None:
    """Nobody waits for it for ever: who reads is told within seconds."""
    async with opened(options(server)) as store:
        await store.put("there", lambda: BytesIO(b"x"))
        server.process.freeze()
        try:
            async with asyncio.timeout(SECONDS):
                with pytest.raises(Unavailable, match="cannot be reached: ReadTimeoutError"):
                    await store.read("there", 0, 1)
        finally:
            server.process.thaw()
        assert await store.read("there", 0, 1) == b"x"
        await store.delete("there")


class _Endless(BytesIO):
    """A long file whose parts take their time; it tells when it is read."""

    def __init__(self, data: bytes, reading: threading.Event) -> None:
        super().__init__(data)
        self._reading = reading

    def read(self, size: int | None = -1, /) -> bytes:
        self._reading.set()
        time.sleep(0.2)  # a slow disk
        return super().read(size)


async def test_closed_while_it_works(server: S3) -> None:
    """An upload is given up, soon; what is asked for afterwards is refused at once."""
    reading = threading.Event()
    async with opened(options(server)) as store:
        putting = asyncio.create_task(store.put("long", lambda: _Endless(bytes(30 * PART_BYTES), reading)))
        await asyncio.to_thread(reading.wait, SECONDS)
        async with asyncio.timeout(SECONDS):
            await store.close()
            with pytest.raises(Unavailable, match=r"was broken off|was closed"):
                await putting
        with pytest.raises(Unavailable, match="was closed"):
            await store.read("x", 0, 1)
    assert server.names() == set()
