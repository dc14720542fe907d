"""A stand-in for a proxy's HTTPS, which answers whatever a test tells it to: the real one does not misbehave.

With the real proxy tsh is tested in tests/integration/test_tsh_login.py.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from runtime.cli.tsh_address import Address, fingerprint_of
from runtime.core.resources.authority import AuthorityType
from runtime.pki.claims import UserClaims
from runtime.pki.keys import generate_key, parse_public_key
from runtime.pki.signing import random_serial, sign_user
from runtime.pki.trust import Signer
from runtime.proxy.self_signed import make_self_signed

Json = dict[str, Any]
Answer = Json | bytes
"""An object to answer as JSON, or the bytes of a body."""


class Cluster:
    """Two authorities, and the answers that a well-behaved proxy before them would give."""

    def __init__(self, name: str = "main", *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.name = name
        self.now = now
        self.second_factor = "otp"
        self.users = Signer(AuthorityType.USER, name, generate_key())
        self.hosts = Signer(AuthorityType.HOST, name, generate_key())

    def ping(self) -> Json:
        """Return the answer to GET /webapi/ping."""
        return {
            "cluster": self.name,
            "version": "1.0",
            "time": self.now().isoformat(),
            "second_factor": self.second_factor,
            "ssh_port": 3023,
        }

    def authorities(self) -> list[Json]:
        """Return the field of that name."""
        return [
            {"cluster": self.name, "type": str(signer.type), "keys": [signer.key.public.line]}
            for signer in (self.users, self.hosts)
        ]

    def login(self, body: Mapping[str, Any]) -> Json:
        """Return the answer to POST /webapi/login: a certificate for whoever asks."""
        ttl = timedelta(seconds=body["ttl"]) if body["ttl"] else timedelta(hours=23)
        claims = UserClaims(user=body["user"], cluster=self.name, logins=("joe", "root"), roles=("dev",), ttl=ttl)
        key = parse_public_key(body["public_key"])
        certificate = sign_user(claims, key, signer=self.users, now=self.now(), serial=random_serial())
        return {
            "user": body["user"],
            "certificate": certificate.line.decode(),
            "expires": (self.now() + ttl).isoformat(),
            "cluster": self.name,
            "authorities": self.authorities(),
        }


@dataclass
class StandIn:
    """A running stand-in; `requests` are the bodies that came, parsed, an empty one for each GET."""

    address: Address
    certificate: Path
    fingerprint: str
    cluster: Cluster
    on_ping: Callable[[], tuple[int, Answer]]
    on_login: Callable[[Json], tuple[int, Answer]]
    on_list: Callable[[str, Mapping[str, str]], tuple[int, Answer]]
    """What a GET of another path gets, with its headers."""
    list_encoding: str = ""
    """The Content-Encoding that such an answer claims, if any."""
    requests: list[Json] = field(default_factory=list)


@contextmanager
def stand_in(folder: Path, cluster: Cluster | None = None, *, name: str = "localhost") -> Iterator[StandIn]:
    """Run a stand-in on a free port of loopback, with a self-signed certificate for `name`."""
    cluster = cluster or Cluster()
    certificate, key = make_self_signed([name], datetime.now(UTC))
    pem = folder / "proxy.pem"
    pem.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    class _Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.requests.append({})
            if self.path == "/webapi/ping":
                self._answer(*made.on_ping())
            else:
                self._answer(*made.on_list(self.path, dict(self.headers)), encoding=made.list_encoding)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            made.requests.append(body)
            self._answer(*made.on_login(body))

        def _answer(self, status: int, answer: Answer, encoding: str = "") -> None:
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if encoding:
                    self.send_header("Content-Encoding", encoding)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 — the library's name
            pass

    class _Server(ThreadingHTTPServer):
        def finish_request(self, request: Any, client_address: Any) -> None:
            # Here, in the connection's own thread: a client that breaks off the handshake holds up nobody.
            with suppress(OSError), context.wrap_socket(request, server_side=True) as tls:
                super().finish_request(tls, client_address)

        def shutdown_request(self, request: Any) -> None:
            self.close_request(request)

    with _Server(("127.0.0.1", 0), _Handler) as server:
        made = StandIn(
            address=Address("localhost", server.server_port),
            certificate=pem,
            fingerprint=fingerprint_of(certificate.public_bytes(Encoding.DER)),
            cluster=cluster,
            on_ping=lambda: (200, cluster.ping()),
            on_login=lambda body: (200, cluster.login(body)),
            on_list=lambda path, headers: (404, {"error": {"kind": "NotFound", "message": "nothing", "hint": ""}}),
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
