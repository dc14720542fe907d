"""The API server by HTTP on one connection: for tests that send more documents than kubectl could in their time."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

REQUEST_SECONDS = 60.0
AGAIN_SECONDS = 0.2
IDLE_SECONDS = 10.0
GROUP = "/apis/teleport.internal/v1"


class Api:
    """A client with the administrator's certificate; as a context manager it hangs up at the end."""

    def __init__(self, url: str, pki: Path) -> None:
        """Take the API server's URL and the folder that holds ca.crt, admin.crt and admin.key."""
        address = urlsplit(url)
        assert address.hostname is not None
        context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._connection = http.client.HTTPSConnection(
            address.hostname, address.port, context=context, timeout=REQUEST_SECONDS
        )
        self._used = time.monotonic()

    def request(self, method: str, path: str, body: object = None, **query: str) -> tuple[int, dict[str, Any]]:
        """Send one request, again while the server asks for that, and return the status and the answered object."""
        deadline = time.monotonic() + REQUEST_SECONDS
        while (answer := self._send(method, path, body, query))[0] == HTTPStatus.TOO_MANY_REQUESTS:
            assert time.monotonic() < deadline, answer[1].get("message")
            time.sleep(AGAIN_SECONDS)
        return answer

    def _send(self, method: str, path: str, body: object, query: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        url = f"{path}?{urlencode(query)}" if query else path
        if time.monotonic() - self._used > IDLE_SECONDS:
            self._connection.close()  # the server may have done so already; the next request opens it anew
        content = None if body is None else json.dumps(body)
        self._connection.request(method, url, content, {"Content-Type": kind})
        answer = self._connection.getresponse()
        said = answer.read()
        self._used = time.monotonic()
        # A kind that is not declared is answered by the HTTP server, in a word of plain text.
        is_json = "json" in answer.headers.get("Content-Type", "")
        return answer.status, json.loads(said) if is_json else {"message": said.decode().strip()}

    def done(self, method: str, path: str, body: object = None, **query: str) -> dict[str, Any]:
        """Send one request that must succeed, and return the object that is answered. Raises RuntimeError."""
        status, found = self.request(method, path, body, **query)
        if status >= HTTPStatus.BAD_REQUEST:
            raise RuntimeError(f"{method} {path}: {status} {found.get('message')}")
        return found

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def collection(kind: str, namespace: str = "default") -> str:
    """Return the path of the custom resources of that kind."""
    return f"{GROUP}/namespaces/{namespace}/{kind.lower()}s"
