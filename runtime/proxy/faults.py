"""How errors leave over HTTP: status, kind, message and hint, the same for JSON and for pages. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web

from runtime.api.proving import Unauthenticated
from runtime.api.signed import SCHEME
from runtime.core.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    InvalidInput,
    NotFound,
    TeleportError,
    Unavailable,
)
from runtime.proxy.limits import TooManyRequests

RETRY_SECONDS = 5
"""When a client may try again after 503; after 429 at once, in a second."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is answered in place of a result. `kind` is the name of a class of `runtime.core.errors`."""

    status: int
    kind: str
    message: str
    hint: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def document(self) -> dict[str, dict[str, str]]:
        """The body for programs."""
        return {"error": {"kind": self.kind, "message": self.message, "hint": self.hint}}


_STATUS: tuple[tuple[type[TeleportError], int], ...] = (
    (AccessDenied, 403),
    (InvalidInput, 400),
    (NotFound, 404),
    (AlreadyExists, 409),
    (CompareFailed, 409),
    (Unavailable, 503),
)

_HTTP = {
    404: Fault(404, "NotFound", "there is nothing at this address", "Compare it with what you were given."),
    408: Fault(408, "Unavailable", "the request did not arrive in time", "Try again on a better connection."),
    413: Fault(413, "InvalidInput", "the request is larger than anything this proxy takes"),
}


def fault_of(error: Exception) -> Fault:
    """Return what is answered for an error. What was not raised on purpose does not tell its text."""
    if isinstance(error, TooManyRequests):
        return Fault(429, Unavailable.__name__, str(error), error.hint, {"Retry-After": "1"})
    if isinstance(error, Unauthenticated):
        # RFC 9110 §15.5.2: a 401 says how to do better.
        return Fault(401, AccessDenied.__name__, str(error), error.hint, {"WWW-Authenticate": SCHEME})
    if isinstance(error, TeleportError):
        kind, status = next(
            ((kind.__name__, status) for kind, status in _STATUS if isinstance(error, kind)), ("TeleportError", 500)
        )
        headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else {}
        return Fault(status, kind, str(error), error.hint, headers)
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return Fault(405, "InvalidInput", "this address does not take that method", headers={"Allow": allowed})
    if isinstance(error, web.HTTPUnsupportedMediaType):
        return Fault(415, "InvalidInput", error.text or "", "Set the header Content-Type.")
    if isinstance(error, web.HTTPException) and error.status in _HTTP:
        return _HTTP[error.status]
    return Fault(500, "TeleportError", "internal error", "An administrator finds more in the log of this proxy.")
