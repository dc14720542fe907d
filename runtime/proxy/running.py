"""Running sessions for tsh, to each person what this person may know of (`runtime.auth` decides).

    GET /webapi/sessions            → {"sessions": [{"sid", "user", "login", "node", "hostname", "started", "command",
                                       "joinable", "parties": [{"user", "mode"}]}]}
    GET /webapi/sessions?sid=SID    → the same, with that one or none: also for who may only join or watch it

Both are signed (`runtime.proxy.signed`). The oldest session comes first.
"""

from __future__ import annotations

from uuid import UUID

from aiohttp import web

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.session_messages import SessionQuery
from runtime.core.errors import InvalidInput
from runtime.proxy.signed import SignedRequests

_FIELDS = {"sid", "user", "login", "started", "command", "joinable", "parties"}


class RunningRoutes:
    """Answers under /webapi/sessions."""

    def __init__(self, auth: AuthClient, signed: SignedRequests) -> None:
        self._auth = auth
        self._signed = signed

    async def all(self, request: web.Request) -> web.Response:
        """List them. Raises Unauthenticated and AccessDenied for the person, InvalidInput, Unavailable."""
        signed = self._signed.person(request).signed
        query = SessionQuery(signed=signed, sid=_sid(request.query.getall("sid", [])))
        found = (await self._auth.call(methods.SESSIONS_LIST, query)).sessions
        entries = [
            {
                **entry.session.model_dump(mode="json", include=_FIELDS),
                "node": entry.node,
                "hostname": entry.hostname,
            }
            for entry in found
        ]
        return web.json_response({"sessions": entries})


def _sid(values: list[str]) -> UUID | None:
    """Return the session that is asked for, None for all."""
    if not values:
        return None
    try:
        (value,) = values
        return UUID(value)
    except ValueError:
        raise InvalidInput(f"{values[0][:80]!a} is no session's id", hint="See tsh sessions ls.") from None
