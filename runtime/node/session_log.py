"""What is told of one session: to the audit log, and to its recording."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from runtime.audit.events import EventType
from runtime.audit.log import Audit, Field
from runtime.audit.recording import INPUT
from runtime.core.errors import TeleportError, Unavailable
from runtime.node import events, transfer
from runtime.node.journal import Ends, lost_end
from runtime.node.party import Guest
from runtime.node.recording import Recordings, SessionRecording
from runtime.node.spawner import Exit, Program
from runtime.pki.identity import UserIdentity
from runtime.transport.capture import Proved
from runtime.transport.sessions import TerminalSize

logger = logging.getLogger(__name__)

FAILED = 255
"""Exit code of a session that we could not start, or ended: ssh's own for its failures."""


class Sized(Protocol):
    """A terminal."""

    @property
    def size(self) -> TerminalSize:
        """How large it is."""
        ...


class SessionLog:
    """Tells of one session."""

    def __init__(
        self,
        sid: str,
        proved: Proved[UserIdentity],
        host_id: str,
        audit: Audit,
        *,
        unrecorded: Callable[[str], None],
    ) -> None:
        """Take whose session it is; `unrecorded` ends one that may not go on because it cannot be recorded."""
        self._sid = sid
        self._proved = proved
        self._host_id = host_id
        self._audit = audit
        self._unrecorded = unrecorded
        self._recording = SessionRecording(None, strict=False)
        self.terminal: Sized | None = None
        """As it was asked for, then as it is; None without one."""

    @property
    def who(self) -> str:
        """Whose session it is, for the process's own log."""
        return f"{self._proved.identity.user} as {self._proved.login} from {self._proved.peer.host}"

    # --- its life --------------------------------------------------------------------------------------------------

    def rejected(self, error: TeleportError) -> None:
        """Tell that there will be no session."""
        logger.warning("session %s of %s: %s", self._sid, self.who, error)
        self._emit(EventType.SESSION_REJECTED, error=events.text(str(error)))
        self._recording.close({"error": str(error)})

    def record(self, recordings: Recordings, program: Program) -> None:
        """Start the recording. Raises Unavailable where the session may not be without one."""
        now = datetime.now(UTC)
        fields: dict[str, Field] = {"time": f"{now:%Y-%m-%dT%H:%M:%SZ}", **self._whose(), **self._sized()}
        event = EventType.SESSION_START
        if program.kind != "shell":
            event, fields = EventType.EXEC, {**fields, "command": events.text(program.command)}
        self._recording = recordings.begin(self._sid, event, fields)

    def started(self) -> None:
        """Tell that somebody's terminal, or shell, is there."""
        self._emit(EventType.SESSION_START, **self._sized())

    def ends(self, program: Program, *, interactive: bool) -> Ends:
        """Return the events that tell of this session's end if the node does not live to see it."""
        ends: dict[EventType, dict[str, Field]] = {}
        if program.kind == "exec":
            ends[EventType.EXEC] = lost_end(EventType.EXEC, {**self._whose(), "command": events.text(program.command)})
        if interactive:
            ends[EventType.SESSION_END] = lost_end(EventType.SESSION_END, {**self._whose(), **self._sized()})
        return ends

    def ended(self, program: Program, exited: Exit, why: str, *, interactive: bool) -> None:
        """Tell how it ended; `why` we ended it ourselves."""
        code = exited.code if exited.code is not None else FAILED
        self._recording.close({"exitCode": code, "reason": why})
        if program.kind == "exec":
            error = why or (f"signal {exited.signal}" if exited.signal else "")
            self._emit(EventType.EXEC, command=events.text(program.command), exitCode=code, exitError=error)
        if interactive:
            self._emit(EventType.SESSION_END, **self._sized(), **({"reason": why} if why else {}))

    # --- what happens in it ----------------------------------------------------------------------------------------

    def printed(self, data: bytes) -> bool:
        """Record what is about to be shown; return whether it may be. If not, the session has been ended."""
        try:
            self._recording.output(data)
        except Unavailable as error:
            self._stop(error)
            return False
        return True

    def resized(self, size: TerminalSize) -> None:
        """Tell of the terminal's size."""
        self._both(EventType.RESIZE, {"size": events.size(size)})

    def copied(self, record: transfer.FileTransfer) -> None:
        """Tell of a file that was copied."""
        self._emit(EventType.SCP, **events.transfer(record))

    def joined(self, guest: Guest) -> None:
        """Tell that somebody has joined: `user` is who, `owner` whose session it is."""
        self._both(EventType.SESSION_JOIN, self._of(guest))

    def left(self, guest: Guest, reason: str) -> None:
        """Tell that somebody has left who had joined, and how many bytes of what was typed were theirs."""
        why: dict[str, Field] = {"reason": events.text(reason)} if reason else {}
        self._both(EventType.SESSION_LEAVE, {**self._of(guest), "typed": guest.typed, **why})

    def keys(self, user: str, count: int) -> None:
        """Record who typed how many bytes, and not which: passwords are among them."""
        self._record_event(INPUT, {"user": user, "bytes": count})

    # --- inside ----------------------------------------------------------------------------------------------------

    def _whose(self) -> dict[str, Field]:
        return {"sid": self._sid, **events.who(self._host_id, self._proved)}

    def _of(self, guest: Guest) -> dict[str, Field]:
        whose: dict[str, Field] = {"owner": self._proved.identity.user, "login": self._proved.login}
        return {"user": guest.user, **whose, "mode": guest.mode.value, "addr.remote": guest.address}

    def _sized(self) -> dict[str, Field]:
        return {"size": events.size(self.terminal.size)} if self.terminal is not None else {}

    def _emit(self, event: EventType, **fields: Field) -> None:
        self._audit.emit(event, **{**self._whose(), **fields})

    def _both(self, event: EventType, fields: Mapping[str, Field]) -> None:
        self._emit(event, **fields)
        self._record_event(event, fields)

    def _record_event(self, event: str, fields: Mapping[str, Field]) -> None:
        try:
            self._recording.event(event, fields)
        except Unavailable as error:
            self._stop(error)

    def _stop(self, error: Unavailable) -> None:
        self._unrecorded(f"this session may not go on unrecorded: {error}")
