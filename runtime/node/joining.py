"""Somebody's channel into a session that another one has opened (`runtime.core.joining`).

Who may, and as what, current roles decide, when the channel comes and again every few seconds. Somebody who reads too
slowly holds up nobody, and is let go.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

from runtime.audit.events import EventType
from runtime.audit.log import Field
from runtime.audit.replay import Harmless
from runtime.core.errors import AccessDenied, InvalidInput, TeleportError
from runtime.core.joining import Mode
from runtime.node import events
from runtime.node.party import Party
from runtime.node.session_log import FAILED
from runtime.node.sessions import Node
from runtime.pki.identity import UserIdentity
from runtime.transport.capture import Proved
from runtime.transport.sessions import SessionChannel, SessionHandler, SessionRequest, TerminalSize

logger = logging.getLogger(__name__)

BEHIND_BYTES = 1024 * 1024
"""So much may wait for one who does not read; then it is let go."""
CHECK_SECONDS = 5.0
"""How often it is asked again whether somebody may still be there."""
LEAVING = frozenset({b"\x03", b"\x04"})
"""Keys with which an observer, who types nothing into the session, leaves: Ctrl-C and Ctrl-D."""


class Joining(SessionHandler):
    """One channel that joins a session (`runtime.node.party.Guest`)."""

    def __init__(
        self,
        node: Node,
        proved: Proved[UserIdentity],
        channel: SessionChannel,
        *,
        sid: str,
        mode: str,
        left: Callable[[], None],
    ) -> None:
        """Take who comes, and the session and mode as the client named them; `left` is called when it has gone."""
        self.user = proved.identity.user
        self.address = f"{proved.peer.host}:{proved.peer.port}"
        self.mode = Mode.OBSERVER
        self.size: TerminalSize | None = None
        self.typed = 0
        self._node = node
        self._proved = proved
        self._channel = channel
        self._wanted = sid, mode
        self._left = left
        self._party: Party | None = None
        """None before it has joined, and after it has left."""
        self._harmless = Harmless()
        self._writable = True
        self._behind = 0
        self._loop = asyncio.get_running_loop()
        self._check: asyncio.TimerHandle | None = None
        self._gone = False
        self._warned = False

    # --- what the client asks for ------------------------------------------------------------------------------

    def requested(self, request: SessionRequest) -> bool:
        """Join; what then fails is told on stderr."""
        self.size = request.terminal.size if request.terminal is not None else None
        self._loop.call_soon(self._join, request)  # not before the client has heard that it may
        return True

    def received(self, data: bytes) -> None:
        """Pass on what a peer types."""
        if self._party is None:
            return
        if self.mode is Mode.PEER:
            self._party.typed_by(self, data)
        elif data in LEAVING:
            self._end("you have left the session", 0)
        elif not self._warned:
            self._warned = True
            self.tell("you watch this session: what you type goes nowhere; Ctrl-C leaves it")

    def resized(self, size: TerminalSize) -> None:
        """Tell the party, where the size counts."""
        if self._party is not None and self.mode is Mode.PEER and self.size is not None:
            self._party.resized(self, size)

    def writable(self, yes: bool) -> None:
        """Count from now on what waits."""
        self._writable = yes
        self._behind = 0

    def closed(self) -> None:
        """Leave."""
        self._gone = True
        self._leave("")
        self._left()

    # --- what the party tells -------------------------------------------------------------------------------------

    def show(self, data: bytes) -> None:
        """Send output, without what does more than draw: this terminal is another than the one it was made for."""
        if shown := self._harmless.feed(data):
            if not self._writable:
                self._behind += len(shown)
                if self._behind > BEHIND_BYTES:
                    self._end("you read slower than the session prints; join again for what it prints then", FAILED)
                    return
            self._channel.write(shown)

    def tell(self, text: str) -> None:
        """Say something beside the output; at a terminal in its place among that."""
        line = f"teleport: {text}\r\n".encode(errors="backslashreplace")
        (self._channel.write_error if self.size is None else self._channel.write)(line)

    def hold(self, yes: bool) -> None:
        """Keep input away, or let it come again."""
        (self._channel.pause_reading if yes else self._channel.resume_reading)()

    def dismiss(self, why: str) -> None:
        """Have it over: the session is."""
        self._party = None
        self._finish(why, 0)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _join(self, request: SessionRequest) -> None:
        if self._gone:
            return
        try:
            sid, wanted = _session_id(self._wanted[0]), _mode(self._wanted[1])
            if request.kind != "shell":
                raise InvalidInput("a session is joined without a command, and without a subsystem")
            party = self._node.running.party(sid)
            self.mode = self._node.access.part_in(self._proved.identity, party.owned, wanted)
            self._party = party
            party.join(self)
        except TeleportError as error:
            self._party = None
            self._fail(error)
            return
        if self._party is not None:  # the session may have ended over it
            self._watch(party)

    def _watch(self, party: Party) -> None:
        """Ask again, now and then, whether this person may be here."""
        self._check = self._loop.call_later(CHECK_SECONDS, self._still_may, party)

    def _still_may(self, party: Party) -> None:
        try:
            self._node.access.still_in(self._proved.identity, party.owned, self.mode)
        except AccessDenied as error:
            self._end(str(error), FAILED)
        else:
            self._watch(party)

    def _end(self, why: str, code: int) -> None:
        self._leave(why if code else "")
        self._finish(why, code)

    def _leave(self, reason: str) -> None:
        party, self._party = self._party, None
        if party is not None:
            party.leave(self, reason)
        if self._check is not None:
            self._check.cancel()

    def _finish(self, why: str, code: int) -> None:
        if self._check is not None:
            self._check.cancel()
        self.tell(why)
        self._channel.exit(code)

    def _fail(self, error: TeleportError) -> None:
        sid = self._wanted[0]
        logger.warning("user %s does not join session %.64r: %s", self.user, sid, error)
        fields: dict[str, Field] = events.who(self._node.host_id, self._proved)
        self._node.audit.emit(EventType.SESSION_REJECTED, **fields, sid=sid, error=events.text(str(error)))
        self.tell(error.in_full)
        self._channel.exit(FAILED)


def _session_id(text: str) -> str:
    """Return a session's id in its one form. Raises InvalidInput."""
    if not text:
        raise InvalidInput("there is nothing here but sessions to join", hint="Join one with tsh join SID.")
    try:
        sid = str(uuid.UUID(text))
    except ValueError:
        sid = ""
    if sid != text:
        raise InvalidInput(f"{text!a} is no session's id", hint="What runs shows: tsh sessions ls")
    return sid


def _mode(text: str) -> Mode | None:
    """Return how somebody wants to join; None for as much as may be. Raises InvalidInput."""
    try:
        return Mode(text) if text else None
    except ValueError:
        raise InvalidInput(f"{text!a} is no way to join a session", hint="There are peer and observer.") from None
