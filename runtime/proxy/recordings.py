"""Recordings for tsh, to each person what this person may read (`runtime.auth` decides).

    GET /webapi/recordings                             → {"recordings": [{"sid", "user", "login", "started", …}]}
    GET /webapi/recordings/SID/bytes|log|index?offset=0&size=524288
                                                       → {"data"}: base64 of bytes from there on; "" at the end

Both are signed (`runtime.proxy.signed`).
"""

from __future__ import annotations

import base64
import uuid

from aiohttp import web

from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.api.recording_messages import MAX_RECORDING_BYTES, RecordingQuery, RecordingRead
from runtime.core.errors import InvalidInput, NotFound
from runtime.proxy.signed import SignedRequests

_MAX_DIGITS = 15
_PARTS = ("bytes", "log", "index")


class RecordingRoutes:
    """Answers under /webapi/recordings."""

    def __init__(self, auth: AuthClient, signed: SignedRequests) -> None:
        self._auth = auth
        self._signed = signed

    async def all(self, request: web.Request) -> web.Response:
        """List them. Raises Unauthenticated and AccessDenied for the person, Unavailable."""
        signed = self._signed.person(request).signed
        found = (await self._auth.call(methods.RECORDINGS_LIST, RecordingQuery(signed=signed))).recordings
        entries = [
            {
                **entry.session.model_dump(mode="json"),
                "node": entry.node,
                "over": entry.over,
                "size": entry.size,
            }
            for entry in found
        ]
        return web.json_response({"recordings": entries})

    async def read(self, request: web.Request) -> web.Response:
        """Return a piece of one. Raises as `all` does, and NotFound, InvalidInput."""
        signed = self._signed.person(request).signed
        sid, part = request.match_info["sid"], request.match_info["part"]
        try:
            session = uuid.UUID(sid)
        except ValueError:
            raise NotFound(f"{sid[:80]!a} is no session's id", hint="See tsh recordings ls.") from None
        if part not in _PARTS:
            raise NotFound(f"a recording has no part {part[:80]!a}", hint="It has bytes, log and index.")
        offset, size = _number(request, "offset", 0), _number(request, "size", MAX_RECORDING_BYTES)
        wanted = RecordingRead.model_validate(
            {
                "sid": session,
                "part": part,
                "offset": offset,
                "size": min(max(size, 1), MAX_RECORDING_BYTES),
                "signed": signed,
            }
        )
        piece = await self._auth.call(methods.RECORDING_READ, wanted)
        return web.json_response({"data": base64.b64encode(piece.data).decode()})


def _number(request: web.Request, name: str, otherwise: int) -> int:
    text = request.query.get(name, str(otherwise))
    if not (text.isascii() and text.isdecimal()) or len(text) > _MAX_DIGITS:
        raise InvalidInput(f"{text[:80]!a} is no place in a recording", hint=f"Give {name} as a number of bytes.")
    return int(text)
