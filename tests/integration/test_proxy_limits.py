"""How much the proxy's HTTPS port takes at once, and how long it waits."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from tests.servers.programs import run
from tests.servers.webproxy import WebCluster, fault, web_cluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[WebCluster]:
    """Yield auth and proxy, running."""
    async with web_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def http(cluster: WebCluster) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a client that trusts the proxy's own certificate."""
    async with cluster.http() as session:
        yield session


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Return what arrives until the peer ends the connection, in time."""
    async with asyncio.timeout(10):
        try:
            return await reader.read()
        except (ConnectionError, ssl.SSLError):
            return b""


async def test_a_slow_client_is_cut(tmp_path: Path) -> None:
    """No handshake, no request, half a head: the end. Half a body: 408. Nothing more after an answer: the end."""
    async with web_cluster(tmp_path) as first:
        options = first.options
    limits = replace(options.limits, handshake_seconds=0.5, read_seconds=0.5)
    async with web_cluster(tmp_path / "limited", proxy=replace(options, limits=limits)) as cluster:
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port)
        assert await read_all(reader) == b""
        writer.close()
        post = (
            b"POST /webapi/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        ping = b"GET /webapi/ping HTTP/1.1\r\nHost: x\r\n\r\n"
        for sent, answered in ((b"", b""), (b"GET / HT", b""), (post, b"HTTP/1.1 408 "), (ping, b"HTTP/1.1 200 ")):
            reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port, ssl=cluster.trust())
            writer.write(sent)
            assert (await read_all(reader)).startswith(answered)
            writer.close()


async def test_a_client_that_reads_nothing_is_cut(tmp_path: Path, cluster: WebCluster) -> None:
    """Answers that nobody reads do not pile up for ever: the connection ends, and with it what it held."""
    options = replace(cluster.options, limits=replace(cluster.options.limits, read_seconds=0.5))
    async with web_cluster(tmp_path / "limited", proxy=options) as limited:
        with socket.create_connection(("127.0.0.1", limited.port)) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with limited.trust().wrap_socket(plain, server_hostname="127.0.0.1", do_handshake_on_connect=False) as tls:
                tls.settimeout(20)
                await asyncio.to_thread(tls.do_handshake)

                def ask_on() -> None:
                    while True:
                        tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)

                with pytest.raises((ConnectionError, ssl.SSLEOFError)):
                    await asyncio.to_thread(ask_on)
        async with limited.http() as http, http.get("/") as response:
            assert response.status == 200


async def test_one_source_has_so_many_requests_at_once(tmp_path: Path, cluster: WebCluster) -> None:
    """While as many requests as allowed are being answered, the next is 429 with Retry-After; afterwards 200."""
    limits = replace(cluster.options.limits, requests_per_source=1)
    options = replace(cluster.options, limits=limits)
    async with web_cluster(tmp_path / "limited", proxy=options) as limited, limited.http() as http:
        reader, writer = await asyncio.open_connection("127.0.0.1", limited.port, ssl=limited.trust())
        writer.write(b"POST /webapi/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 2\r\n\r\n{")
        async with asyncio.timeout(10):
            while True:  # until the first request has reached its handler
                async with http.get("/webapi/ping") as response:
                    if response.status == 429:
                        assert response.headers["Retry-After"] == "1"
                        assert "your address" in (await fault(response))["message"]
                        break
        writer.write(b"}")
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
        async with http.get("/webapi/ping") as response:
            assert response.status == 200
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("limit", ["max_connections", "connections_per_source"])
async def test_connections_are_counted_before_they_shake_hands(
    tmp_path: Path, cluster: WebCluster, limit: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the limit a connection is closed at once, and the log says why; when one ends, the next is let in."""
    options = replace(cluster.options, limits=replace(cluster.options.limits, **{limit: 1}))
    async with web_cluster(tmp_path / "limited", proxy=options) as limited:
        idle, one = await asyncio.open_connection("127.0.0.1", limited.port)
        reader, two = await asyncio.open_connection("127.0.0.1", limited.port)
        assert await read_all(reader) == b""
        assert "refused 127.0.0.1" in caplog.text
        one.close()
        two.close()
        await asyncio.gather(one.wait_closed(), two.wait_closed())
        async with asyncio.timeout(10):
            while True:
                status, _ = await run("curl", "-sS", "--cacert", limited.pem, f"{limited.base}/webapi/ping")
                if status == 0:
                    break
        assert idle.at_eof()
