"""The HTTP application: routes, and what surrounds every request: limits, origin, errors, headers."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from runtime.api.client import AuthClient
from runtime.core.errors import TeleportError
from runtime.proxy.access_log import ROUTE
from runtime.proxy.faults import fault_of
from runtime.proxy.headers import check_origin, security_headers
from runtime.proxy.limits import InFlight, WebLimits
from runtime.proxy.lists import ClusterLists
from runtime.proxy.pages import STYLE, STYLE_PATH, STYLE_TAG, Pages
from runtime.proxy.recordings import RecordingRoutes
from runtime.proxy.running import RunningRoutes
from runtime.proxy.signup import SignupPages
from runtime.proxy.webapi import WebApi

logger = logging.getLogger(__name__)

CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_CLOSING = frozenset({408, 413})
"""After these the rest of the body may still be on its way."""


def make_app(
    *,
    auth: AuthClient,
    lists: ClusterLists,
    recordings: RecordingRoutes,
    running: RunningRoutes,
    address: str,
    ssh_port: int,
    ssh_host: str = "",
    limits: WebLimits,
    in_flight: InFlight,
    hsts: bool,
) -> web.Application:
    """Return the application. `address` is host:port by which people know it; `hsts` as in `security_headers`.

    `in_flight` counts and bounds the requests that are being answered.
    """
    pages = Pages(address)
    credentials = InFlight(total=limits.credentials)
    api = WebApi(auth, ssh_port=ssh_port, ssh_host=ssh_host, credentials=credentials, limits=limits)
    signup = SignupPages(auth, pages, credentials=credentials, limits=limits)
    app = web.Application(
        middlewares=[_answers(pages), _bounds(in_flight)],
        client_max_size=limits.body,
    )
    app.router.add_get("/", signup.index)
    app.router.add_get("/webapi/ping", api.ping)
    app.router.add_post("/webapi/login", api.log_in)
    app.router.add_get("/webapi/nodes", lists.nodes, allow_head=False)
    app.router.add_get("/webapi/clusters", lists.clusters, allow_head=False)
    app.router.add_get("/webapi/sessions", running.all, allow_head=False)
    app.router.add_get("/webapi/recordings", recordings.all, allow_head=False)
    app.router.add_get("/webapi/recordings/{sid}/{part}", recordings.read, allow_head=False)
    app.router.add_get(STYLE_PATH, _style)
    # Everything below: a link with something at its end is answered in words that help.
    app.router.add_get("/web/newuser/{token:.*}", signup.show)
    app.router.add_post("/web/newuser/{token:.*}", signup.submit)
    headers = security_headers(hsts=hsts)

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.update(headers)

    app.on_response_prepare.append(add_headers)
    return app


def _answers(pages: Pages) -> Middleware:
    """Return the middleware that turns errors into answers: JSON under /webapi, pages elsewhere."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is not None:
            request[ROUTE] = resource.canonical
        try:
            if request.method in CHANGING:
                check_origin(request.headers)
            return await handler(request)
        except Exception as error:
            fault = fault_of(error)
            if fault.status == 500:
                # No traceback: the text of what nobody expected may hold what was typed.
                logger.error("%s %s failed: %s", request.method, request.get(ROUTE, "-"), _trace(error))  # noqa: TRY400
            if request.path == "/webapi" or request.path.startswith("/webapi/"):
                response = web.json_response(fault.document, status=fault.status, headers=fault.headers)
            else:
                response = pages.fault(fault)
            if fault.status in _CLOSING:
                response.force_close()
            return response

    return answer


def _bounds(in_flight: InFlight) -> Middleware:
    """Return the middleware that counts a request from its head until its answer is made."""

    @web.middleware
    async def bound(request: web.Request, handler: Handler) -> web.StreamResponse:
        with in_flight.slot(request.remote or ""):
            return await handler(request)

    return bound


def _trace(error: Exception) -> str:
    """Return an error's type and where it was raised; its text only where we wrote it."""
    if isinstance(error, TeleportError):
        return str(error)
    lines, trace = [], error.__traceback__
    while trace is not None:
        lines.append(f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' > '.join(lines)}"


async def _style(request: web.Request) -> web.Response:
    tag = f'"{STYLE_TAG}"'
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=STYLE, headers=headers, content_type="text/css", charset="utf-8")
