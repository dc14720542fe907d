"""Which sessions run, on the node's disk: what a killed process leaves there was lost with it.

    FOLDER/SID    the events that are to end the session in the log, should nothing else do it

A file is with the operating system before anything is shown of its session, and goes when the session's end is with the
audit log. So the next start of the node tells of the end of each session that anybody has seen.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from runtime.audit.events import EventType
from runtime.audit.log import Field

logger = logging.getLogger(__name__)

REASON = "its node was killed, or the machine stopped"

Ends = Mapping[EventType, Mapping[str, Field]]
"""The events with which a session ends, and their fields."""


class Journal:
    """The folder of running sessions; one process at a time."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, made (0700) if it is missing. Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder

    def begin(self, sid: str, ends: Ends) -> None:
        """Remember how to end a session. A disk that does not take it is the log's to tell: it does not end it."""
        path = self._folder / sid
        try:
            path.touch(mode=0o600)
            path.write_text(json.dumps(ends))
        except OSError as error:
            logger.error(  # noqa: TRY400 - no bug of ours
                "session %s: that it ends will not be known if the node is killed: %s", sid, error.strerror or error
            )

    def end(self, sid: str) -> None:
        """Forget a session whose end is logged. Safe for one that is not there."""
        (self._folder / sid).unlink(missing_ok=True)

    def tell(self, emit: Callable[..., None], *, told: Iterable[tuple[EventType, str]]) -> None:
        """Log the ends of what an earlier process left, but for those that it had told: type of event, and session."""
        known = frozenset(told)
        for path in sorted(self._folder.iterdir()):
            for event, fields in _read(path).items():
                if (event, path.name) not in known:
                    logger.warning("session %s is lost: %s", path.name, REASON)
                    emit(event, **fields)
            path.unlink()


def lost_end(event: EventType, fields: Mapping[str, Field]) -> dict[str, Field]:
    """Return what a lost session's end says, besides whose it was."""
    if event == EventType.EXEC:
        return {**fields, "exitCode": 255, "exitError": REASON, "lost": True}
    return {**fields, "reason": REASON, "lost": True}


def _read(path: Path) -> dict[EventType, dict[str, Field]]:
    try:
        ends = json.loads(path.read_text())
        return {EventType(event): fields for event, fields in ends.items()}
    except (ValueError, AttributeError):  # the machine stopped while it was written: auth ends what it was told of
        logger.warning("%s cannot be read: it was cut off", path)
        return {}
