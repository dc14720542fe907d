"""Requests that a person signed (`runtime.api.signed`): who is it, and whether this person may ask here and now.

The certificate says who has the key, the signature that this key asked for exactly this, and the cluster's users that
there still is such a person. For reads only: whoever could repeat a request within its minute must have read it inside
of TLS, where the answer stands beside it, and gets that answer again; nothing changes by it, and rights are
looked up anew. A request that changes something would need more: a nonce of the proxy's, used once, and the body's hash
among what is signed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import web

from runtime.api.signed import (
    AUTHORIZATION_HEADER,
    CERTIFICATE_HEADER,
    NAMESPACE,
    SCHEME,
    TIME_FORMAT,
    TIME_HEADER,
    to_be_signed,
)
from runtime.audit.events import EventType
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied
from runtime.core.resources import Role, User
from runtime.pki.identity import UserIdentity
from runtime.pki.sshsig import verify
from runtime.pki.standing import check_source
from runtime.pki.trust import Trust
from runtime.pki.verify import verify_user
from runtime.proxy.cluster import ClusterView
from runtime.proxy.limits import Quota

MAX_AGE = timedelta(seconds=60)
"""How far the time of a request may lie from the proxy's, before it or after: two machines' clocks, and the way."""
MAX_HEADER_BYTES = 16 * 1024
"""Of one header. A login's certificate has no more characters (`runtime.api.messages.PublicKey`)."""
AUDITED_PER_SOURCE, AUDITED_IN_ALL = 30, 300
"""Refusals that are audited in a minute: a stranger must not push other events out. The access log has them all."""
_HOW = "Log in, and ask with tsh: tsh --proxy=HOST --user=NAME login"


class Unauthenticated(AccessDenied):
    """Nobody who may ask has signed the request as it arrived."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of who signed it. Nothing of it is proved."""

    certificate: bytes
    signature: bytes
    time: str


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks: the identity that was proved, and the user and the roles as they are now."""

    identity: UserIdentity
    user: User
    roles: Mapping[str, Role]


def read_claim(request: web.BaseRequest) -> Claim:
    """Return what a request's headers say. Raises Unauthenticated for what is missing, there twice, or no base64."""
    return Claim(
        certificate=_base64(CERTIFICATE_HEADER, _one(request, CERTIFICATE_HEADER)),
        signature=_base64(AUTHORIZATION_HEADER, _signature(_one(request, AUTHORIZATION_HEADER))),
        time=_one(request, TIME_HEADER),
    )


def prove(claim: Claim, method: str, target: str, *, cluster: str, trust: Trust, now: datetime) -> UserIdentity:
    """Return who signed the request `method target` for `cluster`, which is ours, at about `now`.

    Raises Unauthenticated.
    """
    _check_time(claim.time, now)
    try:
        identity = verify_user(claim.certificate, trust, now)
        if identity.cluster != cluster:
            raise AccessDenied(f"the certificate is one of cluster {identity.cluster}; this is cluster {cluster}")
        if identity.force_command is not None:
            raise AccessDenied("the certificate is for running one command on a node, and for nothing else")
        covered = to_be_signed(method, target, cluster, claim.time)
        verify(claim.signature, covered, identity.proof.key, namespace=NAMESPACE)
    except AccessDenied as error:
        raise Unauthenticated(str(error), hint=error.hint or _HOW) from error
    return identity


class SignedRequests:
    """Tells who signed a request, and audits those that are refused."""

    def __init__(self, view: ClusterView, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._audited = Quota(clock, per_source=AUDITED_PER_SOURCE, total=AUDITED_IN_ALL)

    def person(self, request: web.Request) -> Person:
        """Return who asks.

        Raises Unauthenticated; AccessDenied for a person who proved to be one, and may not ask: from that address, or
        because there is no such user any more.
        """
        address = request.remote or ""
        user = ""
        try:
            claim = read_claim(request)
            identity = prove(
                claim,
                request.method,
                request.raw_path,
                cluster=self._view.name,
                trust=self._view.trust(),
                now=self._clock.now(),
            )
            user = identity.user
            check_source(identity, address)
            return Person(identity, self._view.people.user(user), self._view.people.roles)
        except AccessDenied as error:
            # Who showed nothing at all is somebody with a browser, not with a certificate that is refused.
            if AUTHORIZATION_HEADER in request.headers and self._audited.take(address):
                # Only what was proved is named.
                self._view.audit.emit(
                    EventType.WEB_REJECTED,
                    user=user,
                    path=request.path[:256],
                    error=str(error)[:1024],
                    **{"addr.remote": address},
                )
            raise


def _one(request: web.BaseRequest, name: str) -> str:
    values = request.headers.getall(name, [])
    if len(values) != 1 or not values[0]:
        said = "is missing" if not values or values == [""] else "is there more than once"
        raise Unauthenticated(f"this has to be asked for with the key of a login: the header {name} {said}", hint=_HOW)
    if len(values[0]) > MAX_HEADER_BYTES:
        raise Unauthenticated(f"the header {name} is longer than {MAX_HEADER_BYTES} bytes", hint=_HOW)
    return values[0]


def _signature(value: str) -> str:
    scheme, _, encoded = value.partition(" ")
    if scheme.upper() != SCHEME:
        raise Unauthenticated(f"this has to be signed: the header {AUTHORIZATION_HEADER} is not {SCHEME}", hint=_HOW)
    return encoded.strip()


def _base64(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Unauthenticated(f"the header {name} is not base64", hint=_HOW) from None


def _check_time(text: str, now: datetime) -> None:
    """Refuse a time that is far from ours, or not written in the one way that there is."""
    try:
        time = datetime.strptime(text, TIME_FORMAT).replace(tzinfo=UTC)
        if time.strftime(TIME_FORMAT) != text:
            raise ValueError("it is written in another way")
    except ValueError:
        raise Unauthenticated(
            f"the header {TIME_HEADER} is no time such as {now.strftime(TIME_FORMAT)}", hint=_HOW
        ) from None
    if abs(now - time) > MAX_AGE:
        raise Unauthenticated(
            f"the request was signed at {time:%Y-%m-%d %H:%M:%S} UTC; by the proxy's clock it is "
            f"{now:%Y-%m-%d %H:%M:%S} UTC",
            hint="Set the clock of your machine (timedatectl); if it is right, tell an administrator of the proxy.",
        )
