"""Who asks through a proxy: the person whose signature the proxy passes on. Its word alone would be a thief's, too."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from runtime.api.people_messages import SignedRequest
from runtime.api.proving import Claim, prove
from runtime.audit.events import EventType
from runtime.auth.handlers.parts import Parts
from runtime.core.access import still_the_same
from runtime.core.callers import Caller
from runtime.core.errors import AccessDenied, InvalidInput, NotFound
from runtime.core.resources import User


async def signed_by(parts: Parts, caller: Caller, signed: SignedRequest | None, path: str, **query: str | None) -> User:
    """Return the user who has signed a request for exactly this path, as the user is now; what is refused is audited.

    `query` are parameters of it that count, None for one that must not be there. A proxy can repeat what passes through
    it for a minute (`runtime.api.proving.MAX_AGE`), and ask for nothing else. Raises AccessDenied.
    """
    try:
        return await _person(parts, signed, path, query)
    except AccessDenied as error:
        parts.audit.emit(
            EventType.CALL_REFUSED,
            method=path,
            caller=f"{caller.kind} {caller.name}",
            error=str(error)[:1024],
            **{"addr.remote": caller.address},
        )
        raise


async def _person(parts: Parts, signed: SignedRequest | None, path: str, query: dict[str, str | None]) -> User:
    if signed is None:
        raise AccessDenied("a proxy may read this only for a person who has asked for it, with a signature")
    identity = prove(
        Claim(certificate=signed.certificate, signature=signed.signature, time=signed.time),
        signed.method,
        signed.target,
        cluster=parts.issuer.cluster,
        trust=parts.issuer.authorities.trust,
        now=parts.now(),
        here="auth",
    )
    target = urlsplit(signed.target)
    asked = parse_qs(target.query, keep_blank_values=True)
    fits = all(asked.get(name, []) == ([] if value is None else [value]) for name, value in query.items())
    if signed.method != "GET" or target.path != path or not fits:
        raise AccessDenied(f"user {identity.user} has signed another request than this one")
    try:
        user = await parts.declared.get(User, identity.user)
    except (NotFound, InvalidInput):
        raise AccessDenied(f"there is no user {identity.user[:80]!a}") from None
    return still_the_same(user, identity.person)
