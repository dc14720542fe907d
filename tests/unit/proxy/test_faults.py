"""How errors leave over HTTP."""

from __future__ import annotations

import pytest
from aiohttp import web

from runtime.api.proving import Unauthenticated
from runtime.core.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    CorruptState,
    InvalidInput,
    InvalidResource,
    NotFound,
    TeleportError,
    Unavailable,
)
from runtime.proxy.faults import fault_of
from runtime.proxy.limits import TooManyRequests


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (AccessDenied, 403, "AccessDenied"),
        (Unauthenticated, 401, "AccessDenied"),
        (InvalidInput, 400, "InvalidInput"),
        (InvalidResource, 400, "InvalidInput"),
        (NotFound, 404, "NotFound"),
        (AlreadyExists, 409, "AlreadyExists"),
        (CompareFailed, 409, "CompareFailed"),
        (Unavailable, 503, "Unavailable"),
        (TooManyRequests, 429, "Unavailable"),
        (CorruptState, 500, "TeleportError"),
        (TeleportError, 500, "TeleportError"),
    ],
)
def test_what_we_raise_keeps_its_words(error: type[TeleportError], status: int, kind: str) -> None:
    """Each of our errors has its status, a kind that a client knows, its message and its hint."""
    fault = fault_of(error("it failed", hint="do better"))
    assert (fault.status, fault.kind, fault.message, fault.hint) == (status, kind, "it failed", "do better")
    assert fault.document == {"error": {"kind": kind, "message": "it failed", "hint": "do better"}}
    assert ("Retry-After" in fault.headers) == (status in (429, 503))
    assert ("WWW-Authenticate" in fault.headers) == (status == 401)


@pytest.mark.parametrize("status", [404, 405, 408, 413, 415])
def test_errors_of_http_are_in_our_words(status: int) -> None:
    """What aiohttp raises gets a message and keeps its status; 405 names what is allowed."""
    errors = {
        404: web.HTTPNotFound(),
        405: web.HTTPMethodNotAllowed("PUT", {"POST", "GET"}),
        408: web.HTTPRequestTimeout(),
        413: web.HTTPRequestEntityTooLarge(max_size=1),
        415: web.HTTPUnsupportedMediaType(text="this address takes application/json"),
    }
    fault = fault_of(errors[status])
    assert fault.status == status
    assert fault.message
    assert fault.kind in ("NotFound", "InvalidInput", "Unavailable")
    assert fault.headers == ({"Allow": "GET, POST"} if status == 405 else {})


@pytest.mark.parametrize("error", [ValueError("s3cret"), web.HTTPConflict(text="s3cret"), KeyError("s3cret")])
def test_what_nobody_expected_does_not_tell_its_text(error: Exception) -> None:
    """It is 500 and says where to look."""
    fault = fault_of(error)
    assert fault.status == 500
    assert "s3cret" not in str(fault)
    assert "log" in fault.hint
