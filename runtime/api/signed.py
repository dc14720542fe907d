"""HTTP requests that a person signs with the key of a login: what is signed, and how it travels.

    X-Teleport-Certificate: base64 of the user certificate
    X-Teleport-Time: 2026-11-22T20:15:00Z
    Authorization: SSHSIG base64 of the signature (`runtime.pki.sshsig`)

Signed are method, path with query, the cluster that is meant, and the time: a signature for one of them is worth
nothing for another. tsh makes it, a proxy checks it (`runtime.proxy.signed`). Light to import: tsh does so each time.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from runtime.pki.keys import PrivateKey
from runtime.pki.sshsig import sign
from runtime.pki.wire import read_line

NAMESPACE = "web@teleport.internal"
SCHEME = "SSHSIG"
CERTIFICATE_HEADER = "X-Teleport-Certificate"
TIME_HEADER = "X-Teleport-Time"
AUTHORIZATION_HEADER = "Authorization"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
"""RFC 3339 in UTC, whole seconds; in this one form only."""


def to_be_signed(method: str, target: str, cluster: str, time: str) -> bytes:
    """Return what is signed. `target` is path and query as the request line has them, `time` as its header has it.

    None of the parts can have a line feed in it: HTTP has none there, and a cluster's name neither.
    """
    return f"{method} {target}\n{cluster}\n{time}\n".encode()


def signed_headers(
    method: str, target: str, *, cluster: str, key: PrivateKey, certificate: str, now: datetime
) -> dict[str, str]:
    """Return the headers of a signed request; `certificate` is the one-line text. Raises ValueError if it is none."""
    time = now.astimezone(UTC).strftime(TIME_FORMAT)
    signature = sign(key, to_be_signed(method, target, cluster, time), namespace=NAMESPACE)
    _, blob = read_line(certificate.encode())
    return {
        CERTIFICATE_HEADER: base64.b64encode(blob).decode(),
        TIME_HEADER: time,
        AUTHORIZATION_HEADER: f"{SCHEME} {base64.b64encode(signature).decode()}",
    }
