"""Something between the operator and the API server that refuses requests, and has watches begin too far back."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web

_NOT_PASSED_ON = {"host", "transfer-encoding", "content-length", "connection"}
_GONE = {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410, "message": "too old resource version"}
_TOO_MANY = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429, "message": "too many requests"}


class FaultyProxy:
    """A reverse proxy with the administrator's certificate, plain HTTP in front."""

    def __init__(self, url: str, pki: Path) -> None:
        """Take the API server's URL and the folder that holds ca.crt, admin.crt and admin.key."""
        self._target = url
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._streams: set[asyncio.Task[None]] = set()
        self.url = ""
        self.refuse = 0
        """How many requests more are answered with 429, watches and the Lease aside."""
        self.refused = 0
        self.too_old = False
        """Have each new watch begin where the API server has long forgotten what happened."""
        self.forgotten: Counter[str] = Counter()
        """How many watches the API server has ended for that, by resource."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end_watches()
        await self._runner.cleanup()
        await self._session.close()

    async def end_watches(self) -> None:
        """Hang up on all who watch."""
        streams = list(self._streams)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        watch = query.get("watch") == "true"
        if not watch and "/leases/" not in request.path and self.refuse:
            self.refuse -= 1
            self.refused += 1
            return web.json_response(_TOO_MANY, status=429, headers={"Retry-After": "1"})
        if watch and self.too_old:
            query["resourceVersion"] = "1"
            if request.path.endswith("/secrets"):  # of those it remembers all, in a cluster that is minutes old
                self.forgotten["secrets"] += 1
                return web.json_response({"type": "ERROR", "object": _GONE})
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _NOT_PASSED_ON}
        async with self._session.request(
            request.method,
            f"{self._target}{request.path}",
            params=query,
            headers=headers,
            data=await request.read() or None,
        ) as answer:
            passed_on = {
                name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers
            }
            if not watch:
                return web.Response(status=answer.status, headers=passed_on, body=await answer.read())
            response = web.StreamResponse(status=answer.status, headers=passed_on)
            await response.prepare(request)
            stream = asyncio.create_task(self._stream(request.path.rpartition("/")[2], answer, response))
            self._streams.add(stream)
            stream.add_done_callback(self._streams.discard)
            await asyncio.wait([stream])
            if request.transport is not None:
                request.transport.close()
            return response

    async def _stream(self, resource: str, answer: aiohttp.ClientResponse, response: web.StreamResponse) -> None:
        async for chunk in answer.content.iter_any():
            if b'"code":410' in chunk:
                self.forgotten[resource] += 1
            await response.write(chunk)
