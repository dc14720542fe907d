"""Why a server could not be reached, in words for the log that show no more than the reason. Pure."""

from __future__ import annotations

import os
import ssl


def reason_of(error: Exception) -> str:
    """Return the reason alone: the texts of some errors hold whole URLs or addresses."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError) and (why := getattr(cause, "verify_message", "")):
            return f"its certificate is not trusted: {why}"
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    return getattr(error, "strerror", None) or type(error).__name__
