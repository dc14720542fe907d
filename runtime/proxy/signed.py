"""Requests that a person signed (`runtime.api.signed`): who is it, and whether this person may ask here and now.

The signature says who (`runtime.api.proving`), and the cluster's users that there still is such a person. What only
auth has, auth gives for the same signature, which is passed on: the proxy's word for who asks is not enough.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web

from runtime.api.people_messages import SignedRequest
from runtime.api.proving import HOW, Claim, Unauthenticated, prove
from runtime.api.signed import AUTHORIZATION_HEADER, CERTIFICATE_HEADER, SCHEME, TIME_HEADER
from runtime.audit.events import EventType
from runtime.core.access import still_the_same
from runtime.core.clock import Clock
from runtime.core.errors import AccessDenied
from runtime.core.resources import Role, User
from runtime.pki.identity import UserIdentity
from runtime.pki.standing import check_source
from runtime.proxy.cluster import ClusterView
from runtime.proxy.limits import Quota

MAX_HEADER_BYTES = 16 * 1024
"""Of one header. A login's certificate has no more characters (`runtime.api.messages.PublicKey`)."""
AUDITED_PER_SOURCE, AUDITED_IN_ALL = 30, 300
"""Refusals that are audited in a minute: a stranger must not push other events out. The access log has them all."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who asks: the identity that was proved, and the user and the roles as they are now."""

    identity: UserIdentity
    user: User
    roles: Mapping[str, Role]
    signed: SignedRequest
    """What was signed, for auth to see."""


def read_claim(request: web.BaseRequest) -> Claim:
    """Return what a request's headers say. Raises Unauthenticated for what is missing, there twice, or no base64."""
    return Claim(
        certificate=_base64(CERTIFICATE_HEADER, _one(request, CERTIFICATE_HEADER)),
        signature=_base64(AUTHORIZATION_HEADER, _signature(_one(request, AUTHORIZATION_HEADER))),
        time=_one(request, TIME_HEADER),
    )


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
            signed = SignedRequest(
                method=request.method,
                target=request.raw_path,
                certificate=claim.certificate,
                signature=claim.signature,
                time=claim.time,
            )
            person = still_the_same(self._view.people.user(user), identity.person)
            return Person(identity, person, self._view.people.roles, signed)
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
        raise Unauthenticated(f"this has to be asked for with the key of a login: the header {name} {said}", hint=HOW)
    if len(values[0]) > MAX_HEADER_BYTES:
        raise Unauthenticated(f"the header {name} is longer than {MAX_HEADER_BYTES} bytes", hint=HOW)
    return values[0]


def _signature(value: str) -> str:
    scheme, _, encoded = value.partition(" ")
    if scheme.upper() != SCHEME:
        raise Unauthenticated(f"this has to be signed: the header {AUTHORIZATION_HEADER} is not {SCHEME}", hint=HOW)
    return encoded.strip()


def _base64(name: str, value: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Unauthenticated(f"the header {name} is not base64", hint=HOW) from None
