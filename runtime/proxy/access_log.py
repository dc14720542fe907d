"""The log of requests: who, which route, how it ended. No address as it was sent: sign-up links are secrets."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

ROUTE = web.RequestKey("route", str)
"""Where a request's route stands, as its pattern; missing when no route fits."""


ACCESS_LOG = logging.getLogger("runtime.proxy.access")
HTTP_LOG = logging.getLogger("runtime.proxy.http")
"""Where aiohttp says what went wrong with a connection."""


class AccessLog(AbstractAccessLogger):
    """One line a request: peer, method, the route's pattern, status, body's bytes, seconds."""

    @property
    def enabled(self) -> bool:
        """Whether anybody wants to know."""
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log one request."""
        self.logger.info(
            '%s "%s %s" %d %d %.3f',
            request.remote,
            request.method if request.method.isalpha() else "-",
            request.get(ROUTE, "-"),
            response.status,
            response.body_length,
            time,
        )


class _NoRequests(logging.Filter):
    """Keeps what a peer sent out of aiohttp's own log: a request that cannot be parsed is quoted in its error."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything pass but errors of parsing: they are the peer's, who is told of them."""
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


HTTP_LOG.addFilter(_NoRequests())
