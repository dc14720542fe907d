"""The leaf's side of the exchange with its root, over the root's HTTPS: who is there, then the token, once.

    GET  /webapi/trust?nonce=…    who answers; with a pin of the root's CA that is proved, and says which HTTPS
                                  certificate to expect
    POST /webapi/trust            the token and our host CA; the answer is whom to believe

Without a pin the HTTPS certificate has to be one that this machine trusts. Nothing secret is sent before either.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp

from runtime.api.trust_messages import RootReply
from runtime.auth.authorities import Authorities
from runtime.auth.membership import public_keys
from runtime.core.errors import AccessDenied, InvalidInput, TeleportError
from runtime.core.trust_status import TrustReason
from runtime.pki.claims import check_cluster
from runtime.pki.introduction import Introduction, check_introduction, vouch
from runtime.pki.keys import parse_public_key

PATH = "/webapi/trust"
TIMEOUT_SECONDS = 15.0
MAX_ANSWER_BYTES = 256 * 1024

_NEW_TOKEN = "On the root make a new one, tctl tokens add --type=trusted_cluster, and put it into the Secret."  # noqa: S105 - what to do, no token


class NotTrusted(TeleportError):
    """The root is not trusted, and why; `final`: trying again with the same Secret can change nothing."""

    def __init__(self, reason: TrustReason, message: str, *, hint: str = "", final: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.final = final


@dataclass(frozen=True, slots=True)
class Root:
    """Where the root is and what it is to be: the address of its proxy (host:port), its name, its pin if there is."""

    name: str
    address: str
    ca_pin: str | None


async def exchange(root: Root, token: str, authorities: Authorities, now: Callable[[], datetime]) -> RootReply:
    """Show the token and return whom to believe: keys that are well-formed, and the pinned ones if there is a pin.

    Raises NotTrusted.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        nonce = secrets.token_hex(16)
        # With a pin the first answer proves whose certificate it is that carries it.
        tls = _OneServer() if root.ca_pin is not None else ssl.create_default_context()
        told = await call(session, root, "GET", f"{PATH}?nonce={nonce}", None, tls)
        _identify(root, told, nonce, tls, now())
        own = next(each for each in public_keys(authorities) if each.type == "host")
        body = {
            "token": token,
            "cluster": authorities.cluster,
            "host_keys": list(own.keys),
            "proof": vouch(authorities.host.signer.key, cluster=authorities.cluster, host_keys=own.keys, token=token),
        }
        answer = await call(session, root, "POST", PATH, body, tls)
    return _checked(root, answer)


class _OneServer(aiohttp.Fingerprint):
    """Whoever is met first: each further connection has to be with the same HTTPS certificate.

    Of several proxies behind one address each may have a certificate of its own.
    """

    def __init__(self) -> None:
        self.shown = b""
        """SHA-256 of that certificate."""
        super().__init__(bytes(hashlib.sha256().digest_size))

    def check(self, transport: asyncio.Transport) -> None:
        """Refuse another than the first; aiohttp asks for each connection. Raises ServerFingerprintMismatch."""
        certificate = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        shown = hashlib.sha256(certificate).digest()
        if self.shown and shown != self.shown:
            host, port = transport.get_extra_info("peername")[:2]
            raise aiohttp.ServerFingerprintMismatch(self.shown, shown, host, port)
        self.shown = shown


_Tls = ssl.SSLContext | _OneServer | bool
"""By what an HTTPS certificate is trusted; False: by nothing."""


def _identify(root: Root, told: Mapping[str, Any], nonce: str, tls: _Tls, now: datetime) -> None:
    """Return once it is clear who answers: to this one a token may be shown. Raises NotTrusted."""
    try:
        given = Introduction(*(str(told[field]) for field in ("cluster", "tls", "certificate", "signature")))
        its_own = bytes.fromhex(given.tls)
        check_cluster(given.cluster)
    except (KeyError, ValueError, InvalidInput):
        raise _no_root(root, "its answer is not a Teleport proxy's") from None
    if root.ca_pin is not None:
        try:
            check_introduction(given, nonce=nonce, ca_pin=root.ca_pin, now=now)
        except AccessDenied as error:
            raise NotTrusted(
                TrustReason.PIN_MISMATCH,
                f"the proxy at {root.address} did not prove to be of the cluster with the pinned CA: {error}",
                hint="Compare caPin in the Secret with the host CA that tctl auth ls shows on the root. If it is right,"
                " somebody else answers in the root's place; the token was not sent.",
            ) from error
    if isinstance(tls, _OneServer) and tls.shown != its_own:
        raise NotTrusted(
            TrustReason.PIN_MISMATCH,
            f"the proxy at {root.address} proved itself, but another HTTPS certificate than its own was shown; the"
            " token was not sent",
            hint="Somebody is between: something that ends TLS before the proxy needs a certificate that this machine "
            "trusts, and the Secret no caPin.",
        )
    if given.cluster != root.name:
        raise NotTrusted(
            TrustReason.NAME_MISMATCH,
            f"the proxy at {root.address} is of cluster {given.cluster}, not of {root.name}; the token was not sent",
            hint=f"A TrustedCluster bears the name of the root: call it {given.cluster}, or correct proxy.webAddr.",
        )


def _checked(root: Root, answer: Mapping[str, Any]) -> RootReply:
    """Return the answer with its keys in their one form. Raises NotTrusted."""
    try:
        reply = RootReply.model_validate(answer)
        host = tuple(parse_public_key(key) for key in reply.host_keys)
        user = tuple(parse_public_key(key) for key in reply.user_keys)
    except (ValueError, InvalidInput):
        raise _no_root(root, "its answer holds no CA keys") from None
    if not host or not user or reply.cluster != root.name:
        raise _no_root(root, "its answer does not hold the CA keys of that cluster")
    if root.ca_pin is not None and root.ca_pin not in {key.fingerprint for key in host}:
        raise NotTrusted(TrustReason.PIN_MISMATCH, "the pinned CA is not among those that the root told")
    return reply.model_copy(
        update={"host_keys": tuple(key.line for key in host), "user_keys": tuple(key.line for key in user)}
    )


async def call(
    session: aiohttp.ClientSession,
    root: Root,
    method: str,
    path: str,
    body: Mapping[str, Any] | None,
    tls: _Tls,
) -> Mapping[str, Any]:
    """Return the object that the root answers with. Raises NotTrusted, whatever goes wrong."""
    try:
        async with session.request(
            method, f"https://{root.address}{path}", json=body, ssl=tls, allow_redirects=False
        ) as response:
            data = await response.content.read(MAX_ANSWER_BYTES + 1)
            while not response.content.at_eof() and len(data) <= MAX_ANSWER_BYTES:
                data += await response.content.read(MAX_ANSWER_BYTES + 1 - len(data))
            status = response.status
    except aiohttp.ServerFingerprintMismatch as error:
        raise NotTrusted(
            TrustReason.UNREACHABLE,
            f"the connection to the proxy at {root.address} was lost, and another one took its place; the token was not"
            " sent",
            hint="It is tried again.",
        ) from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise NotTrusted(
            TrustReason.PROXY_NOT_TRUSTED,
            f"the proxy at {root.address} shows an HTTPS certificate that this machine does not trust: "
            f"{_short(error)}; the token was not sent",
            hint="Add the key caPin to the Secret: what tctl tokens add prints on the root beside the token.",
        ) from error
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        why = f"it did not answer within {TIMEOUT_SECONDS:g} s" if isinstance(error, TimeoutError) else _short(error)
        if isinstance(error, aiohttp.ClientConnectorSSLError):
            why = f"it does not speak HTTPS ({why})"
        raise NotTrusted(
            TrustReason.UNREACHABLE,
            f"the proxy at {root.address} cannot be reached: {why}",
            hint="Is proxy.webAddr the HTTPS address of the root's proxy (port 3080)? It is tried again.",
        ) from error
    try:
        parsed = json.loads(data[:MAX_ANSWER_BYTES])
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise _no_root(root, f"it answers with status {status} and no JSON")
    if status != 200:
        raise _refusal(root, status, parsed)
    return parsed


def _refusal(root: Root, status: int, said: Mapping[str, Any]) -> NotTrusted:
    """Return what an answer that is an error means."""
    error = said.get("error")
    fields = error if isinstance(error, dict) else said
    text, hint = (_plain(fields.get(name)) for name in ("message", "hint"))
    reason, final = {
        403: (TrustReason.TOKEN_REFUSED, True),
        409: (TrustReason.NAME_TAKEN, False),
        400: (TrustReason.REFUSED, True),
    }.get(status, (TrustReason.UNREACHABLE, False))
    if status == 404:
        return _no_root(root, "it knows no trusted clusters")
    message = f"cluster {root.name} refused: {text or f'status {status}'}"
    return NotTrusted(reason, message, hint=_NEW_TOKEN if reason is TrustReason.TOKEN_REFUSED else hint, final=final)


def _no_root(root: Root, why: str) -> NotTrusted:
    return NotTrusted(
        TrustReason.UNREACHABLE,
        f"{root.address} is not the HTTPS address of a Teleport proxy that takes leaves: {why}",
        hint="Correct proxy.webAddr: the host and HTTPS port (3080) of a proxy of the root. It is tried again.",
    )


def _plain(value: object) -> str:
    """Return what the other side wrote, for a status and a log: printable, and not long."""
    return "".join(each for each in value if each.isprintable())[:1000] if isinstance(value, str) else ""


def _short(error: BaseException) -> str:
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    return (
        _plain(getattr(cause, "verify_message", "") or getattr(cause, "strerror", "") or str(cause))
        or type(cause).__name__
    )
