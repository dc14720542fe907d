"""Which API server, as whom, and what its refusals are to us; a plain HTTP server answers here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from runtime.core import errors
from teleport_operator.kubernetes import api_server
from teleport_operator.kubernetes.api_server import MAX_REQUESTS, ApiServer
from tests.e2e.kubernetes.certificates import Authority


class Server:
    """Answers everything with one status and one body, and remembers what it was asked; a watch gets lines."""

    def __init__(self) -> None:
        self.status = 200
        self.chunks: list[bytes] = []
        self.silent = False
        self.hold: asyncio.Event | None = None
        self.at_once = self.most_at_once = 0
        self.body: dict[str, Any] = {"kind": "Status"}
        self.asked: list[web.Request] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        await request.read()
        self.asked.append(request)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if self.hold is not None and "/leases/" not in request.path:
                await self.hold.wait()
            if request.query.get("watch") and self.status == 200:
                return await self._stream(request)
        finally:
            self.at_once -= 1
        return web.json_response(self.body, status=self.status)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in self.chunks:
            await response.write(chunk)
            await asyncio.sleep(0.01)
        while self.silent:  # noqa: ASYNC110 (a test sets it)
            await asyncio.sleep(0.01)
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Serve on a free port."""
    serving = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serving.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    serving.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield serving
    await runner.cleanup()


def kubeconfig(folder: Path, url: str, **user: str) -> Path:
    """Write a kubeconfig."""
    path = folder / "kubeconfig"
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "ours"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(json.dumps(config))
    return path


@pytest.fixture
async def api(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiServer]:
    """Connect with a token by KUBECONFIG."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, server.url, token="secret-token")))
    connected = await ApiServer.connect()
    yield connected
    await connected.close()


async def test_by_kubeconfig(server: Server, api: ApiServer) -> None:
    """Server, namespace and credentials are those of the current context."""
    assert (api.url, api.namespace) == (server.url, "ours")
    assert await api.get("/api/v1/namespaces/ours") == {"kind": "Status"}
    assert server.asked[0].headers["Authorization"] == "Bearer secret-token"
    async with api.kopf_session(_pass) as session, session.get(f"{server.url}/apis") as answer:
        assert answer.status == 200
    assert server.asked[1].headers["Authorization"] == "Bearer secret-token"


async def _pass(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    return await handler(request)


async def test_no_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, outside a pod, or with one that is none, it says what to set."""
    broken = tmp_path / "broken"
    broken.write_text("clusters: 3")
    for path in (tmp_path / "none", broken):
        monkeypatch.setenv("KUBECONFIG", str(path))
        with pytest.raises(errors.InvalidSettings, match="no way to the API server") as caught:
            await ApiServer.connect()
        assert "KUBECONFIG" in caught.value.hint


@pytest.mark.parametrize(
    ("status", "reason", "error"),
    [
        (404, "NotFound", errors.NotFound),
        (409, "AlreadyExists", errors.AlreadyExists),
        (409, "Conflict", errors.CompareFailed),
        (403, "Forbidden", errors.AccessDenied),
        (401, "Unauthorized", errors.AccessDenied),
        (422, "Invalid", errors.InvalidInput),
        (429, "TooManyRequests", errors.Unavailable),
        (500, "InternalError", errors.Unavailable),
        (503, "ServiceUnavailable", errors.Unavailable),
    ],
)
async def test_refusals(
    server: Server, api: ApiServer, status: int, reason: str, error: type[errors.TeleportError]
) -> None:
    """Each refusal is the error of ours that means it, with what was asked and the server's own words."""
    server.status, server.body = status, {"reason": reason, "message": "no such luck"}
    with pytest.raises(error, match="PATCH /api/v1/x: no such luck"):
        await api.patch("/api/v1/x", {"a": 1})


async def test_a_merge_patch_says_so(server: Server, api: ApiServer) -> None:
    """The kind of a patch is in its content type; anything else is JSON."""
    await api.patch("/api/v1/x", {})
    await api.replace("/api/v1/x", {})
    assert [each.content_type for each in server.asked] == ["application/merge-patch+json", "application/json"]


async def test_nobody_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API server that is away is Unavailable."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, "http://127.0.0.1:1")))
    connected = await ApiServer.connect()
    with pytest.raises(errors.Unavailable, match="did not answer GET /x"):
        await connected.get("/x")
    await connected.close()


async def test_in_a_pod(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service account's token is read anew while it runs, since it lives for an hour."""
    from kubernetes.aio.config import incluster_config

    token, authority = tmp_path / "token", Authority(tmp_path / "pki").folder / "ca.crt"
    token.write_text("first")
    (tmp_path / "namespace").write_text("ours\n")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(api_server, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(api_server, "_POD_NAMESPACE", tmp_path / "namespace")
    original = incluster_config.InClusterConfigLoader

    def loader(token_filename: str, cert_filename: str, try_refresh_token: bool) -> Any:
        made = original(str(token), str(authority), try_refresh_token)  # type: ignore[no-untyped-call]
        made._token_refresh_period *= 0
        return made

    monkeypatch.setattr(incluster_config, "InClusterConfigLoader", loader)
    connected = await ApiServer.connect()
    assert (connected.url, connected.namespace) == ("https://127.0.0.1:443", "ours")
    connected.url = server.url
    await connected.get("/x")
    token.write_text("second")
    await connected.get("/x")
    assert [each.headers["Authorization"] for each in server.asked] == ["bearer first", "bearer second"]
    await connected.close()


async def test_requests_are_bounded(server: Server, api: ApiServer) -> None:
    """A thousand objects are no thousand connections, whoever asks; the Lease does not wait in line."""
    server.hold = asyncio.Event()
    async with api.kopf_session(_pass) as session, asyncio.TaskGroup() as group:
        for place in range(2 * MAX_REQUESTS):
            group.create_task(api.get(f"/ours/{place}"))
            group.create_task(_get(session, f"{server.url}/kopfs/{place}"))
        while server.at_once < MAX_REQUESTS:  # noqa: ASYNC110 (it is not told)
            await asyncio.sleep(0.01)
        assert await api.get("/apis/coordination.k8s.io/v1/namespaces/ours/leases/l") == {"kind": "Status"}
        assert server.at_once == MAX_REQUESTS
        server.hold.set()
    assert server.most_at_once == MAX_REQUESTS + 1
    assert len(server.asked) == 4 * MAX_REQUESTS + 1


async def _get(session: aiohttp.ClientSession, url: str) -> None:
    async with session.get(url) as answer:
        await answer.read()


async def lines(api: ApiServer, *, silence: float = 5) -> list[bytes]:
    """Follow a watch to its end, and return what it brought."""
    async with aclosing(api.follow("/api/v1/secrets?watch=true", accept="application/x", silence=silence)) as found:
        return [line async for line in found]


async def test_a_watch_is_followed_to_its_end(server: Server, api: ApiServer) -> None:
    """Line by line, however they come in; in the form that was asked for, as who we are."""
    server.chunks = [b'{"a"', b': 1}\n{"b": ', b'2}\n{"c": 3}\n', b"{half"]
    assert await lines(api) == [b'{"a": 1}', b'{"b": 2}', b'{"c": 3}']
    assert server.asked[0].headers["Accept"] == "application/x"
    assert server.asked[0].headers["Authorization"] == "Bearer secret-token"


async def test_a_watch_that_fails(server: Server, api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence, a line without end, and a refusal are errors of ours."""
    server.silent = True
    with pytest.raises(errors.Unavailable, match="did not answer GET /api/v1/secrets"):
        await lines(api, silence=0.1)
    server.silent = False
    monkeypatch.setattr(api_server, "MAX_EVENT_BYTES", 10)
    server.chunks = [b"x" * 20]
    with pytest.raises(errors.Unavailable, match="a line without end"):
        await lines(api)
    server.status, server.body = 403, {"message": "secrets is forbidden"}
    with pytest.raises(errors.AccessDenied, match="secrets is forbidden"):
        await lines(api)
