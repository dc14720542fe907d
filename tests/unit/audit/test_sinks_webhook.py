"""Events to a real HTTP server that takes them, refuses them, is away, and comes back."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization

from runtime.audit.sinks import webhook
from runtime.audit.sinks.webhook import WebhookSink
from runtime.core.errors import Unavailable
from runtime.core.uuid7 import Uuid7
from runtime.proxy.self_signed import make_self_signed

SECRET = "c2VjcmV0"
MAX_BYTES = 1000
"""What the server takes in one request."""


@dataclass
class Server:
    """What came, and what to answer: 200 where there is nothing left in `answers`."""

    answers: list[int] = field(default_factory=list)
    got: list[tuple[str, list[bytes]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Where to post to."""
        return f"{self.scheme}://127.0.0.1:{self.port}/{SECRET}?key={SECRET}"

    async def answer(self, request: web.Request) -> web.Response:
        """Answer as was asked for."""
        body = await request.read()
        self.headers.append(dict(request.headers))
        status = self.answers.pop(0) if self.answers else 200
        if status == 200 and len(body) > MAX_BYTES:
            status = 413
        if status == 200:
            self.got.append((request.headers["Idempotency-Key"], body.splitlines()))
        headers = {"Location": f"{self.scheme}://127.0.0.1:{self.port}/else"} if status == 307 else None
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def serving(server: Server, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Run a server at its port, or at a free one, which it keeps."""
    app = web.Application(client_max_size=10_000_000)
    app.router.add_post("/{tail:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", server.port, ssl_context=context).start()
    server.port = runner.addresses[0][1]
    server.scheme = "https" if context else "http"
    try:
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def sink_to(server: Server, **options: str | None) -> AsyncIterator[WebhookSink]:
    """Return a sink that is closed at the end."""
    sink = WebhookSink(server.url, headers={"X-Team": "red"}, **options)
    try:
        yield sink
    finally:
        await sink.close()


def lines(number: int, command: str = "ls") -> list[bytes]:
    """Return so many events."""
    ids = Uuid7(lambda bits: 0)
    now = datetime(2017, 2, 3, tzinfo=UTC)
    return [
        json.dumps({"uid": str(ids(now)), "command": command}, separators=(",", ":")).encode() for _ in range(number)
    ]


def uids(some: Sequence[bytes]) -> list[str]:
    """Return the ids of events."""
    return [json.loads(line)["uid"] for line in some]


async def test_what_is_posted(tmp_path: Path) -> None:
    """Lines of JSON with a key that tells the batch, the headers asked for, and the token as it is in its file now."""
    some, token = lines(3), tmp_path / "token"
    async with serving(Server()) as server, sink_to(server, token_file=str(token)) as sink:
        for secret in ("one\n", "two"):
            token.write_text(secret)
            await sink.take(some)
        await sink.take(some[:2])
        assert server.got == [(f"{uids(some)[0]}-3", some)] * 2 + [(f"{uids(some)[0]}-2", some[:2])]
        assert [each["Authorization"] for each in server.headers] == ["Bearer one", "Bearer two", "Bearer two"]
        assert server.headers[0]["X-Team"] == "red"
        assert server.headers[0]["Content-Type"] == "application/x-ndjson"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (503, "answers 503"),
        (429, "answers 429: look at the URL, the headers and the token; the events wait"),
        (403, "answers 403: look at"),
        (307, "answers 307: redirects are not followed"),
        (500, "answers 500"),
    ],
)
async def test_whatever_is_not_taken_waits(status: int, message: str) -> None:
    """No answer but 2xx counts; the next one may. What is told shows no more of the URL than the host."""
    some = lines(2)
    async with serving(Server([status])) as server, sink_to(server) as sink:
        with pytest.raises(Unavailable) as caught:
            await sink.take(some)
        assert str(caught.value).startswith(f"http://127.0.0.1:{server.port} {message}")
        assert SECRET not in str(caught.value)
        assert server.got == []
        await sink.take(some)
        assert server.got == [(f"{uids(some)[0]}-2", some)]
        assert len(server.headers) == 2  # nothing was sent elsewhere


async def test_a_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be reached, does not answer, and is back: then it gets them."""
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.2)
    some, server = lines(2), Server()
    async with serving(server):
        pass
    async with sink_to(server) as sink:
        with pytest.raises(Unavailable, match="cannot be reached: Connection refused") as caught:
            await sink.take(some)
        assert SECRET not in str(caught.value)
        with (
            socket.create_server(("127.0.0.1", server.port)),
            pytest.raises(Unavailable, match="does not answer within"),
        ):
            await sink.take(some)
    monkeypatch.undo()
    async with serving(server), sink_to(server) as sink:
        await sink.take(some)
        assert server.got == [(f"{uids(some)[0]}-2", some)]


async def test_a_batch_that_is_too_large(caplog: pytest.LogCaptureFixture) -> None:
    """It comes in parts, in order; an event too large by itself comes shortened, and the log names it."""
    some = lines(40)
    some[7] = some[7].replace(b"ls", b"x" * MAX_BYTES)
    async with serving(Server()) as server, sink_to(server) as sink:
        await sink.take(some)
        got = [line for _, batch in server.got for line in batch]
        assert uids(got) == uids(some)
        assert json.loads(got[7]) == {"uid": uids(some)[7], "command": "x" * 256, "shortened": True}
        assert [line for at, line in enumerate(got) if at != 7] == some[:7] + some[8:]
        assert len({key for key, _ in server.got}) == len(server.got)
    assert [record.message for record in caplog.records] == [
        f"event {uids(some)[7]} is too large for http://127.0.0.1:{server.port}, which gets it shortened"
    ]


async def test_the_certificate_is_verified(tmp_path: Path) -> None:
    """Only a server whose certificate is of the authority gets anything."""
    certificate, key = make_self_signed(["127.0.0.1"], datetime.now(UTC))
    pem, private = tmp_path / "ca.pem", tmp_path / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, private)
    async with serving(Server(), context) as server:
        async with sink_to(server) as sink:
            with pytest.raises(Unavailable, match="cannot be reached: its certificate is not trusted") as caught:
                await sink.take(lines(1))
            assert SECRET not in str(caught.value)
            assert server.headers == []
        async with sink_to(server, ca_file=str(pem)) as sink:
            await sink.take(lines(1))
        assert len(server.got) == 1


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read from"), (b"\n", "there is no token in"), (b"a\nb", "no token"),
                             (b"\xff", "no token")],
)  # fmt: skip
async def test_a_token_that_cannot_be_read(tmp_path: Path, content: bytes | None, message: str) -> None:
    """Nothing is sent without it, nor with half of it."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    async with serving(Server()) as server, sink_to(server, token_file=str(file)) as sink:
        with pytest.raises(Unavailable, match=message):
            await sink.take(lines(1))
        assert server.headers == []


async def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    """Neither a file that is missing nor one that is none means the system's authorities."""
    (tmp_path / "nonsense").write_text("nonsense")
    async with serving(Server()) as server:
        for name in ("missing", "nonsense"):
            async with sink_to(server, ca_file=str(tmp_path / name)) as sink:
                with pytest.raises(Unavailable, match="cannot be used"):
                    await sink.take(lines(1))
        assert server.headers == []
