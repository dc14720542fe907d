"""Events to syslog servers on real sockets: the messages' form, each transport's framing, servers that go and come."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from runtime.audit.sinks import syslog
from runtime.audit.sinks.syslog import SyslogSink, message
from runtime.core.errors import Unavailable

UID = "0195f1c0-0000-7000-8000-000000000001"
LINE = f'{{"event":"exec","uid":"{UID}","time":"2017-02-03T12:00:00Z","command":"ls"}}'.encode()
HEADER = re.compile(
    rb'<(\d{1,3})>1 (\S+) (\S+) teleport (\d+) (\S+) \[origin software="teleport" swVersion="[^"]+"\] (.*)', re.DOTALL
)


def sink_to(address: str) -> SyslogSink:
    """Return a sink as auth makes it."""
    return SyslogSink(address, facility="authpriv", host="luna", process=42)


def events(received: list[bytes]) -> list[bytes]:
    """Return the events of messages."""
    found = []
    for text in received:
        match = HEADER.fullmatch(text)
        assert match, text
        found.append(match[6])
    return found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (LINE, (b"86", b"2017-02-03T12:00:00Z", b"luna", b"42", b"exec")),
        (b'{"event":"auth","success":"false"}', (b"84", b"-", b"luna", b"42", b"auth")),
        (b'{"event":"call.refused"}', (b"84", b"-", b"luna", b"42", b"call.refused")),
        (b'{"event":"a b\\u000a\\u00e9"}', (b"86", b"-", b"luna", b"42", b"a?b??")),
        (b'{"cut o', (b"86", b"-", b"luna", b"42", b"-")),
        (b"[1]", (b"86", b"-", b"luna", b"42", b"-")),
    ],
)
def test_the_form_of_a_message(line: bytes, expected: tuple[bytes, ...]) -> None:
    """Priority, time, host, process and type stand in the header; what was refused is a warning; no line is lost."""
    match = HEADER.fullmatch(message(line, facility=10, host="luna", process=42))
    assert match
    assert match.groups() == (*expected, line)


def test_a_host_cannot_make_a_header() -> None:
    """A blank or a line feed in its name is none of the message's."""
    assert b" lu?na?x teleport " in message(LINE, facility=10, host="lu na\nx", process=1)


@pytest.fixture
def datagrams(tmp_path: Path) -> Iterator[dict[str, socket.socket]]:
    """Yield two servers that take datagrams, by the address to reach them at."""
    local, udp = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    local.bind(str(tmp_path / "log"))
    udp.bind(("127.0.0.1", 0))
    for server in (local, udp):
        server.settimeout(10)
    yield {f"unix://{tmp_path / 'log'}": local, f"udp://127.0.0.1:{udp.getsockname()[1]}": udp}
    local.close()
    udp.close()


async def test_datagrams(datagrams: dict[str, socket.socket]) -> None:
    """One message each, over a local socket and over UDP."""
    for address, server in datagrams.items():
        sink = sink_to(address)
        await sink.take([LINE, LINE.replace(b"ls", b"id")])
        assert events([server.recv(65536), server.recv(65536)]) == [LINE, LINE.replace(b"ls", b"id")]
        await sink.close()


async def test_an_event_too_long_for_a_datagram(
    datagrams: dict[str, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    """It comes shortened, and the log names it; those behind it come too."""
    long = LINE.replace(b"ls", b"x" * 400_000)
    for address, server in datagrams.items():
        sink = sink_to(address)
        await sink.take([long, LINE])
        cut, other = events([server.recv(65536), server.recv(65536)])
        assert json.loads(cut) == {**json.loads(LINE), "command": "x" * 256, "shortened": True}
        assert other == LINE
        await sink.close()
    assert [f"event {UID} is too long for {address}" in caplog.text for address in datagrams] == [True, True]


async def test_nobody_at_a_port(datagrams: dict[str, socket.socket]) -> None:
    """The machine says so, and the event is not taken for sent."""
    for address, server in datagrams.items():
        server.close()
        with pytest.raises(Unavailable, match=re.escape(f"syslog at {address}: Connection refused")):
            await sink_to(address).take([LINE])
    with pytest.raises(Unavailable, match="No such file"):
        await sink_to("unix:///nonexistent/log").take([LINE])


class Collector:
    """A syslog server over TCP."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take messages with octet counting (RFC 6587 §3.4.1)."""
        self.writers.append(writer)
        try:
            while True:
                size = int(await reader.readuntil(b" "))
                self.received.put_nowait(await reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def collecting(port: int = 0) -> AsyncIterator[tuple[Collector, int]]:
    """Run a collector; yield it and its port."""
    collector = Collector()
    server = await asyncio.start_server(collector.serve, "127.0.0.1", port)
    try:
        yield collector, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in collector.writers:
            writer.transport.abort()
        await server.wait_closed()


async def test_tcp_over_restarts_of_the_server() -> None:
    """Messages are counted, whatever is in them; a server that is away gets the batch when it is back."""
    lines = [LINE, json.dumps({"event": "exec", "uid": str(uuid.uuid4()), "command": "x" * 1_000_000}).encode(), LINE]
    async with asyncio.timeout(30):
        async with collecting() as (collector, port):
            sink = sink_to(f"tcp://127.0.0.1:{port}")
            await sink.take(lines)
            assert events([await collector.received.get() for _ in lines]) == lines
            await sink.take([LINE])
            assert events([await collector.received.get()]) == [LINE]
            assert len(collector.writers) == 1
        with pytest.raises(Unavailable, match=r"Connection (refused|reset by peer)|Broken pipe"):
            await sink.take(lines)
        with pytest.raises(Unavailable, match="Connection refused"):
            await sink.take(lines)
        async with collecting(port) as (collector, _):
            await sink.take(lines)
            assert events([await collector.received.get() for _ in lines]) == lines
        await sink.close()


async def test_tcp_that_is_not_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other side does not take is not taken for sent."""
    monkeypatch.setattr(syslog, "TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sink = sink_to(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(Unavailable, match="does not answer in time"):
            await sink.take([LINE.replace(b"ls", b"x" * 50_000)] * 2)
