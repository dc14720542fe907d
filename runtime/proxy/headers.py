"""What every response says of itself to a browser, and where a form may come from. Pure.

Sources: CSP Level 3; Fetch §4.6 (Sec-Fetch-Site); RFC 6797 (HSTS); RFC 9110; the check of forms is that of Go's
net/http CrossOriginProtection.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from runtime.core.errors import AccessDenied

SERVER = "teleport"
"""Which software answers is no secret; of which version and made with what is nobody's business."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HSTS = "max-age=31536000"


def security_headers(*, hsts: bool) -> dict[str, str]:
    """Return the headers of every response; `hsts` where the certificate is one that browsers can trust.

    With a self-signed certificate HSTS would take away the button by which a person goes on.
    """
    headers = {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",  # the address of the sign-up page is a secret
        "Server": SERVER,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    if hsts:
        headers["Strict-Transport-Security"] = HSTS
    return headers


def check_origin(headers: Mapping[str, str]) -> None:
    """Raise AccessDenied for what a page of another site sends.

    Browsers say where a request comes from in Sec-Fetch-Site, older ones in Origin alone. What has neither was not sent
    by a browser. Origin alone is not enough: for a page with `Referrer-Policy: no-referrer`, as ours, it is `null`.
    """
    site = headers.get("Sec-Fetch-Site")
    origin = headers.get("Origin")
    if site is not None:
        if site in {"same-origin", "none"}:
            return
    elif origin is None or _same_host(origin, headers.get("Host", "")):
        return
    raise AccessDenied(
        "this was sent by a page of another site, or by a browser that does not say where it comes from",
        hint="Open the link that you were given in a current browser and fill in its page.",
    )


def _same_host(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(host) and parts.netloc.lower() == host.lower()
