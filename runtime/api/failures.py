"""How errors cross the wire: a TeleportError keeps its kind, message and hint, all else is 'internal error'."""

from __future__ import annotations

from runtime.api.wire import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, Failure, Json
from runtime.core.errors import (
    AccessDenied,
    AlreadyExists,
    CompareFailed,
    InvalidInput,
    InvalidResource,
    NotFound,
    TeleportError,
    Unavailable,
)

_KINDS: dict[str, type[TeleportError]] = {
    kind.__name__: kind
    for kind in (InvalidInput, InvalidResource, NotFound, AlreadyExists, CompareFailed, AccessDenied, Unavailable)
}

APPLICATION_ERROR = -32000
"""First code of JSON-RPC's range for the application's own errors."""


def to_wire(error: Exception) -> tuple[int, str, dict[str, Json]]:
    """Return code, message and data of an error. What was not raised on purpose does not tell its text to the peer."""
    if not isinstance(error, TeleportError):
        return INTERNAL_ERROR, "internal error; the auth server's log says more", {}
    kind = next((base.__name__ for base in type(error).__mro__ if base.__name__ in _KINDS), "")
    return APPLICATION_ERROR, str(error), {"kind": kind, "hint": error.hint}


def from_wire(failure: Failure) -> TeleportError:
    """Return the error that a failure stands for, to be raised where the call was made."""
    kind, hint = failure.data.get("kind"), failure.data.get("hint")
    if failure.code == METHOD_NOT_FOUND:
        return NotFound(failure.message, hint="Run the same version of teleport on both sides.")
    if failure.code == INVALID_PARAMS:
        return InvalidInput(failure.message, hint="Run the same version of teleport on both sides.")
    error = _KINDS.get(kind, TeleportError) if isinstance(kind, str) else TeleportError
    return error(failure.message, hint=hint if isinstance(hint, str) else "")
