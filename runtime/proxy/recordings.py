"""Recordings for tsh, to each person what this person may read (`runtime.auth` decides).

    GET /webapi/recordings                             → {"recordings": [{"sid", "user", "login", "started", …}]}
    GET /webapi/recordings/SID/bytes|log?offset=0      → {"data"}: base64 of the bytes from there on; "" at the end

Both are signed (`runtime.proxy.signed`).
"""

from __future__ import annotations

import base64
import uuid

from aiohttp import web

from runtime.api import messages as m
from runtime.api import methods
from runtime.api.client import AuthClient
from runtime.core.errors import InvalidInput, NotFound
from runtime.proxy.signed import SignedRequests

_PARTS = ("bytes", "log")


class RecordingRoutes:
    """Answers under /webapi/recordings."""

    def __init__(self, auth: AuthClient, signed: SignedRequests) -> None:
        self._auth = auth
        self._signed = signed

    async def all(self, request: web.Request) -> web.Response:
        """List them. Raises Unauthenticated and AccessDenied for the person, Unavailable."""
        reader = self._signed.person(request).user.name
        found = (await self._auth.call(methods.RECORDINGS_LIST, m.RecordingQuery(reader=reader))).recordings
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
        reader = self._signed.person(request).user.name
        sid, part, offset = (request.match_info["sid"], request.match_info["part"], request.query.get("offset", "0"))
        try:
            session = uuid.UUID(sid)
        except ValueError:
            raise NotFound(f"{sid[:80]!a} is no session's id", hint="See tsh recordings ls.") from None
        if part not in _PARTS:
            raise NotFound(f"a recording has no part {part[:80]!a}", hint="It has bytes and log.")
        if not offset.isdecimal() or len(offset) > 18:
            raise InvalidInput(f"{offset[:80]!a} is no place in a recording")
        wanted = m.RecordingRead.model_validate({"sid": session, "part": part, "offset": int(offset), "reader": reader})
        piece = await self._auth.call(methods.RECORDING_READ, wanted)
        return web.json_response({"data": base64.b64encode(piece.data).decode()})
