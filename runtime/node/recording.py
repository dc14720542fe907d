"""What a node does about recording its sessions, and about a disk that does not take a recording."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from runtime.audit.events import EventType
from runtime.audit.recording import Field
from runtime.core.errors import Unavailable
from runtime.node.spool import Recorder, Spool
from runtime.service.sections.ssh import Recording

logger = logging.getLogger(__name__)


class Recordings:
    """Starts the recordings of a node."""

    def __init__(self, spool: Spool, policy: Recording, *, now: Callable[[], float] = time.monotonic) -> None:
        self._spool = spool
        self._policy = policy
        self._now = now

    def begin(self, sid: str, event: EventType, fields: Mapping[str, Field]) -> SessionRecording:
        """Start to record a session. Raises Unavailable where it may not go on without."""
        if self._policy is Recording.OFF:
            return SessionRecording(None, strict=False)
        strict = self._policy is Recording.STRICT
        recorder = None
        try:
            recorder = self._spool.begin(sid, self._now)
            recorder.event(event, fields)
        except Unavailable as error:
            if recorder is not None:
                recorder.discard()
            if strict:
                raise
            logger.error("session %s is not recorded: %s", sid, error)  # noqa: TRY400 - no bug of ours
            recorder = None
        return SessionRecording(recorder, strict=strict)


class SessionRecording:
    """The recording of one session, if it has one."""

    def __init__(self, recorder: Recorder | None, *, strict: bool) -> None:
        self._recorder = recorder
        self._strict = strict
        self._stopped = recorder is None

    def output(self, data: bytes) -> None:
        """Record what is about to be shown. Raises Unavailable when it may not be shown without."""
        if self._recorder is not None and not self._stopped:
            try:
                self._recorder.output(data)
            except Unavailable as error:
                self._stop(error)

    def event(self, event: str, fields: Mapping[str, Field]) -> None:
        """Record something that happened. Raises Unavailable as `output` does."""
        if self._recorder is not None and not self._stopped:
            try:
                self._recorder.event(event, fields)
            except Unavailable as error:
                self._stop(error)

    def close(self, fields: Mapping[str, Field]) -> None:
        """End it with the session. Safe to call twice."""
        if self._recorder is not None:
            self._recorder.close(fields)

    def _stop(self, error: Unavailable) -> None:
        self._stopped = True
        logger.error("a session is recorded no further: %s", error.in_full)
        if self._recorder is not None:
            self._recorder.truncated(str(error))
        if self._strict:
            raise error
