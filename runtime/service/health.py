"""The diagnostics address: /healthz, /readyz and /metrics over plain HTTP, for the machine's own monitoring.

    /healthz    200 while the process works at all; else, with a line for each reason, it is time to start it anew
    /readyz     200 while everything serves; 503 with a line for each thing that does not, also while it starts or stops
    /metrics    Prometheus' text format

There is no secret in any of them and nothing to change, and nobody is asked who they are: the address is a loopback one
unless the settings say otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from runtime.core.errors import Unavailable
from runtime.service.logs import one_line
from runtime.service.metrics import Metrics
from runtime.service.values import Address

logger = logging.getLogger(__name__)

CHECK_SECONDS = 2.0
"""How long one check of readiness may take, in seconds."""

Check = Callable[[], Awaitable[str]]
"""Returns why something does not serve now; empty if it does."""

_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Diagnostics:
    """The part of the process that others look at it through; it starts first and stops last."""

    name = "diagnostics"

    def __init__(self, address: Address, metrics: Metrics, *, alive: Sequence[Check] = ()) -> None:
        """Listen on `address` once started; the checks `alive` say whether the process works at all."""
        self._address = address
        self._metrics = metrics
        self._alive = alive
        self._checks: Sequence[Check] = ()
        self._state = "starting"
        self._runner: web.AppRunner | None = None
        self.where = ""

    def ready(self, checks: Sequence[Check]) -> None:
        """Everything has started; from now on these checks say whether it serves."""
        self._checks = checks
        self._state = ""

    def stopping(self) -> None:
        """Nothing new should be sent here any more."""
        self._state = "stopping"

    async def start(self) -> None:
        """Listen. Raises Unavailable when the address cannot be had."""
        app = web.Application(client_max_size=1024)
        app.add_routes(
            [web.get("/healthz", self._health), web.get("/readyz", self._readiness), web.get("/metrics", self._show)]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, self._address.host, self._address.port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise Unavailable(
                f"cannot listen on {self._address} for diagnostics: {error.strerror or error}",
                hint="Is another process using the port? Set --diag-addr or teleport.diag_addr.",
            ) from error
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self.where = f"diagnostics on http://{Address(host, port)}"

    async def run(self) -> None:
        """Nothing but to answer."""
        await asyncio.Event().wait()

    async def reload(self) -> None:
        """Nothing is read again."""

    async def stop(self) -> None:
        """Answer no more."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def troubles(self) -> list[str]:
        """Return what does not serve now, a line each; nothing when all is well."""
        if self._state:
            return [self._state]
        return [trouble for trouble in await asyncio.gather(*map(_checked, self._checks)) if trouble]

    async def _health(self, request: web.Request) -> web.Response:
        return _answer([trouble for trouble in await asyncio.gather(*map(_checked, self._alive)) if trouble])

    async def _readiness(self, request: web.Request) -> web.Response:
        return _answer(await self.troubles())

    async def _show(self, request: web.Request) -> web.Response:
        self._metrics.ready.set(not await self.troubles())
        body = await asyncio.to_thread(generate_latest, self._metrics.registry)
        return web.Response(body=body, headers={**_HEADERS, "Content-Type": CONTENT_TYPE_LATEST})


def _answer(troubles: Sequence[str]) -> web.Response:
    text = "".join(f"{one_line(trouble)}\n" for trouble in troubles) or "ok\n"
    return web.Response(text=text, status=503 if troubles else 200, headers=_HEADERS)


async def _checked(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
