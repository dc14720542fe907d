"""The methods by which nodes tell of their sessions, and an administrator lists and ends them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from runtime.api import methods
from runtime.api.messages import Nothing
from runtime.api.session_messages import (
    RunningSession,
    SessionEntry,
    SessionKill,
    SessionList,
    SessionOrder,
    SessionQuery,
    SessionReport,
)
from runtime.auth.dispatch import Dispatcher, EmitPiece
from runtime.auth.handlers.parts import Parts
from runtime.auth.handlers.signed import signed_by
from runtime.core.callers import Caller, CallerKind
from runtime.core.session_access import may_ask, may_list

SESSIONS_PATH = "/webapi/sessions"
"""Where a proxy serves them: what people sign (`runtime.proxy.running`)."""


class SessionHandlers:
    """Sessions that run now."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def register(self, dispatcher: Dispatcher) -> None:
        """Serve the methods of this group."""
        dispatcher.on(methods.SESSIONS_REPORT, self.report)
        dispatcher.on_stream(methods.SESSIONS_ORDERS, self.orders)
        dispatcher.on(methods.SESSIONS_LIST, self.list)
        dispatcher.on(methods.SESSIONS_KILL, self.kill)

    async def report(self, caller: Caller, params: SessionReport) -> Nothing:
        """Take what runs on a node. Raises Unavailable."""
        await self._parts.sessions.report(caller.name, params)
        return Nothing()

    async def orders(self, caller: Caller, params: Nothing, emit: EmitPiece) -> Nothing:
        """Send a node the sessions that it has to end, until it gives up."""
        async with aclosing(self._parts.sessions.orders(caller.name)) as orders:
            async for sids in orders:
                await emit(SessionOrder(sids=sids))
        return Nothing()

    async def list(self, caller: Caller, params: SessionQuery) -> SessionList:
        """List what runs; to a proxy what the user may list for whom it asks, or the one session that this one knows.

        Raises AccessDenied, Unavailable.
        """
        shows = await self._reader(caller, params) if caller.kind is CallerKind.PROXY else _all
        members = await self._parts.presence.list(CallerKind.NODE)
        names = {str(entry.presence.id): entry.presence.name for entry in members}
        return SessionList(
            sessions=tuple(
                SessionEntry(session=session, node=node, hostname=names.get(node, ""))
                for node, session in await self._parts.sessions.all()
                if params.sid in (None, session.sid) and shows(session)
            )
        )

    async def _reader(self, caller: Caller, params: SessionQuery) -> Callable[[RunningSession], bool]:
        """Return what tells which sessions a user may be told of."""
        sid = str(params.sid) if params.sid is not None else None
        user = await signed_by(self._parts, caller, params.signed, SESSIONS_PATH, sid=sid)
        roles = await self._parts.declared.roles()
        # Who knows the id got it from somebody who is in the session: it cannot be guessed.
        allowed = may_list if params.sid is None else may_ask
        return lambda session: allowed(user, roles, session.user)

    async def kill(self, caller: Caller, params: SessionKill) -> Nothing:
        """Have a session ended. Raises NotFound, Unavailable."""
        await self._parts.sessions.kill(params.sid, str(caller))
        return Nothing()


def _all(_: RunningSession) -> bool:
    return True
