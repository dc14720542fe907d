"""How errors cross the wire: a TeleportError keeps its kind, message and hint, all else is 'internal error'."""

from __future__ import annotations

from runtime.api.wire import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, Failure, Json
from runtime.core.errors import InvalidInput, NotFound, TeleportError, kind_named, name_of_kind

APPLICATION_ERROR = -32000
"""First code of JSON-RPC's range for the application's own errors."""


def to_wire(error: Exception) -> tuple[int, str, dict[str, Json]]:
    """Return code, message and data of an error. What was not raised on purpose does not tell its text to the peer."""
    if not isinstance(error, TeleportError):
        return INTERNAL_ERROR, "internal error; the auth server's log says more", {}
    return APPLICATION_ERROR, str(error), {"kind": name_of_kind(error), "hint": error.hint}


def from_wire(failure: Failure) -> TeleportError:
    """Return the error that a failure stands for, to be raised where the call was made."""
    hint = failure.data.get("hint")
    if failure.code == METHOD_NOT_FOUND:
        return NotFound(failure.message, hint="Run the same version of teleport on both sides.")
    if failure.code == INVALID_PARAMS:
        return InvalidInput(failure.message, hint="Run the same version of teleport on both sides.")
    return kind_named(failure.data.get("kind"))(failure.message, hint=hint if isinstance(hint, str) else "")
