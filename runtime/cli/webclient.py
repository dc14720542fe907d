"""tsh's side of the proxy's HTTPS API: `GET /webapi/ping`, `POST /webapi/login`, and lists by signed GET.

Only the standard library, because this is tsh's everyday path: aiohttp and pydantic take longer to import than a login
takes. What the proxy sends is checked field by field; it is shown and stored only after that.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import zlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from runtime.cli.console import visible
from runtime.cli.tsh_address import Address, fingerprint_of
from runtime.cli.tsh_messages import AuthorityKeys, LoginReply, LoginRequest, Ping
from runtime.core.defaults import PROXY_WEB_PORT
from runtime.core.errors import AccessDenied, InvalidInput, TeleportError, Unavailable, kind_named

TIMEOUT = 10.0
"""Seconds that a connection, or any one read from it, may take."""
MAX_REPLY_BYTES = 1 << 20
MAX_LIST_BYTES = 64 << 20
"""Of a list, not compressed: a hundred thousand nodes."""
_MAX_TEXT = 16 * 1024


class UntrustedCertificate(AccessDenied):
    """No authority of this machine vouches for the proxy; `fingerprint` names the certificate that it showed."""

    def __init__(self, message: str, *, fingerprint: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.fingerprint = fingerprint


@dataclass(frozen=True, slots=True)
class TlsTrust:
    """Which certificate a proxy may show: the pinned one, any at all, or one that this machine trusts by itself."""

    pin: str = ""
    anything: bool = False

    def context(self) -> ssl.SSLContext:
        """Return the settings of a connection; with a pin, `check` decides in place of authorities."""
        if self.pin or self.anything:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def check(self, certificate: bytes, address: Address) -> None:
        """Refuse any certificate but the pinned one. Raises UntrustedCertificate."""
        shown = fingerprint_of(certificate)
        if self.anything or not self.pin or shown == self.pin:
            return
        raise UntrustedCertificate(
            f"proxy {address} shows another certificate than the pinned one; nothing was sent to it\n"
            f"pinned: {self.pin}\n"
            f"shown:  {shown}",
            fingerprint=shown,
            hint="Somebody may be between you and the proxy. If an administrator says that the proxy has a new "
            f"certificate, and tells you this fingerprint: tsh login --proxy={address} --pin=FINGERPRINT",
        )


class WebClient:
    """Calls one proxy. Each call is a connection of its own: between two of them a person types a password."""

    def __init__(self, address: Address, trust: TlsTrust, *, timeout: float = TIMEOUT) -> None:
        self.address = address
        self._trust = trust
        self._timeout = timeout

    def ping(self) -> Ping:
        """Ask who answers. Raises UntrustedCertificate, Unavailable, InvalidInput when it is not a Teleport proxy."""
        reply = self._call("GET", "/webapi/ping")
        try:
            time = datetime.fromisoformat(reply.text("time"))
            if time.tzinfo is None:
                raise ValueError("no zone")
            time = time.astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise self._no_proxy("its time cannot be read") from error
        return Ping(
            cluster=reply.text("cluster"),
            version=reply.text("version"),
            time=time,
            second_factor=reply.text("second_factor"),
            ssh_port=reply.port("ssh_port"),
            ssh_host=reply.optional_host("ssh_host"),
        )

    def login(self, request: LoginRequest) -> LoginReply:
        """Log in. Raises AccessDenied in auth's words, and what `ping` raises."""
        body = {
            "user": request.user,
            "password": request.password,
            "otp": request.otp,
            "public_key": request.public_key,
            "ttl": request.ttl.total_seconds() if request.ttl is not None else None,
        }
        reply = self._call("POST", "/webapi/login", body)
        return LoginReply(
            user=reply.text("user"),
            certificate=reply.text("certificate"),
            cluster=reply.text("cluster"),
            authorities=tuple(
                AuthorityKeys(each.text("cluster"), each.text("type"), each.texts("keys"))
                for each in reply.objects("authorities")
            ),
        )

    def get(self, target: str, headers: Mapping[str, str]) -> Reply:
        """Return the object at a path, with its query, for who is told in the headers. Raises as `ping` does."""
        return self._call("GET", target, headers={"Accept-Encoding": "gzip", **headers}, limit=MAX_LIST_BYTES)

    def shown_fingerprint(self) -> str:
        """Return the fingerprint of the certificate that the proxy shows; nothing is sent. Raises Unavailable."""
        return WebClient(self.address, TlsTrust(anything=True), timeout=self._timeout)._shown()

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        limit: int = MAX_REPLY_BYTES,
    ) -> Reply:
        """Return the reply's object, of at most `limit` bytes. Raises TeleportError, whatever goes wrong."""
        headers = {"Accept": "application/json", **(headers or {})}
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            with closing(self._connected()) as connection:
                connection.request(method, path, body=content, headers=headers)
                response = connection.getresponse()
                data = _read(response, limit)
        except (OSError, http.client.HTTPException) as error:
            raise self._translated(error) from error
        except zlib.error as error:
            raise self._no_proxy("its answer is compressed, and damaged") from error
        if len(data) > limit:
            raise self._no_proxy(f"its answer is longer than {limit} bytes")
        try:
            parsed: object = json.loads(data)
        except (ValueError, RecursionError):
            parsed = None
        if response.status != 200:
            raise self._failure(response.status, parsed)
        if not isinstance(parsed, dict):
            raise self._no_proxy("it does not answer with JSON")
        return Reply(self, parsed)

    def _connected(self) -> http.client.HTTPSConnection:
        """Return a connection to a server whose certificate is accepted: whatever is sent, is sent to that one."""
        host = self.address.host.strip("[]")
        connection = http.client.HTTPSConnection(
            host, self.address.port, timeout=self._timeout, context=self._trust.context()
        )
        try:
            connection.connect()
            self._trust.check(_certificate(connection), self.address)
        except BaseException:
            connection.close()
            raise
        return connection

    def _shown(self) -> str:
        try:
            with closing(self._connected()) as connection:
                return fingerprint_of(_certificate(connection))
        except (OSError, http.client.HTTPException) as error:
            raise self._translated(error) from error

    def _translated(self, error: OSError | http.client.HTTPException) -> TeleportError:
        """Return what an exception of the standard library means to a person."""
        where = f"proxy {self.address}"
        hint = "Is the address right, and the proxy running? Another port is written as --proxy=HOST:PORT."
        if isinstance(error, ssl.SSLCertVerificationError):
            shown = self.shown_fingerprint()
            return UntrustedCertificate(
                f"{where} shows a certificate that this machine does not trust: {error.verify_message}",
                fingerprint=shown,
                hint=f"Its fingerprint is {shown}. If that is what an administrator of the proxy says it is: "
                f"tsh login --proxy={self.address} --pin={shown}",
            )
        if isinstance(error, socket.gaierror):
            return Unavailable(f"{where} cannot be found: {error.strerror}", hint="Is the host name right?")
        if isinstance(error, TimeoutError):
            return Unavailable(f"{where} did not answer within {self._timeout:g} s", hint=hint)
        if isinstance(error, ConnectionRefusedError):
            return Unavailable(f"{where} cannot be reached: nobody listens there", hint=hint)
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            return self._no_proxy(f"it does not speak TLS as we do ({error.reason or 'no reason given'})")
        if isinstance(error, OSError | http.client.IncompleteRead):
            reason = error.strerror if isinstance(error, OSError) else ""
            return Unavailable(f"{where} cannot be reached: {reason or 'it hung up'}", hint=hint)
        return self._no_proxy("it does not speak HTTP as we do")

    def _failure(self, status: int, parsed: object) -> TeleportError:
        """Return the error that the proxy answered with; its words are auth's."""
        said = parsed.get("error") if isinstance(parsed, dict) else None
        if not isinstance(said, dict) or not isinstance(said.get("message"), str):
            if status >= 500:
                return Unavailable(f"proxy {self.address} has failed: HTTP status {status}", hint="Try again later.")
            return self._no_proxy(f"it answers with HTTP status {status}")
        hint, error = said.get("hint"), kind_named(said.get("kind"))
        # One line each: a message must not look like more than one.
        return error(
            visible(said["message"][:_MAX_TEXT]), hint=visible(hint[:_MAX_TEXT]) if isinstance(hint, str) else ""
        )

    def _no_proxy(self, why: str) -> InvalidInput:
        return InvalidInput(
            f"{self.address} is not a Teleport proxy: {why}",
            hint=f"Give the HTTPS address of a proxy, --proxy=HOST[:PORT]; its port is {PROXY_WEB_PORT} by default.",
        )


@dataclass(frozen=True, slots=True)
class Reply:
    """A JSON object of the proxy, its fields taken out only as what they must be."""

    client: WebClient
    fields: Mapping[str, object]

    def text(self, name: str) -> str:
        """Return a text that is not empty. Raises InvalidInput, as all of these do."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
            raise self._malformed(name)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        return tuple(Reply(self.client, {name: value}).text(name) for value in self._list(name))

    def objects(self, name: str) -> tuple[Reply, ...]:
        """Return a list of objects."""
        values = self._list(name)
        if not all(isinstance(value, dict) for value in values):
            raise self._malformed(name)
        return tuple(Reply(self.client, cast("dict[str, object]", value)) for value in values)

    def optional_text(self, name: str) -> str:
        """Return a text that may be empty, null or missing."""
        return self.text(name) if self.fields.get(name) else ""

    def optional_host(self, name: str) -> str:
        """Return a host's name or address, an IPv6 one in brackets; or nothing, where none is given."""
        text = self.optional_text(name)
        try:
            return Address.parse(f"{text}:1").host if text else ""
        except InvalidInput:
            raise self._malformed(name) from None

    def pairs(self, name: str) -> dict[str, str]:
        """Return an object of texts, which may be empty."""
        value = self.fields.get(name)
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise self._malformed(name)
        return cast("dict[str, str]", value)

    def bytes(self, name: str) -> bytes:
        """Return bytes that are there as base64."""
        value = self.fields.get(name)
        try:
            return base64.b64decode(value if isinstance(value, str) else "?", validate=True)
        except ValueError:
            raise self._malformed(name) from None

    def flag(self, name: str) -> bool:
        """Return true or false."""
        value = self.fields.get(name)
        if not isinstance(value, bool):
            raise self._malformed(name)
        return value

    def port(self, name: str) -> int:
        """Return a TCP port."""
        value = self.fields.get(name)
        if type(value) is not int or not 0 < value < 65536:  # not isinstance: True is an int
            raise self._malformed(name)
        return value

    def _list(self, name: str) -> list[object]:
        value = self.fields.get(name)
        if not isinstance(value, list):
            raise self._malformed(name)
        return value

    def _malformed(self, name: str) -> InvalidInput:
        return self.client._no_proxy(f"its answer lacks a proper {name!r}")


def _read(response: http.client.HTTPResponse, limit: int) -> bytes:
    """Return the body, or more than `limit` bytes of one that is longer. Raises zlib.error for a damaged one."""
    data = response.read(limit + 1)
    if response.getheader("Content-Encoding", "").lower() != "gzip":
        return data
    inflating = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: gzip's header and checksum
    inflated = inflating.decompress(data, limit + 1)
    if not inflating.eof and len(inflated) <= limit:
        raise zlib.error("it ends too early")
    return inflated


def _certificate(connection: http.client.HTTPSConnection) -> bytes:
    """Return the certificate of a connected server, DER. The handshake is complete, so there is one."""
    sock = cast("ssl.SSLSocket", connection.sock)
    return cast("bytes", sock.getpeercert(binary_form=True))
